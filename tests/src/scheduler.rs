//! Real sched_ext schedulers, for tests inside the virtual machine.
//!
//! One runs at a time, as the kernel allows no more. A scheduler is stopped with SIGINT: killed, it takes every task
//! of the machine down with it until the kernel's watchdog notices, seconds later.

#![expect(
    clippy::disallowed_methods,
    reason = "starts programs, sleeps and waits in real time: the kernel has no paused clock"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Emulated machines on a busy host are many times slower; a limit only has to end what would never end.
pub const PATIENCE: Duration = Duration::from_secs(120);

const STEP: Duration = Duration::from_millis(100);
const SYSFS: &str = "/sys/kernel/sched_ext";

/// The schedulers that `cargo xtask vm` brings into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// scx_rustland 1.1.4: decides in user space; 16 variables.
    Rustland1_1_4,
    /// scx_rustland 1.0.10: the same with the older 12 variables.
    Rustland1_0_10,
    /// scx_rlfifo 1.1.4: the smallest user-space scheduler, no statistics socket.
    Rlfifo,
    /// scx_bpfland 1.1.4: decides in BPF alone.
    Bpfland,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rustland1_1_4, Self::Rustland1_0_10, Self::Rlfifo, Self::Bpfland];

    /// The program's file name in the guest.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Rustland1_1_4 => "scx_rustland-1.1.4",
            Self::Rustland1_0_10 => "scx_rustland-1.0.10",
            Self::Rlfifo => "scx_rlfifo-1.1.4",
            Self::Bpfland => "scx_bpfland-1.1.4",
        }
    }

    /// What `root/ops` begins with; newer ones add version and target.
    #[must_use]
    pub fn base_name(self) -> &'static str {
        match self {
            Self::Rustland1_1_4 | Self::Rustland1_0_10 => "rustland",
            Self::Rlfifo => "rlfifo",
            Self::Bpfland => "bpfland",
        }
    }

    /// A variable of `.bss` that grows while this scheduler has work.
    #[must_use]
    pub fn busy_counter(self) -> &'static str {
        match self {
            Self::Bpfland => "nr_direct_dispatches",
            _ => "nr_user_dispatches",
        }
    }
}

/// A running scheduler; stopped when dropped.
#[derive(Debug)]
pub struct Scheduler {
    kind: Kind,
    child: Child,
    log: PathBuf,
}

impl Scheduler {
    /// Starts a scheduler and waits until the kernel says it is enabled.
    ///
    /// # Errors
    /// If another one is enabled, it cannot be started, ends early, or is not enabled in time; with its output.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[])
    }

    /// As [`Scheduler::start`], with arguments for the scheduler's program.
    ///
    /// # Errors
    /// As [`Scheduler::start`].
    pub fn start_with(kind: Kind, arguments: &[&str]) -> Result<Self> {
        ensure!(state()? == "disabled", "a scheduler is {} already", state()?);
        let before = enable_seq()?;
        let program = directory()?.join(kind.file_name());
        let log = std::env::temp_dir().join(format!("{}.log", kind.file_name()));
        let output = File::create(&log)?;
        let child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut scheduler = Self { kind, child, log };
        let begin = Instant::now();
        // The kernel says `enabled` a moment before it counts; whoever reads in between sees the last one's number.
        while state()? != "enabled" || enable_seq()? == before {
            if let Some(status) = scheduler.child.try_wait()? {
                bail!("{kind:?} ended with {status} before it was enabled:\n{}", scheduler.log());
            }
            ensure!(begin.elapsed() < PATIENCE, "{kind:?} is not enabled in time:\n{}", scheduler.log());
            thread::sleep(STEP);
        }
        Ok(scheduler)
    }

    /// Which one it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal, for tests of unusual ends.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the scheduler is gone")
    }

    /// Waits until it has ended by itself, after [`Scheduler::signal`] or an ejection.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(begin.elapsed() < PATIENCE, "{:?} does not end:\n{}", self.kind, self.log());
            thread::sleep(STEP);
        }
    }

    /// Stops it with SIGINT and waits until the kernel is back to its own scheduler.
    ///
    /// # Errors
    /// If it does not end, or the kernel keeps it.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::INT)?;
        }
        let status = self.wait()?;
        wait_for_state("disabled")?;
        Ok(status)
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        if self.end().is_err() {
            // Better a machine that stands still for some seconds than a scheduler in the next test.
            let _gone_already = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Four busy tasks and four pairs that wake each other, so that every scheduler has decisions to make; stopped when
/// dropped.
#[derive(Debug)]
pub struct Load {
    child: Child,
}

impl Load {
    /// Starts the load.
    ///
    /// # Errors
    /// If `stress-ng` cannot be started.
    pub fn start() -> Result<Self> {
        let child = Command::new("stress-ng")
            .args(["--quiet", "--cpu", "4", "--switch", "4"])
            .stdin(Stdio::null())
            // It warns that so short a run measures nothing; nobody measures here.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start stress-ng: it is in the guest's root file system")?;
        Ok(Self { child })
    }

    /// The parent of the load's tasks.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // stress-ng stops its tasks on SIGINT; killed, it would leave them behind.
        let _gone_already = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _reaped = self.child.wait();
    }
}

/// `/sys/kernel/sched_ext/state`: disabled, enabling, enabled or disabling.
///
/// # Errors
/// If the kernel has no sched_ext.
pub fn state() -> Result<String> {
    sysfs("state")
}

/// How many schedulers were enabled since boot.
///
/// # Errors
/// If the kernel has no sched_ext.
pub fn enable_seq() -> Result<u64> {
    sysfs("enable_seq")?.parse().context("enable_seq is no number")
}

/// A file below `/sys/kernel/sched_ext`, without the line's end.
///
/// # Errors
/// If it is not there.
pub fn sysfs(name: &str) -> Result<String> {
    let path = Path::new(SYSFS).join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Waits, in steps of 0.1 s, until the kernel is in this state.
///
/// # Errors
/// If that takes too long.
pub fn wait_for_state(wanted: &str) -> Result<()> {
    wait_until(&format!("sched_ext is {wanted}"), || Ok(state()? == wanted))
}

/// Waits, in steps of 0.1 s, until `done` says so; `what` names it in the error.
///
/// # Errors
/// If that takes longer than [`PATIENCE`], or `done` fails.
pub fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !done()? {
        ensure!(begin.elapsed() < PATIENCE, "waited {} s in vain until {what}", PATIENCE.as_secs());
        thread::sleep(STEP);
    }
    Ok(())
}

fn directory() -> Result<PathBuf> {
    let directory = std::env::var_os("SEXTANT_SCHEDULERS");
    directory.map(PathBuf::from).context("SEXTANT_SCHEDULERS is not set: run this by `cargo xtask vm test`")
}
