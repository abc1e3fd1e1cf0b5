//! One role of the binary as a child process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// The roles' own grace period is shorter.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// The line by which a role says where it listens.
const READY: &str = "listening on ";

/// A running role.
pub(super) struct Role {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Where it listens: `http://127.0.0.1:8090`.
    pub(super) url: String,
}

impl Role {
    /// Starts the role and waits until it says where it listens.
    pub(super) fn start(
        sextant: &Path,
        name: &'static str,
        port: u16,
        data: &Path,
        more: &[&str],
    ) -> Result<Self> {
        let data_dir = data.join(name);
        std::fs::create_dir_all(&data_dir).with_context(|| data_dir.display().to_string())?;
        let log = data.join(format!("{name}.log"));
        let mut command = Command::new(sextant);
        command.arg(name).args(["--listen", &format!("127.0.0.1:{}", super::free_or_any(port))]);
        command.arg("--data-dir").arg(&data_dir).args(more);
        if name == "node" {
            command.arg("--unix-socket").arg(data.join("node.sock"));
        }
        // Its own process group: Ctrl-C reaches us alone, and we stop the roles in order.
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", sextant.display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let url = BufReader::new(stdout).lines().map_while(Result::ok).find_map(|line| {
            line.strip_prefix(READY).filter(|url| url.starts_with("http")).map(str::to_owned)
        });
        let Some(url) = url else {
            let status = child.wait()?;
            bail!("sextant {name} did not start ({status}):\n{}", tail(&log));
        };
        Ok(Self { name, child, log, url })
    }

    /// Its end, in words, if it ended by itself.
    pub(super) fn ended(&mut self) -> Result<Option<String>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| format!("sextant {} ended ({status}):\n{}", self.name, tail(&self.log))))
    }

    /// Asks it to stop and waits; what does not stop in time is killed, and that is an error.
    pub(super) fn stop(mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!(
                    "sextant {} did not stop within {STOP_WITHIN:?}; see {}",
                    self.name,
                    self.log.display()
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Only reached with a live child when starting the other role failed.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
