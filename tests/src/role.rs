//! The real binary as a child process: started on a free port, asked over HTTP, stopped or killed.

#![expect(clippy::disallowed_methods, reason = "starts processes and waits in real time")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running `sextant node` or `sextant receiver`; killed when dropped.
pub struct Role {
    child: Child,
    /// Where it listens: `http://127.0.0.1:41234`.
    pub url: String,
    log: PathBuf,
}

impl Role {
    /// Starts a role on a free port, its data and log in `dir`, and waits until it says where it listens.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start(role: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        Self::start_on(role, "127.0.0.1:0", dir, args)
    }

    /// The same on a given address: for a role that comes back where it was.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start_on(role: &str, listen: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        Self::start_by(Command::new(sextant()), role, listen, dir, args)
    }

    /// A role on a free port with these variables in its environment.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start_with(variables: &[(&str, &str)], role: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        let mut command = Command::new(sextant());
        command.envs(variables.iter().copied());
        Self::start_by(command, role, "127.0.0.1:0", dir, args)
    }

    /// A role on a free port without these capabilities (`setpriv`'s list: `-all`, `-bpf,-perfmon`).
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start_without(capabilities: &str, role: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", capabilities, "--inh-caps", capabilities]).arg(sextant());
        Self::start_by(command, role, "127.0.0.1:0", dir, args)
    }

    /// A role on a free port in a container of sorts: a group of its own, a view of cgroups that begins there, and this
    /// network namespace.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start_contained(
        group: &Path,
        netns: &Path,
        role: &str,
        dir: &Path,
        args: &[&str],
    ) -> Result<Self> {
        // Each becomes the next, so that the child is the role itself.
        const INSIDE: &str = "echo 0 > \"$0\"/cgroup.procs && net=--net=$1 && shift && exec nsenter \"$net\" unshare --cgroup \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", INSIDE]).args([group, netns]).arg(sextant());
        Self::start_by(command, role, "127.0.0.1:0", dir, args)
    }

    /// A role on a free port as this user (`UID:GID`), in a root where the image has it; its log is in `dir`.
    ///
    /// # Errors
    /// When it ends instead, with its log.
    pub fn start_in_root(root: &Path, user: &str, role: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        let mut command = Command::new("chroot");
        command.args(["--userspec", user]).arg(root).arg("/usr/bin/sextant");
        let data = Path::new("/var/lib/sextant").join(role);
        Self::start_with_data(command, role, "127.0.0.1:0", dir, &data, args)
    }

    fn start_by(command: Command, role: &str, listen: &str, dir: &Path, args: &[&str]) -> Result<Self> {
        Self::start_with_data(command, role, listen, dir, &dir.join("data"), args)
    }

    fn start_with_data(
        mut command: Command,
        role: &str,
        listen: &str,
        dir: &Path,
        data: &Path,
        args: &[&str],
    ) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let log = dir.join(format!("{role}.log"));
        let log_file = std::fs::File::options().create(true).append(true).open(&log)?;
        let mut child = command
            .args([role, "--listen", listen, "--data-dir"])
            .arg(data)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .with_context(|| format!("cannot start {}", sextant().display()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let url = lines.find_map(|line| {
            line.strip_prefix("listening on ").filter(|url| url.starts_with("http")).map(str::to_owned)
        });
        let Some(url) = url else {
            bail!("sextant {role} did not start: {}\n{}", child.wait()?, std::fs::read_to_string(&log)?);
        };
        Ok(Self { child, url, log })
    }

    /// `HOST:PORT` of [`Self::url`].
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL: no last words, no sync.
    ///
    /// # Errors
    /// When the process cannot be killed or waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and its exit code.
    ///
    /// # Errors
    /// When it does not end within 30 s.
    pub fn stop(mut self) -> Result<Option<i32>> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > deadline {
                bail!("sextant did not stop on SIGTERM:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The binary under test: `SEXTANT_BIN`, else the one built beside this test.
///
/// # Panics
/// When there is none: `cargo build -p sextant` makes it.
pub fn sextant() -> PathBuf {
    if let Some(given) = std::env::var_os("SEXTANT_BIN") {
        return given.into();
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let built = test.ancestors().nth(2).expect("target/debug/deps/test").join("sextant");
    assert!(built.is_file(), "{} is missing: `cargo build -p sextant` first", built.display());
    built
}

/// Asks until the answer is wanted, or fails with the last one after `within`.
///
/// # Errors
/// When no wanted answer came in time.
pub fn eventually<T>(within: Duration, what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match ask() {
            Ok(wanted) => return Ok(wanted),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{what}: not within {within:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
