//! Processes that stand still, by `ptrace(2)`: a tracer that ends, however it ends, lets go of what it stopped.
//!
//! A stop by signal or by the freezer would outlive us; and what a debugger already traces is refused, not taken over.
//! While they stand still, signals for them wait, `SIGKILL` excepted.

use std::collections::BTreeMap;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Task;
use super::clock::Clock;
use super::who::pids;
use crate::actions::order::Who;

/// A group may start threads faster than they are stopped, but those that stand still start none: rounds end.
const MAX_ROUNDS: usize = 64;
/// As many as the node's pods source lists; each costs a few microseconds.
const MAX_THREADS: usize = 200_000;
/// On a machine that is not overloaded they stand within microseconds.
const STAND_NS: u64 = 1_000_000_000;

pub(super) struct Pause {
    who: Who,
    /// Threads that are ours, and whether they stand already.
    seized: BTreeMap<i32, bool>,
    /// Threads that could not be stopped, and why.
    refused: BTreeMap<i32, Errno>,
}

impl Pause {
    pub(super) fn begin(who: Who) -> Result<Self, String> {
        let mut pause = Self { who, seized: BTreeMap::new(), refused: BTreeMap::new() };
        let clock = Clock::start();
        pause.stop();
        // The kernel stops a thread when it next runs; one that waits for a disk stands anyway, and later also so.
        while pause.seized.values().any(|stands| !stands) && clock.elapsed_ns() < STAND_NS {
            pause.collect();
            std::thread::yield_now();
        }
        match pause.refused.first_key_value() {
            Some((tid, errno)) => Err(format!("thread {tid} cannot be stopped: {errno}")),
            None if pause.seized.is_empty() => Err("no process there that could be stopped".to_owned()),
            None => Ok(pause),
        }
    }

    /// Until a look finds none that runs.
    fn stop(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let before = self.seized.len();
            for pid in pids(&self.who) {
                for tid in threads(&self.who.proc, pid) {
                    if self.seized.len() < MAX_THREADS && !self.seized.contains_key(&tid) {
                        self.seize(tid);
                    }
                }
            }
            self.collect();
            if self.seized.len() <= before {
                return;
            }
        }
    }

    fn seize(&mut self, tid: i32) {
        let pid = Pid::from_raw(tid);
        match ptrace::seize(pid, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(pid)) {
            Ok(()) => {
                self.refused.remove(&tid);
                self.seized.insert(tid, false);
            }
            // It ended meanwhile.
            Err(Errno::ESRCH) => {}
            Err(errno) => {
                self.refused.insert(tid, errno);
            }
        }
    }

    /// Takes in what became of them: one that ended is none any more; one that stops, stays so.
    fn collect(&mut self) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        while let Ok(status) = waitpid(None, Some(flags)) {
            match status {
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.seized.remove(&pid.as_raw());
                }
                WaitStatus::PtraceEvent(pid, ..) | WaitStatus::Stopped(pid, _) => {
                    self.seized.insert(pid.as_raw(), true);
                }
                _ => return,
            }
        }
    }
}

impl Task for Pause {
    fn turn(&mut self, _: Clock, _: u64) -> Result<(), String> {
        // Who joined the group since.
        self.refused.clear();
        self.stop();
        Ok(())
    }

    fn amount(&mut self) -> u64 {
        self.seized.values().filter(|stands| **stands).count() as u64
    }

    fn details(&self) -> BTreeMap<String, u64> {
        let refused = self.refused.len() as u64;
        (refused > 0).then(|| ("threads_refused".to_owned(), refused)).into_iter().collect()
    }
}

/// The threads of a process; none of one that is gone.
pub(in crate::actions) fn threads(proc: &Path, pid: u32) -> Vec<i32> {
    let tasks = std::fs::read_dir(proc.join(pid.to_string()).join("task"));
    let names = tasks.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}
