//! The same records from /proc: `stat`, `comm` and `cgroup` of each process.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_ebpf::task::{COMM_BYTES, TaskRecord};
use anyhow::{Context, Result};

/// Nanoseconds in a tick of /proc: the kernel shows 100 a second on every architecture.
pub const TICK_NS: u64 = 10_000_000;

/// A reader of /proc that remembers which cgroup path has which inode.
pub struct Proc {
    mount: PathBuf,
    inodes: HashMap<String, u64>,
}

impl Proc {
    /// Finds where the unified hierarchy is mounted.
    ///
    /// # Errors
    /// It is not.
    pub fn open() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let mount = unified.and_then(|line| line.split(' ').nth(4)).context("no cgroup2 is mounted")?;
        Ok(Self { mount: mount.into(), inodes: HashMap::new() })
    }

    /// Where the unified hierarchy is mounted.
    #[must_use]
    pub fn cgroups(&self) -> &Path {
        &self.mount
    }

    /// Every process now, with its start rounded down to [`TICK_NS`].
    ///
    /// # Errors
    /// /proc cannot be listed. A process that vanishes is left out.
    pub fn records(&mut self) -> Result<Vec<TaskRecord>> {
        let entries = fs::read_dir("/proc")?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter_map(|pid| self.record(pid).ok()).collect())
    }

    /// One process.
    ///
    /// # Errors
    /// It is gone, or its files are not of the known form.
    pub fn record(&mut self, pid: u32) -> Result<TaskRecord> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name between the parentheses may hold anything, parentheses too.
        let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
        // Field n of proc(5), counted from 1, is at n - 3 here.
        let fields: Vec<_> = rest.split_whitespace().collect();
        let field = |n: usize| fields.get(n - 3).context("stat is too short");
        let name = fs::read(format!("/proc/{pid}/comm"))?;
        let name = name.strip_suffix(b"\n").unwrap_or(&name);
        let mut comm = [0; COMM_BYTES];
        // Kernel threads show more than their comm here.
        let len = name.len().min(COMM_BYTES - 1);
        comm[..len].copy_from_slice(&name[..len]);
        let nr_threads = field(20)?.parse()?;
        Ok(TaskRecord {
            pid,
            // A process that has ended as a whole; of one that has lost some threads no file tells.
            live: if field(3)? == &"Z" { 0 } else { nr_threads },
            ppid: field(4)?.parse()?,
            nr_threads,
            start_boottime_ns: field(22)?.parse::<u64>()? * TICK_NS,
            cgroup_id: self.cgroup(pid)?,
            comm,
        })
    }

    fn cgroup(&mut self, pid: u32) -> Result<u64> {
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        let path =
            lines.lines().find_map(|line| line.strip_prefix("0::/")).context("in no unified cgroup")?;
        if let Some(inode) = self.inodes.get(path) {
            return Ok(*inode);
        }
        let inode = fs::metadata(self.mount.join(path))?.ino();
        self.inodes.insert(path.to_owned(), inode);
        Ok(inode)
    }
}
