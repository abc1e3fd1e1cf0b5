//! Steps as child processes: this binary again, told what to do by its arguments, held by a pipe.
//!
//! The environment is empty, nothing goes through a shell, and the program is what this process itself was started from,
//! also when its file was replaced since. A worker counts as started when it says that it is in the target's groups.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Executor, Key, Report, Seen};
use crate::actions::journal::Begin;
use crate::actions::order::{Change, Order};
use crate::actions::plan::Step;
use crate::actions::worker::{Line, undo_changes};

/// The verb of a worker; part of what a leftover is known by.
pub const VERB: &str = "anomaly-worker";
/// A process of an overloaded machine begins within seconds; its group's quota may be tiny.
const BEGIN_MS: i64 = 5_000;
/// Time that passed while nobody was scheduled, this thread included, is no answer: it waits this much longer, awake.
const GRACE_MS: i64 = 5_000;
/// A killed process that does not end is in a frozen group or in the kernel's hands: looked at again later.
const END_MS: i64 = 2_000;
/// A guardian sees its pipe close within a period, and writes a few lines.
const UNDO_MS: i64 = 1_000;
/// What a worker writes in an hour; more in one look is no report.
const MAX_READ_BYTES: usize = 256 << 10;
/// A report is under 100 bytes, an error names a path.
const MAX_LINE_BYTES: usize = 8 << 10;

/// Children by anomaly and step.
#[derive(Default)]
pub struct Processes {
    workers: BTreeMap<(String, usize), Worker>,
    #[cfg(debug_assertions)]
    unguarded: bool,
}

#[cfg(debug_assertions)]
impl Processes {
    /// Starts workers that survive the node, if `unguarded`: what the guards are for.
    pub(in crate::actions) fn fixture(unguarded: bool) -> Self {
        Self { unguarded, ..Self::default() }
    }
}

struct Worker {
    child: Child,
    reports: ChildStdout,
    pending: Vec<u8>,
    report: Option<Report>,
    error: Option<String>,
    /// What it undoes when it is let go.
    changes: Vec<Change>,
}

impl Executor for Processes {
    fn execute(&mut self, key: Key<'_>, step: &Step) -> Result<(), String> {
        let order = step.order.clone();
        #[cfg(debug_assertions)]
        let order = Order { unguarded: self.unguarded, ..order };
        let mut child =
            worker(key, &order)?.spawn().map_err(|error| format!("a worker cannot be started: {error}"))?;
        let Some(reports) = child.stdout.take() else { return Err("a worker has no pipe".to_owned()) };
        let changes = step.changes().to_vec();
        let mut worker = Worker { child, reports, pending: Vec::new(), report: None, error: None, changes };
        match worker.begins() {
            Ok(()) => {
                self.workers.insert((key.id.to_owned(), key.step), worker);
                Ok(())
            }
            Err(error) => {
                // It is not in the map: what cannot be waited for now still ends by itself, its pipe is closed.
                let _ends_anyway = worker.end();
                Err(error)
            }
        }
    }

    fn look(&mut self, key: Key<'_>) -> Seen {
        let Some(worker) = self.workers.get_mut(&(key.id.to_owned(), key.step)) else {
            return Seen::default();
        };
        // Before the reports: the last one is written before the end.
        let ended = worker.child.try_wait().ok().flatten();
        worker.read();
        let ended = ended.map(|status| worker.error.take().unwrap_or_else(|| words(status)));
        Seen { report: worker.report.clone(), ended }
    }

    fn undo(&mut self, key: Key<'_>) -> Result<(), String> {
        let key = (key.id.to_owned(), key.step);
        let Some(worker) = self.workers.get_mut(&key) else { return Ok(()) };
        worker.end()?;
        self.workers.remove(&key);
        Ok(())
    }

    fn sweep(&mut self, leftovers: &[Begin]) -> Result<usize, String> {
        let ids: Vec<_> = leftovers.iter().map(|begin| &*begin.id).collect();
        let ended = end_workers(&ids)?;
        // After their guardians, which would undo the same.
        leftovers.iter().try_for_each(|begin| undo_changes(&begin.changes))?;
        Ok(ended)
    }
}

