//! What a worker is told: one value, made by a plan, handed over as JSON, checked nowhere else.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::network;
use crate::kernel::policy::Policy;

/// A worker's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// When to end at the latest, ns since boot.
    pub deadline_ns: u64,
    /// Directories of the cgroups to join.
    pub groups: Vec<PathBuf>,
    /// What to do.
    pub work: Work,
    /// Survive the node: only a debug build can be told so, to prove that the guards are what ends a worker.
    #[cfg(debug_assertions)]
    #[serde(default)]
    pub unguarded: bool,
}

impl Order {
    /// Its guards are on.
    #[cfg(debug_assertions)]
    pub const fn guarded(&self) -> bool {
        !self.unguarded
    }

    /// Its guards are on.
    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "a release build's always are")]
    pub const fn guarded(&self) -> bool {
        true
    }
}

/// What a worker does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Takes CPU time.
    Cpu(CpuWork),
    /// Holds memory.
    Memory(MemoryWork),
    /// Reads and writes.
    DiskLoad(DiskLoadWork),
    /// Takes a file system's space.
    DiskFill(DiskFillWork),
    /// Disturbs a network.
    Network {
        /// How.
        order: Box<network::Order>,
        /// What is reported.
        measure: Measure,
    },
    /// Sees to it that changes are undone; with `apply` it makes them first.
    Hold {
        /// Make them.
        apply: bool,
        /// What is changed.
        changes: Vec<Change>,
    },
    /// Lets processes stand still.
    Pause(Who),
    /// Sends processes a signal, once.
    Kill {
        /// Which.
        who: Who,
        /// `SIGTERM` instead of `SIGKILL`.
        term: bool,
    },
}

/// What a network's worker says it achieved, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Delay, us.
    Delay,
    /// Bits that passed, whole ones.
    Bits,
    /// Of the packets that fit, those that were lost.
    Lost,
    /// Those that were sent twice.
    Duplicated,
    /// Those that were damaged.
    Corrupted,
}

/// One worker's CPU time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuWork {
    /// Of one core.
    pub percent: f64,
    /// Time to full strength.
    pub ramp_ns: u64,
    /// How the kernel schedules it; none: as its parent.
    pub policy: Option<Policy>,
    /// Its niceness; none: its parent's.
    pub nice: Option<i32>,
    /// The CPUs it stays on; empty: all.
    pub cpus: Vec<u32>,
}

/// One worker's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryWork {
    /// Its own included.
    pub bytes: u64,
    /// Time to full strength.
    pub ramp_ns: u64,
    /// How fast it is written again.
    pub touch_bytes_per_s: u64,
    /// What must stay available on the node.
    pub floor_bytes: u64,
}

/// One worker's reads and writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskLoadWork {
    /// Where.
    pub place: Directory,
    /// Operations/s.
    pub operations_per_s: f64,
    /// Size of one.
    pub block_bytes: u64,
    /// Reports bytes, and not operations.
    pub in_bytes: bool,
    /// Share that writes.
    pub write_percent: f64,
    /// Time to full strength.
    pub ramp_ns: u64,
}

/// A file system's space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskFillWork {
    /// Where.
    pub place: Directory,
    /// How much.
    pub bytes: u64,
    /// Time to all of it.
    pub ramp_ns: u64,
    /// What must stay free.
    pub floor_bytes: u64,
}

/// A directory as somebody else sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Their root: `/proc/PID/root`.
    pub root: PathBuf,
    /// The path below it; links and `..` in it do not lead out.
    pub path: String,
}

/// A file that is changed, and how it is changed back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The file.
    pub file: PathBuf,
    /// What is written to it.
    pub apply: String,
    /// What is written to it afterwards.
    pub undo: String,
}

/// Processes, but never init, the worker, its parent and those named here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Where processes are listed.
    pub proc: PathBuf,
    /// One process.
    pub pid: Option<u32>,
    /// All of these groups and of those below them.
    pub groups: Vec<PathBuf>,
    /// Those that are spared.
    pub spare: Vec<u32>,
}
