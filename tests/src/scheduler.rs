//! Real sched_ext schedulers, for tests inside the virtual machine.
//!
//! One runs at a time, as the kernel allows no more. A scheduler is stopped with SIGINT: killed, it takes every task
//! of the machine down with it until the kernel's watchdog notices, seconds later.

#![expect(
    clippy::disallowed_methods,
    reason = "starts programs, sleeps and waits in real time: the kernel has no paused clock"
)]

mod kind;
mod load;
mod sysfs;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

pub use kind::Kind;
pub use load::Load;
pub use sysfs::{PATIENCE, enable_seq, state, sysfs, wait_for_state, wait_until};

use sysfs::STEP;

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

fn directory() -> Result<PathBuf> {
    let directory = std::env::var_os("SEXTANT_SCHEDULERS");
    directory.map(PathBuf::from).context("SEXTANT_SCHEDULERS is not set: run this by `cargo xtask vm test`")
}

/// Tries again what a starved machine spoils: emulated beside other work, a guest may stand still for longer than a
/// scheduler's watchdog waits, and the kernel ejects the scheduler in the midst of a test. Only an ejection that the
/// kernel's log shows excuses a failure.
///
/// # Errors
/// The test's own, or that the machine is too slow for any scheduler.
pub fn undisturbed(test: impl Fn() -> Result<()>) -> Result<()> {
    let ejections =
        || Ok::<_, anyhow::Error>(kernel_log()?.matches("disabled (runnable task stall)").count());
    for _ in 0..4 {
        let before = ejections()?;
        match test() {
            Err(_) if ejections()? > before => {}
            result => return result,
        }
    }
    bail!("ejected four times: the machine is too slow for any scheduler")
}

/// The kernel's log since boot.
///
/// # Errors
/// If `dmesg` cannot be started.
pub fn kernel_log() -> Result<String> {
    let done = Command::new("dmesg").output().context("cannot start dmesg")?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
