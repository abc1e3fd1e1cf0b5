//! A real Prometheus that scrapes what a test serves, or takes and sends samples by remote write: started, killed, started
//! again on its data, reloaded, asked.

#![expect(clippy::disallowed_methods, reason = "starts processes")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::role::eventually;
use crate::tool::tool;

/// Opening a database after a kill takes a while on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2.42, Debian bookworm's.
    Two,
    /// 3.5, the newest that Debian has.
    Three,
}

/// How it scrapes.
#[derive(Clone, Debug)]
pub struct Scraping {
    /// `HOST:PORT` of the one target.
    pub target: String,
    /// More samples than this, and nothing of a scrape is kept; 0 is no limit.
    pub sample_limit: usize,
    /// Without, the samples get the scrape's time: what the guarantee needs is away.
    pub honor_timestamps: bool,
    /// How often, s; the timeout is a tenth of a second less.
    pub interval_s: u32,
    /// The name under which it scrapes: `?scraper=`.
    pub scraper: Option<String>,
}

impl Scraping {
    /// Every second, as it is meant to be.
    pub fn of(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            sample_limit: 0,
            honor_timestamps: true,
            interval_s: 1,
            scraper: None,
        }
    }

    fn config(&self) -> String {
        let Self { target, sample_limit, honor_timestamps, interval_s, scraper } = self;
        let timeout_ms = interval_s * 1_000 - 100;
        let mut text = format!(
            "global: {{scrape_interval: {interval_s}s, scrape_timeout: {timeout_ms}ms}}\nscrape_configs:\n\
             - job_name: events\n  honor_timestamps: {honor_timestamps}\n"
        );
        if *sample_limit > 0 {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  sample_limit: {sample_limit}");
        }
        if let Some(name) = scraper {
            let _ = writeln!(text, "  params: {{scraper: ['{name}']}}");
        }
        text + &format!("  static_configs:\n  - targets: ['{target}']\n")
    }
}

/// One that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// See the module; killed when dropped.
pub struct Prometheus {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    more: Vec<String>,
}

impl Prometheus {
    /// Starts one with its data in `dir`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start(version: Version, dir: &Path, scraping: &Scraping) -> Result<Self> {
        Self::start_with(version, dir, &scraping.config(), &[])
    }

    /// One at a port that others were told before.
    ///
    /// # Errors
    /// When it does not answer, with its log.
    pub fn start_at(version: Version, dir: &Path, scraping: &Scraping, port: u16) -> Result<Self> {
        Self::start_on(version, dir, (&scraping.config(), &[]), port)
    }

    /// One with this configuration and further arguments.
    ///
    /// # Errors
    /// When it does not answer, with its log.
    pub fn start_with(version: Version, dir: &Path, config: &str, more: &[&str]) -> Result<Self> {
        // It cannot say which it took.
        Self::start_on(version, dir, (config, more), free_port()?)
    }

    fn start_on(version: Version, dir: &Path, (config, more): (&str, &[&str]), port: u16) -> Result<Self> {
        let program = match version {
            Version::Two => tool("SEXTANT_PROMETHEUS", "prometheus"),
            Version::Three => tool("SEXTANT_PROMETHEUS_3", "prometheus"),
        };
        std::fs::create_dir_all(dir)?;
        let more = more.iter().map(|&argument| argument.to_owned()).collect();
        let mut this = Self { program, dir: dir.to_owned(), port, child: None, more };
        std::fs::write(this.config(), config)?;
        this.revive()?;
        Ok(this)
    }

    /// `http://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("prometheus.yml")
    }

    /// Starts it on its data.
    ///
    /// # Errors
    /// When it does not answer, with its log.
    pub fn revive(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--config.file={}", self.config().display()))
            .arg(format!("--storage.tsdb.path={}", self.dir.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .args(["--query.max-samples=50000000", "--log.level=warn"])
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        eventually(PATIENCE, "prometheus answers", || self.ask("-/ready", &[]))
            .with_context(|| std::fs::read_to_string(self.dir.join("log")).unwrap_or_default())?;
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it is killed already")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Scrapes in another way from now on.
    ///
    /// # Errors
    /// When it is not there.
    pub fn reload(&self, scraping: &Scraping) -> Result<()> {
        self.reload_with(&scraping.config())
    }

    /// Has this configuration from now on.
    ///
    /// # Errors
    /// When it is not there.
    pub fn reload_with(&self, config: &str) -> Result<()> {
        std::fs::write(self.config(), config)?;
        self.signal(Signal::HUP)
    }

    /// Stops its process, or lets it run on.
    ///
    /// # Errors
    /// When it is not there.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        self.signal(if frozen { Signal::STOP } else { Signal::CONT })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it is killed")?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }

    /// An instant query at a time some minutes ahead, so that samples whose clock runs ahead are seen: each series'
    /// labels, those of the target left out, and its value.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn query(&self, query: &str) -> Result<BTreeMap<BTreeMap<String, String>, f64>> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        let time = format!("time={}", now + 300);
        let text = self.ask("api/v1/query", &[&format!("query={query}"), &time])?;
        let answer: serde_json::Value = serde_json::from_str(&text)?;
        ensure!(answer["status"] == "success", "{answer}");
        let mut found = BTreeMap::new();
        for series in answer["data"]["result"].as_array().context("no result")? {
            let mut labels: BTreeMap<String, String> = serde_json::from_value(series["metric"].clone())?;
            for ours in ["job", "instance", "__name__"] {
                labels.remove(ours);
            }
            let value = series["value"][1].as_str().context("no value")?.parse()?;
            found.insert(labels, value);
        }
        Ok(found)
    }

    /// What it thinks of its target: 1 is well.
    ///
    /// # Errors
    /// When it does not answer, or does not know yet.
    pub fn up(&self) -> Result<f64> {
        let answer: serde_json::Value = serde_json::from_str(&self.ask("api/v1/query", &["query=up"])?)?;
        let value = answer["data"]["result"][0]["value"][1].as_str().context("not scraped yet")?;
        Ok(value.parse()?)
    }

    fn ask(&self, path: &str, data: &[&str]) -> Result<String> {
        let url = format!("{}/{path}", self.url());
        let mut curl = Command::new("curl");
        curl.args(["-s", "--fail-with-body", "--max-time", "30"]);
        for pair in data {
            curl.args(["--data-urlencode", pair]);
        }
        let done = curl.arg(&url).output()?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        ensure!(done.status.success(), "{url}: {} {text}", done.status);
        Ok(text)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
