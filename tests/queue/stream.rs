//! A consumer's stream as the stock client reads it: line by line.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sextant_tests::role::Role;

pub(crate) struct Stream {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl Stream {
    pub(crate) fn open(role: &Role, query: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(role.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        write!(stream, "GET /consume?{query} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{last}\r\n")
            .unwrap();
        let mut lines = BufReader::new(stream).lines();
        let open = lines.by_ref().find(|line| line.as_ref().is_ok_and(|line| line == ": open"));
        assert!(open.is_some(), "no stream");
        Self { lines }
    }

    pub(crate) fn message(&mut self) -> Result<Value> {
        let data = self.lines.find_map(|line| line.ok()?.strip_prefix("data: ").map(str::to_owned));
        Ok(serde_json::from_str(&data.context("the stream ended")?)?)
    }

    pub(crate) fn payload(&mut self) -> String {
        self.message().unwrap()["payload"].as_str().unwrap().to_owned()
    }
}
