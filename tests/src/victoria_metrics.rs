//! A real VictoriaMetrics: started, stopped, started again on its data, and told to show what it has; and a vmagent.

#![expect(clippy::disallowed_methods, reason = "starts processes")]

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::role::eventually;
use crate::tool::{find, tool};

/// On a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module; killed when dropped.
pub struct VictoriaMetrics {
    dir: PathBuf,
    address: String,
    child: Option<Child>,
}

impl VictoriaMetrics {
    /// Starts one with its data in `dir`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut this = Self { dir: dir.to_owned(), address: free()?, child: None };
        this.revive()?;
        Ok(this)
    }

    /// `http://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Process id; 0 while it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Starts it on its data.
    ///
    /// # Errors
    /// When it does not answer, with its log, or is nowhere.
    pub fn revive(&mut self) -> Result<()> {
        let mut command = Command::new(find("SEXTANT_VICTORIA_METRICS", "victoria-metrics")?);
        command
            .arg(format!("-storageDataPath={}", self.dir.join("data").display()))
            .arg(format!("-httpListenAddr={}", self.address));
        self.child = Some(started(command, &self.dir, &self.address)?);
        Ok(())
    }

    /// SIGTERM, so that it writes what it acknowledged: a kill takes the last seconds of that with it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it is stopped already")?;
        kill_process(Pid::from_child(&child), Signal::TERM)?;
        child.wait()?;
        Ok(())
    }

    /// Has it show every sample that it took; by itself it takes its time.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn flush(&self) -> Result<()> {
        let url = format!("{}/internal/force_flush", self.url());
        let done = Command::new("curl").args(["-s", "--fail", "--max-time", "30", &url]).status()?;
        ensure!(done.success(), "{url}: {done}");
        Ok(())
    }
}

impl Drop for VictoriaMetrics {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// VictoriaMetrics' agent, which scrapes itself every second and sends that; killed when dropped.
pub struct VmAgent(Option<Child>);

impl VmAgent {
    /// Starts one that sends to this URL.
    ///
    /// # Errors
    /// When it does not answer, with its log.
    pub fn start(dir: &Path, send_to: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let address = free()?;
        let config = dir.join("scrape.yml");
        let job = format!("{{job_name: vmagent, static_configs: [{{targets: ['{address}']}}]}}");
        std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n"))?;
        let mut command =
            Command::new(tool("SEXTANT_VICTORIA_METRICS", "victoria-metrics").with_file_name("vmagent"));
        command
            .arg(format!("-promscrape.config={}", config.display()))
            .arg(format!("-remoteWrite.url={send_to}"))
            .arg(format!("-remoteWrite.tmpDataPath={}", dir.join("queue").display()))
            .arg(format!("-httpListenAddr={address}"));
        Ok(Self(Some(started(command, dir, &address)?)))
    }
}

impl Drop for VmAgent {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// An address that was free a moment ago: they cannot say which they took.
fn free() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn started(mut command: Command, dir: &Path, address: &str) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    command.arg("-loggerLevel=WARN").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = Some(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
    let listens = eventually(PATIENCE, "it listens", || Ok(TcpStream::connect(address).map(drop)?));
    if let Err(error) = listens {
        end(&mut child);
        return Err(error.context(std::fs::read_to_string(dir.join("log")).unwrap_or_default()));
    }
    child.context("it was started")
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
