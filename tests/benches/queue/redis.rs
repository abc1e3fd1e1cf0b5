//! Redis Streams, as far as they are compared with.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{RECORD_BYTES, SCALE};

/// A Redis server of our own; killed when dropped.
pub(super) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(super) fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(dir)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start redis-server")?;
        let redis = Self { child, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(redis);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("redis-server does not listen")
    }

    /// The same commands again and again; how many were answered.
    pub(super) fn load(&self, commands: &[u8], count: usize) -> Result<usize> {
        let mut writer = TcpStream::connect(("127.0.0.1", self.port))?;
        writer.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(64 << 10, writer.try_clone()?);
        let (began, mut total, mut line) = (Instant::now(), 0, String::new());
        while began.elapsed() < SCALE.time {
            writer.write_all(commands)?;
            for _ in 0..count {
                // `$15`, then the id.
                line.clear();
                reader.read_line(&mut line)?;
                ensure!(line.starts_with('$'), "redis: {line}");
                line.clear();
                reader.read_line(&mut line)?;
            }
            total += count;
        }
        Ok(total)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `XADD s * p PAYLOAD`
pub(super) fn xadd() -> Vec<u8> {
    let payload = "x".repeat(RECORD_BYTES);
    format!("*5\r\n$4\r\nXADD\r\n$1\r\ns\r\n$1\r\n*\r\n$1\r\np\r\n${RECORD_BYTES}\r\n{payload}\r\n")
        .into_bytes()
}
