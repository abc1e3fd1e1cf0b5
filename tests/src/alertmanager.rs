//! A real Alertmanager that has a test's alerts: started, asked, killed when dropped.

#![expect(clippy::disallowed_methods, reason = "starts processes")]

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::role::eventually;
use crate::tool::tool;

/// It starts within a second, on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells nobody.
const CONFIG: &str = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n";

/// Debian's program reads its templates from `/usr/share` alone: one that is unpacked elsewhere sees its own there, in a
/// mount namespace that ends with it.
const AT_HOME: &str = "mount --bind \"$1/usr/share\" /usr/share && shift && exec \"$@\"";

/// See the module.
pub struct Alertmanager {
    child: Child,
    port: u16,
}

impl Alertmanager {
    /// Starts one with its data in `dir`, and waits until it answers.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (config, log) = (dir.join("alertmanager.yml"), dir.join("log"));
        std::fs::write(&config, CONFIG)?;
        // One that was free a moment ago: it cannot say which it took.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let program = tool("SEXTANT_ALERTMANAGER", "prometheus-alertmanager");
        let mut command = command(&program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // Alone.
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let this = Self { child, port };
        eventually(PATIENCE, "alertmanager answers", || this.alerts())
            .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
        Ok(this)
    }

    /// `http://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has that is not resolved.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/v2/alerts", self.url());
        let done =
            Command::new("curl").args(["-s", "--fail-with-body", "--max-time", "30", &url]).output()?;
        let text = String::from_utf8_lossy(&done.stdout);
        ensure!(done.status.success(), "{url}: {} {text}", done.status);
        Ok(serde_json::from_str(&text)?)
    }
}

fn command(program: &Path) -> Command {
    let home = program.ancestors().nth(2).filter(|home| home.join("usr/share/prometheus").is_dir());
    let Some(home) = home else { return Command::new(program) };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", AT_HOME, "sh"]).arg(home).arg(program);
    command
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
