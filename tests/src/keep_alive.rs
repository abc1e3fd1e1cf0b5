//! A client of benchmarks: it shares the machine with the server, so it is as plain as it can be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Result, ensure};

/// A request with a body, as its bytes; `headers` end with a line break each.
#[must_use]
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A keep-alive connection.
pub struct Connection {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Connection {
    /// To `HOST:PORT`.
    ///
    /// # Errors
    /// When nobody is there.
    pub fn open(address: &str) -> Result<Self> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, writer.try_clone()?), writer, body: Vec::new() })
    }

    /// The body of an answer that is a success and says its length.
    ///
    /// # Errors
    /// With the answer's status and words where it is none.
    pub fn ask(&mut self, request: &[u8]) -> Result<&str> {
        self.writer.write_all(request)?;
        let (mut line, mut status, mut length) = (String::new(), String::new(), 0);
        loop {
            line.clear();
            ensure!(self.reader.read_line(&mut line)? > 0, "the server closed the connection");
            if status.is_empty() {
                line.clone_into(&mut status);
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        self.body.resize(length, 0);
        self.reader.read_exact(&mut self.body)?;
        let body = std::str::from_utf8(&self.body)?;
        ensure!(status.contains(" 200 "), "{}: {body}", status.trim());
        Ok(body)
    }
}
