//! What the kernel itself tells of processes: events, and walks over all of them.
//!
//! The seam of the follower: [`Kernel`] is the real one, tests put recorded events in its place. It needs eBPF, the
//! host's pid namespace, since the kernel tells the pids of that one, and a hierarchy that the kernel knows by number.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_ebpf::process::Event;
use agent_ebpf::task::TaskRecord;
use aya::Btf;
use rustix::fs::statfs;
use thiserror::Error;

use crate::host::HostRoots;
use crate::kernel::processes::Processes;
use crate::kernel::programs::{LoadError, one_at_a_time};
use crate::kernel::tasks::{Walk, WalkError, offsets_in};
use crate::kernel::types::{Types, TypesError};

/// `CGROUP2_SUPER_MAGIC` of the kernel.
const CGROUP2: i64 = 0x6367_7270;
/// `PROC_SUPER_MAGIC` of the kernel.
const PROC: i64 = 0x9fa0;
/// The host's pid namespace: its inode is fixed in the kernel (`PROC_PID_INIT_INO`).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Why the kernel tells nothing.
#[derive(Debug, Error)]
pub(super) enum FeedError {
    /// Pids would be those of another namespace.
    #[error("{} is not the /proc of the host's pid namespace (hostPID: true)", .0.display())]
    OtherPids(PathBuf),
    /// A v1 hierarchy without a controller, such as systemd's own.
    #[error("the kernel has no controller for the hierarchy {}", .0.display())]
    Hierarchy(PathBuf, #[source] TypesError),
    /// No types, no programs.
    #[error("{}", .0.said())]
    Load(#[from] LoadError),
    /// No more descriptors.
    #[error("no descriptor to wait for events with")]
    Bell(#[source] std::io::Error),
    /// A walk failed.
    #[error("{}", said(.0))]
    Walk(#[from] WalkError),
}

fn said(error: &WalkError) -> String {
    match error {
        WalkError::Start(load) => format!("{error}: {}", load.said()),
        other => other.to_string(),
    }
}

/// Where events and walks come from.
pub(super) trait Feed: Send {
    /// Appends the events that are there, in order.
    fn drain(&mut self, events: &mut Vec<Event>);

    /// Events that were lost since the beginning.
    fn lost(&mut self) -> Result<u64, FeedError>;

    /// Every process, ended ones that nobody has waited for included.
    fn walk(&mut self) -> Result<Vec<TaskRecord>, FeedError>;

    /// What it could tell on another kernel, a sentence each.
    fn lacks(&self) -> Vec<String>;
}

/// The running kernel.
pub(super) struct Kernel {
    processes: Processes,
    walk: Walk,
}

impl Kernel {
    /// Loads the programs, and attaches those for events. `hierarchy` is the mounted one that processes are placed in.
    pub(super) fn load(roots: &HostRoots, hierarchy: &Path, ring_bytes: u32) -> Result<Self, FeedError> {
        if !is_host_proc(&roots.proc) {
            return Err(FeedError::OtherPids(roots.proc.clone()));
        }
        one_at_a_time(|| Self::load_for(roots, hierarchy, ring_bytes))
    }

    fn load_for(roots: &HostRoots, hierarchy: &Path, ring_bytes: u32) -> Result<Self, FeedError> {
        let types = Types::read(&roots.sys).map_err(LoadError::from)?;
        let offsets = if is_unified(hierarchy) {
            offsets_in(&types, None).map_err(LoadError::from)?
        } else {
            let offsets = offsets_in(&types, Some(controller(hierarchy)));
            offsets.map_err(|source| match source {
                TypesError::Absent { ref structure, .. } if structure == "cgroup_subsys_id" => {
                    FeedError::Hierarchy(hierarchy.to_owned(), source)
                }
                other => LoadError::from(other).into(),
            })?
        };
        drop(types);
        let kernel = Btf::from_sys_fs().map_err(LoadError::from)?;
        let processes = Processes::load(&offsets, ring_bytes, &kernel)?;
        Ok(Self { processes, walk: Walk::load_with(&offsets, &kernel)? })
    }

    /// See [`Processes::bell`].
    pub(super) fn bell(&self) -> std::io::Result<OwnedFd> {
        self.processes.bell()
    }
}

impl Feed for Kernel {
    fn drain(&mut self, events: &mut Vec<Event>) {
        self.processes.drain(events);
    }

    fn lost(&mut self) -> Result<u64, FeedError> {
        Ok(self.processes.lost()?)
    }

    fn walk(&mut self) -> Result<Vec<TaskRecord>, FeedError> {
        Ok(self.walk.records()?.collect())
    }

    fn lacks(&self) -> Vec<String> {
        let without = self.processes.without().iter();
        without.map(|(name, error)| format!("groups are known late, {name}: {}", error.said())).collect()
    }
}

/// The name of a mounted v1 hierarchy begins with that of a controller: `cpu,cpuacct`.
fn controller(hierarchy: &Path) -> &str {
    let name = hierarchy.file_name().and_then(OsStr::to_str).unwrap_or_default();
    name.split(',').next().unwrap_or_default()
}

fn is_unified(hierarchy: &Path) -> bool {
    magic(hierarchy) == Some(CGROUP2)
}

fn is_host_proc(proc: &Path) -> bool {
    let namespace = std::fs::read_link(proc.join("self/ns/pid"));
    magic(proc) == Some(PROC) && namespace.is_ok_and(|name| name == Path::new(HOST_PID_NAMESPACE))
}

#[expect(clippy::useless_conversion, reason = "the width of the type differs between machines")]
fn magic(path: &Path) -> Option<i64> {
    statfs(path).ok().map(|found| i64::from(found.f_type))
}
