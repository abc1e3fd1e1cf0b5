//! NATS JetStream on one server that syncs always, as far as it is compared with. The protocol is lines: a client as
//! plain as those of the others.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{RECORD_BYTES, SCALE};

/// A server of our own; killed when dropped.
pub(super) struct JetStream {
    child: Child,
    port: u16,
}

impl JetStream {
    pub(super) fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = dir.join("nats.conf");
        let store = dir.join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n",
            store.display()
        );
        std::fs::write(&config, text)?;
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nats-server")?;
        let server = Self { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                server.make_stream()?;
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("nats-server does not listen")
    }

    fn make_stream(&self) -> Result<()> {
        let mut client = Client::connect(self.port)?;
        let config = "{\"name\":\"s\",\"subjects\":[\"s.*\"],\"storage\":\"file\",\"num_replicas\":1,\"allow_atomic\":true}";
        for _ in 0..100 {
            let asked = publication("$JS.API.STREAM.CREATE.s", Some(&client.inbox), None, config.as_bytes());
            client.send(&asked)?;
            if client.answer()?.contains("\"created\"") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("nats-server makes no stream")
    }

    /// Publishes `count` records, waits until each is acknowledged, and again; how many were.
    pub(super) fn pipelined(&self, producer: usize, count: usize) -> Result<usize> {
        self.load(count, count, |_, inbox| {
            publication(&subject(producer), Some(inbox), None, &payload()).repeat(count)
        })
    }

    /// The same in batches that are kept whole or not at all, with one acknowledgement.
    pub(super) fn atomic(&self, producer: usize, count: usize) -> Result<usize> {
        let (subject, payload) = (subject(producer), payload());
        self.load(count, 1, |round, inbox| {
            let mut all = Vec::new();
            for n in 1..=count {
                let mut headers =
                    format!("NATS/1.0\r\nNats-Batch-Id: {producer}.{round}\r\nNats-Batch-Sequence: {n}\r\n");
                let last = n == count;
                if last {
                    headers += "Nats-Batch-Commit: 1\r\n";
                }
                headers += "\r\n";
                all.extend(publication(&subject, last.then_some(inbox), Some(&headers), &payload));
            }
            all
        })
    }

    fn load(
        &self,
        records: usize,
        answers: usize,
        commands: impl Fn(usize, &str) -> Vec<u8>,
    ) -> Result<usize> {
        let mut client = Client::connect(self.port)?;
        let (began, mut total, mut round) = (Instant::now(), 0, 0);
        while began.elapsed() < SCALE.time {
            let commands = commands(round, &client.inbox);
            client.send(&commands)?;
            for _ in 0..answers {
                let answer = client.answer()?;
                ensure!(answer.contains("\"seq\":") && !answer.contains("\"error\""), "nats: {answer}");
            }
            total += records;
            round += 1;
        }
        Ok(total)
    }
}

impl Drop for JetStream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn subject(producer: usize) -> String {
    format!("s.{}", producer % 4)
}

fn payload() -> Vec<u8> {
    vec![b'x'; RECORD_BYTES]
}

/// `PUB` or `HPUB`, and where the acknowledgement goes.
fn publication(subject: &str, inbox: Option<&str>, headers: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let mut line = String::new();
    let reply = inbox.map(|inbox| format!(" {inbox}")).unwrap_or_default();
    let size = payload.len();
    // Writing to a string does not fail.
    let _ = match headers {
        None => write!(line, "PUB {subject}{reply} {size}\r\n"),
        Some(headers) => {
            write!(line, "HPUB {subject}{reply} {} {}\r\n{headers}", headers.len(), headers.len() + size)
        }
    };
    [line.as_bytes(), payload, b"\r\n"].concat()
}

struct Client {
    /// Where its answers come.
    inbox: String,
    writer: TcpStream,
    reader: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let mut writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(Duration::from_secs(30)))?;
        let reader = BufReader::with_capacity(64 << 10, writer.try_clone()?);
        let inbox = format!("answers.{}", writer.local_addr()?.port());
        writer.write_all(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n")?;
        writer.write_all(format!("SUB {inbox} 1\r\n").as_bytes())?;
        Ok(Self { inbox, writer, reader, line: String::new(), body: Vec::new() })
    }

    fn send(&mut self, commands: &[u8]) -> Result<()> {
        Ok(self.writer.write_all(commands)?)
    }

    /// The body of the next message.
    fn answer(&mut self) -> Result<&str> {
        loop {
            self.line.clear();
            ensure!(self.reader.read_line(&mut self.line)? > 0, "nats-server closed the connection");
            let mut words = self.line.split_whitespace();
            match words.next() {
                Some("PING") => self.writer.write_all(b"PONG\r\n")?,
                Some("MSG" | "HMSG") => break,
                Some("-ERR") => bail!("nats-server: {}", self.line),
                _ => {}
            }
        }
        let size: usize = self.line.split_whitespace().next_back().context("no size")?.parse()?;
        self.body.resize(size + 2, 0);
        self.reader.read_exact(&mut self.body)?;
        Ok(std::str::from_utf8(&self.body[..size])?)
    }
}
