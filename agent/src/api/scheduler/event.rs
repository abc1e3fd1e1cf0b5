//! What is told once of a scheduler: records of a node, and how near the kernel's watchdog is to ejecting it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Exit, Scheduler};
use crate::domain::{event, watchdog};

/// A task that can run and does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wait {
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub pid: u32,
    /// The thread's name.
    pub comm: String,
    /// Its cgroup in the unified hierarchy: the inode number of the directory.
    pub cgroup_id: u64,
    /// For how long, ns.
    pub wait_ns: u64,
}

/// What the kernel's watchdog would find: at `longest.wait_ns = timeout_ns` it ejects the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Margin {
    /// How long a task may wait, ns; null where it cannot be read.
    pub timeout_ns: Option<u64>,
    /// The task that waits longest now; null while nobody waits.
    pub longest: Option<Wait>,
    /// Tasks that wait now; null where nobody looked.
    pub waiting: Option<u64>,
    /// The longest wait that was seen since the scheduler was loaded, ns; null where nobody looked.
    pub longest_of_epoch_ns: Option<u64>,
    /// Why nobody looked, or why there is no timeout.
    pub absent: Option<String>,
}

/// A task has waited for a good part of the timeout: the kernel is about to eject the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StallWarning {
    /// Wall time at which it was said, ns since the epoch.
    pub at_ns: i64,
    /// The kernel's name of the scheduler.
    pub ops: String,
    /// The epoch.
    pub enable_seq: u64,
    /// Who waits longest.
    pub longest: Wait,
    /// Tasks that wait.
    pub waiting: u64,
    /// The timeout, ns.
    pub timeout_ns: u64,
}

/// One of the kernel's event counters moved: bypass, fallback and the like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CounterChange {
    /// Wall time of the look that found it, ns since the epoch.
    pub at_ns: i64,
    /// Wall time since which it is the sum, ns since the epoch.
    pub since_ns: i64,
    /// The kernel's name of the scheduler.
    pub ops: String,
    /// The epoch.
    pub enable_seq: u64,
    /// The kernel's name of the counter: `SCX_EV_BYPASS_ACTIVATE`.
    pub name: String,
    /// By how much; ns for a duration.
    pub delta: u64,
    /// Since the scheduler was loaded.
    pub total: u64,
}

/// `GET /api/v1/nodes/{node}/scheduler` at the receiver: one node's scheduler and what happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeHistory {
    /// The node's name.
    pub node: String,
    /// The latest reading; null if it sent none.
    pub scheduler: Option<Scheduler>,
    /// The last ends of schedulers, oldest first.
    pub exits: Vec<Exit>,
    /// The last warnings before an end, oldest first.
    pub warnings: Vec<StallWarning>,
    /// The last moves of the kernel's event counters, oldest first.
    pub events: Vec<CounterChange>,
}

impl From<&watchdog::Wait> for Wait {
    fn from(wait: &watchdog::Wait) -> Self {
        let watchdog::Wait { tid, pid, comm, cgroup_id, wait_ns } = wait.clone();
        Self { tid, pid, comm, cgroup_id, wait_ns }
    }
}

impl From<&watchdog::Margin> for Margin {
    fn from(margin: &watchdog::Margin) -> Self {
        Self {
            timeout_ns: margin.timeout_ns,
            longest: margin.longest.as_ref().map(Wait::from),
            waiting: margin.waiting,
            longest_of_epoch_ns: margin.longest_of_epoch_ns,
            absent: margin.absent.clone(),
        }
    }
}

impl From<&watchdog::StallWarning> for StallWarning {
    fn from(warning: &watchdog::StallWarning) -> Self {
        Self {
            at_ns: warning.at_ns,
            ops: warning.ops.clone(),
            enable_seq: warning.enable_seq,
            longest: (&warning.longest).into(),
            waiting: warning.waiting,
            timeout_ns: warning.timeout_ns,
        }
    }
}

impl From<event::CounterChange> for CounterChange {
    fn from(change: event::CounterChange) -> Self {
        let event::CounterChange { at_ns, since_ns, ops, enable_seq, name, delta, total } = change;
        Self { at_ns, since_ns, ops, enable_seq, name, delta, total }
    }
}
