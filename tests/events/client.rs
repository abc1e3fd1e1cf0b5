//! A client that posts events until they are taken.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sextant_tests::fault_proxy::{head_length, read_message};

/// For a server that is killed and started again, and one that stands still for a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, made anew when it breaks.
pub(crate) struct Client {
    address: String,
    stream: Option<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None }
    }

    /// Status and body of one try.
    fn try_post(&mut self, path: &str, body: &str, key: &str) -> Result<(u16, String)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(&self.address)?,
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_nodelay(true)?;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {key}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let answer = read_message(&mut stream)?.context("no answer")?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).context("no status")?.parse()?;
        let body = text.get(head_length(&answer).unwrap_or(0)..).unwrap_or_default().to_owned();
        self.stream = Some(stream);
        Ok((status, body))
    }

    /// Posts until the server says yes or that it never will; the status.
    pub(crate) fn post(&mut self, path: &str, body: &str, key: &str) -> u16 {
        let since = Instant::now();
        loop {
            match self.try_post(path, body, key) {
                Ok((status @ (200 | 400), _)) => return status,
                Ok((status, text)) if since.elapsed() > PATIENCE => panic!("{status} {text}"),
                Err(error) if since.elapsed() > PATIENCE => panic!("{error:#}"),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
