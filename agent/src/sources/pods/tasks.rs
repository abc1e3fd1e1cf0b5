//! Processes by pid: name, parent, threads and identity from `/proc/PID/stat`, remembered between walks.
//!
//! Reading `stat` is the dear part of a walk, so a remembered process is read again only
//! - when its pid may have been given to another process since: the kernel hands pids out in a circle, and
//!   `/proc/loadavg` tells the last one, so only pids between the last two readings can be new;
//! - on the walk after its first, since a fork carries its parent's name until it execs;
//! - every `refresh_walks` walks, spread over the pids: later execs and thread counts show that late.
//!
//! Where the last pid cannot be read, every process is read on every walk.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::skipped::{Reason, Skipped};
use crate::domain::pod::Task;

pub(super) mod stat;

/// `stat` is about 300 bytes; names of kernel workers reach 64.
const BUFFER_BYTES: usize = 2048;

struct Known {
    task: Task,
    /// Number of the walk that saw it last.
    seen: u32,
    /// It may not have exec'd yet when it was read.
    young: bool,
}

/// All processes that the last walk saw.
pub(super) struct Tasks {
    proc: OwnedFd,
    known: HashMap<u32, Known>,
    refresh_walks: u32,
    number: u32,
    last_pid: Option<u32>,
    maybe_new: PidRange,
    path: String,
    buffer: Box<[u8]>,
    reads: u64,
}

impl Tasks {
    pub(super) fn open(proc: &Path, refresh_walks: u32) -> Result<Self, Errno> {
        let proc = open(proc, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            proc,
            known: HashMap::new(),
            refresh_walks: refresh_walks.max(1),
            number: 0,
            last_pid: None,
            maybe_new: PidRange::All,
            path: String::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            reads: 0,
        })
    }

    /// Starts a walk.
    pub(super) fn begin(&mut self) {
        self.number = self.number.wrapping_add(1);
        let last_pid = self.read_last_pid();
        self.maybe_new = PidRange::between(self.last_pid, last_pid);
        self.last_pid = last_pid;
    }

    /// The process; `None` when it is gone, was given out in this walk already (it moved between two groups
    /// meanwhile), or could not be read, which is counted.
    pub(super) fn get(&mut self, pid: u32, skipped: &mut Skipped) -> Option<&Task> {
        let turn = self.number.wrapping_add(pid).is_multiple_of(self.refresh_walks);
        let current = match self.known.get(&pid) {
            Some(known) if known.seen == self.number => return None,
            Some(known) => !known.young && !turn && !self.maybe_new.holds(pid),
            None => false,
        };
        if !current && !self.refresh(pid, skipped) {
            return None;
        }
        let known = self.known.get_mut(&pid)?;
        known.seen = self.number;
        Some(&known.task)
    }

    /// Ends a walk: forgets the processes that it did not see.
    pub(super) fn finish(&mut self) {
        let number = self.number;
        self.known.retain(|_, known| known.seen == number);
    }

    /// Forgets all processes: the next walk reads each.
    pub(super) fn forget(&mut self) {
        self.known = HashMap::new();
    }

    /// `stat` files read so far.
    pub(super) const fn reads(&self) -> u64 {
        self.reads
    }

    fn refresh(&mut self, pid: u32, skipped: &mut Skipped) -> bool {
        let task = match self.read(pid) {
            Ok(Some(task)) => task,
            Ok(None) => {
                skipped.count(Reason::Malformed);
                self.known.remove(&pid);
                return false;
            }
            Err(errno) => {
                skipped.error(errno);
                self.known.remove(&pid);
                return false;
            }
        };
        // The first walk meets settled processes, every later one processes that may not have exec'd yet.
        let again = self.known.get(&pid).is_some_and(|known| known.task.key == task.key);
        let seen = self.number.wrapping_sub(1);
        self.known.insert(pid, Known { task, seen, young: self.number > 1 && !again });
        true
    }

    fn read(&mut self, pid: u32) -> Result<Option<Task>, Errno> {
        self.reads += 1;
        self.path.clear();
        let _infallible = write!(self.path, "{pid}/stat");
        let length = read_file(self.proc.as_fd(), &self.path, &mut self.buffer)?;
        Ok(stat::parse(&self.buffer[..length]).filter(|task| task.key.pid == pid))
    }

    /// Fifth field of `/proc/loadavg`: the last pid given out in our pid namespace.
    fn read_last_pid(&mut self) -> Option<u32> {
        let length = read_file(self.proc.as_fd(), "loadavg", &mut self.buffer).ok()?;
        std::str::from_utf8(&self.buffer[..length]).ok()?.split_ascii_whitespace().nth(4)?.parse().ok()
    }
}

/// One read is enough: both files are made in one piece and are smaller than the buffer.
fn read_file(dir: impl AsFd, path: &str, buffer: &mut [u8]) -> Result<usize, Errno> {
    let file = openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::read(&file, buffer)
}

/// Pids that may have been given out between two readings of the last pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PidRange {
    All,
    /// Above the first, up to the second, past the end of the circle if the second is smaller.
    Circle(u32, u32),
}

impl PidRange {
    const fn between(before: Option<u32>, now: Option<u32>) -> Self {
        match (before, now) {
            (Some(before), Some(now)) => Self::Circle(before, now),
            _ => Self::All,
        }
    }

    const fn holds(self, pid: u32) -> bool {
        match self {
            Self::All => true,
            Self::Circle(before, now) if before <= now => before < pid && pid <= now,
            Self::Circle(before, now) => pid > before || pid <= now,
        }
    }
}

#[cfg(test)]
mod tests;
