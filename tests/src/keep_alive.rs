//! A client of benchmarks: it shares the machine with the server, so it is as plain as it can be.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

/// A request with a body, as its bytes; `headers` end with a line break each.
#[must_use]
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A question with these parameters.
#[must_use]
pub fn question(path: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut target = path.to_owned();
    for (at, (name, value)) in parameters.iter().enumerate() {
        target.push(if at == 0 { '?' } else { '&' });
        target.push_str(name);
        target.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() {
                target.push(byte.into());
            } else {
                // A string takes whatever is written.
                let _ = write!(target, "%{byte:02X}");
            }
        }
    }
    request("GET", &target, "", b"")
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

    /// The body of an answer that is a success: of the length that it says, or in chunks.
    ///
    /// # Errors
    /// With the answer's status and words where it is none.
    pub fn ask(&mut self, request: &[u8]) -> Result<&str> {
        self.writer.write_all(request)?;
        let status = self.line()?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
            if line.is_empty() {
                break;
            }
        }
        self.body.clear();
        if chunked {
            self.chunks()?;
        } else {
            self.read(length)?;
        }
        let body = std::str::from_utf8(&self.body)?;
        ensure!(status.split(' ').nth(1).is_some_and(|code| code.starts_with('2')), "{status}: {body}");
        Ok(body)
    }

    fn chunks(&mut self) -> Result<()> {
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
                .with_context(|| format!("a chunk of {size:?}"))?;
            self.read(size)?;
            ensure!(self.line()?.is_empty(), "a chunk is longer than it says");
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// So many bytes more.
    fn read(&mut self, length: usize) -> Result<()> {
        let have = self.body.len();
        self.body.resize(have + length, 0);
        Ok(self.reader.read_exact(&mut self.body[have..])?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.reader.read_line(&mut line)? > 0, "the server closed the connection");
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn answers_of_both_kinds_are_read_whole_and_a_refusal_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4_096];
            let chunked =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n1;x=y\r\nb\r\n0\r\n\r\n";
            for answer in [
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                chunked,
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nfull",
            ] {
                assert!(stream.read(&mut asked).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            String::from_utf8_lossy(&asked).into_owned()
        });
        let mut connection = Connection::open(&address).unwrap();
        let ask = question("/a", &[("m", "x{y=\"z\"}"), ("n", "1")]);
        assert_eq!(connection.ask(&ask).unwrap(), "ok");
        assert_eq!(connection.ask(&ask).unwrap(), "a\r\nb");
        assert_eq!(connection.ask(&ask).unwrap(), "");
        let refusal = connection.ask(&ask).unwrap_err().to_string();
        assert!(refusal.contains("429") && refusal.ends_with("full"), "{refusal}");
        assert!(server.join().unwrap().starts_with("GET /a?m=x%7By%3D%22z%22%7D&n=1 HTTP/1.1\r\n"));
    }
}
