//! Which processes a fault is for, and the fault that ends them.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal};

use super::Task;
use super::clock::Clock;
use crate::actions::order::Who;

/// Of a tree of groups: the kernel allows more, nobody has them below one target.
const MAX_GROUPS: usize = 10_000;
const INIT: u32 = 1;

/// The processes, each once, without those that are spared.
pub(in crate::actions) fn pids(who: &Who) -> Vec<u32> {
    let mut found: Vec<u32> = who.pid.into_iter().collect();
    let mut groups: Vec<PathBuf> = who.groups.clone();
    let mut seen = 0;
    while let Some(group) = groups.pop() {
        seen += 1;
        if seen > MAX_GROUPS {
            break;
        }
        let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
        groups.extend(children(&group));
    }
    let ours =
        [Some(std::process::id()), getppid().and_then(|pid| pid.as_raw_nonzero().get().try_into().ok())];
    // 0: a process of another namespace.
    found.retain(|pid| *pid > INIT && !who.spare.contains(pid) && !ours.contains(&Some(*pid)));
    found.sort_unstable();
    found.dedup();
    found
}

fn children(group: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(group).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Processes that were sent a signal: nothing holds, and nothing can be undone.
pub(super) struct Killed {
    count: u64,
}

impl Killed {
    pub(super) fn begin(who: &Who, term: bool) -> Result<Self, String> {
        let signal = if term { Signal::TERM } else { Signal::KILL };
        let handles: Vec<_> = pids(who)
            .into_iter()
            .filter_map(|pid| {
                let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
                Some((pid, pidfd_open(raw, PidfdFlags::empty()).ok()?))
            })
            .collect();
        // Should a number have got another owner before its descriptor was open, it is not there any more.
        let still = pids(who);
        let mut count = 0;
        for (pid, handle) in handles.iter().filter(|(pid, _)| still.contains(pid)) {
            match pidfd_send_signal(handle, signal) {
                Ok(()) => count += 1,
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(format!("process {pid}: {error}")),
            }
        }
        if count == 0 { Err("no process there".to_owned()) } else { Ok(Self { count }) }
    }
}

impl Task for Killed {
    fn turn(&mut self, _: Clock, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn amount(&mut self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_searched_to_the_bottom_and_some_are_spared() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let own = std::process::id();
        for (group, text) in [("", "0\n1\n50\n"), ("a", "51\nx\n"), ("a/b", &*format!("52\n53\n50\n{own}\n"))]
        {
            std::fs::write(dir.path().join(group).join("cgroup.procs"), text).unwrap();
        }
        let who =
            Who { proc: "/proc".into(), pid: Some(60), groups: vec![dir.path().to_owned()], spare: vec![52] };
        assert_eq!(pids(&who), [50, 51, 53, 60]);
        assert!(Killed::begin(&Who { pid: None, groups: vec![], ..who }, false).is_err());
    }
}
