//! The process of a scheduler's user-space part: the one that holds the struct_ops map or its link open.
//!
//! `/proc/PID/fdinfo/N` of a BPF map or link has a line `map_id:\t<id>`. Looking at every descriptor of every
//! process is dear (some 2 us each), so it is done once per epoch, on its own thread, within limits.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// Most processes looked at: `pid_max`'s usual value on large nodes is higher, living processes are fewer.
const MAX_PROCESSES: usize = 65_536;
/// Most descriptors looked at in all: at 2 us each, less than a second.
const MAX_DESCRIPTORS: usize = 400_000;

/// A search under way, or its result.
#[derive(Debug, Default)]
pub(super) enum Search {
    /// Nothing was searched for.
    #[default]
    Idle,
    /// Under way.
    Running(JoinHandle<Option<u32>>),
    /// Found, or found to be nowhere.
    Done(Option<u32>),
}

impl Search {
    /// Begins the search for the holder of a map below `proc`.
    pub(super) fn start(proc: &Path, map_id: u32) -> Self {
        let proc = PathBuf::from(proc);
        let thread = thread::Builder::new().name("scheduler-pid".to_owned());
        thread.spawn(move || holder(&proc, map_id)).map_or(Self::Done(None), Self::Running)
    }

    /// The process, if it is known by now.
    pub(super) fn poll(&mut self) -> Option<u32> {
        if let Self::Running(thread) = self
            && !thread.is_finished()
        {
            return None;
        }
        self.wait()
    }

    /// The process, waited for.
    pub(super) fn wait(&mut self) -> Option<u32> {
        *self = match std::mem::take(self) {
            Self::Running(thread) => Self::Done(thread.join().ok().flatten()),
            done => done,
        };
        if let Self::Done(pid) = self { *pid } else { None }
    }
}

/// The process below `proc` that holds this map's link open, else the map itself. Processes that vanish or
/// may not be looked at are passed over.
pub(super) fn holder(proc: &Path, map_id: u32) -> Option<u32> {
    let wanted = map_id.to_string();
    let mut descriptors = 0;
    let mut holds_map = None;
    let pids =
        fs::read_dir(proc).ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids.take(MAX_PROCESSES) {
        let pid: u32 = pid;
        let dir = proc.join(pid.to_string());
        let Ok(fds) = fs::read_dir(dir.join("fd")) else { continue };
        for fd in fds.flatten() {
            descriptors += 1;
            if descriptors > MAX_DESCRIPTORS {
                return holds_map;
            }
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            let target = target.as_os_str().as_encoded_bytes();
            if !target.starts_with(b"anon_inode:bpf") {
                continue;
            }
            let text = fs::read_to_string(dir.join("fdinfo").join(fd.file_name())).unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("map_id:"));
            if id.is_none_or(|id| id.trim() != wanted) {
                continue;
            }
            if text.lines().any(|line| line.starts_with("link_id:")) {
                return Some(pid);
            }
            holds_map = holds_map.or(Some(pid));
        }
    }
    holds_map
}

#[cfg(test)]
mod tests;