/// Ends every worker of these anomalies; how many there were.
fn end_workers(ids: &[&str]) -> Result<usize, String> {
    let ours = |pid: &str| {
        // Of our own namespace of processes, whatever the host's is: a worker lives where the node did.
        let arguments = std::fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        words.nth(1).is_some_and(|verb| verb == VERB) && words.any(|word| ids.contains(&&*word))
    };
    let entries = std::fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let mut ended = 0;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else {
            continue;
        };
        // The descriptor first: should the number get another owner, the arguments are looked at after it.
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if ours(&pid.as_raw_nonzero().to_string()) {
            // One that has just ended is no error.
            let _gone = pidfd_send_signal(&handle, Signal::KILL);
            if !readable(&handle, END_MS) {
                return Err(format!("process {} of an earlier life does not end", pid.as_raw_nonzero()));
            }
            ended += 1;
        }
    }
    Ok(ended)
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
fn worker(key: Key<'_>, order: &Order) -> Result<Command, String> {
    let order = serde_json::to_string(order).map_err(|error| format!("an order: {error}"))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sextant").arg(VERB).args(["--id", key.id, "--order", &order]).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Ok(command)
}

impl Worker {
    /// Waits for its first line.
    fn begins(&mut self) -> Result<(), String> {
        fcntl_setfl(&self.reports, OFlags::NONBLOCK).map_err(|errno| format!("a worker's pipe: {errno}"))?;
        if !readable(&self.reports, BEGIN_MS) && !readable(&self.reports, GRACE_MS) {
            return Err(format!("a worker did not begin within {BEGIN_MS} ms"));
        }
        // Written at once, so read at once.
        match self.read() {
            Some(Line::Joined { joined: true }) => Ok(()),
            Some(Line::Failed { error }) => Err(error),
            _ => Err("a worker ended before it began".to_owned()),
        }
    }

    /// Takes in what it wrote; the first line of that.
    fn read(&mut self) -> Option<Line> {
        let mut buffer = [0; 4_096];
        let mut total = 0;
        while total < MAX_READ_BYTES {
            match self.reports.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    total += count;
                    self.pending.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break, // nothing more for now
            }
        }
        let mut first = None;
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
            match line.clone() {
                Line::Report { elapsed_ns, amount, details } => {
                    self.report = Some(Report { elapsed_ns, amount, details });
                }
                Line::Failed { error } => self.error = Some(error),
                Line::Joined { .. } => {}
            }
            first.get_or_insert(line);
        }
        if self.pending.len() > MAX_LINE_BYTES {
            self.pending.clear();
        }
        first
    }

    /// Lets go of it, kills it and waits until it is gone. Its number is nobody else's before it was waited for.
    fn end(&mut self) -> Result<(), String> {
        drop(self.child.stdin.take());
        let fail = |error: std::io::Error| format!("a worker cannot be ended: {error}");
        let handle: OwnedFd = match pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()) {
            Ok(handle) => handle,
            // Waited for before.
            Err(_) => {
                self.child.try_wait().map_err(fail)?;
                return undo_changes(&self.changes);
            }
        };
        // A guardian undoes first; every other one has nothing to do but to end.
        if self.changes.is_empty() || !readable(&handle, UNDO_MS) {
            self.child.kill().map_err(fail)?;
        }
        if !readable(&handle, END_MS) {
            return Err(format!("process {} does not end: is its group frozen?", self.child.id()));
        }
        self.child.try_wait().map_err(fail)?;
        // Once more, and for a guardian that was killed: what is undone may be undone again.
        undo_changes(&self.changes)
    }
}

fn readable(fd: &impl AsFd, within_ms: i64) -> bool {
    let timeout = Timespec { tv_sec: within_ms / 1_000, tv_nsec: within_ms % 1_000 * 1_000_000 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

fn words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal() {
        Some(9) => "a worker was killed: by a person, or because memory ran out".to_owned(),
        Some(signal) => format!("a worker was ended by signal {signal}"),
        None => "a worker ended by itself".to_owned(),
    }
}
