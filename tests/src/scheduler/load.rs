//! Work for a scheduler.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

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
