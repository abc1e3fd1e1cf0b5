//! How pods and containers wait for a CPU, as `GET /api/v1/pods` shows it.
//!
//! Totals are since the node agent began to measure and never go backwards while the cgroup lives. Quantiles are good to
//! a factor of two: durations are counted in slots that double.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::runqueue as domain;

pub mod record;

/// What the run queues did to the tasks of a pod or container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Runqueue {
    /// Times that a task was put on a CPU, each after a wait, which may be 0 ns long.
    pub waits: u64,
    /// All waits together, ns: what `/proc/PID/schedstat` has second, over all tasks.
    pub wait_ns: u64,
    /// Time on a CPU, ns; what tasks do that run at this moment is missing.
    pub on_cpu_ns: u64,
    /// Time neither on a CPU nor waiting for one, ns, over all tasks.
    pub blocked_ns: u64,
    /// Times that a task left a CPU because it had to wait for something.
    pub voluntary_switches: u64,
    /// Times that a task left a CPU though it could have gone on.
    pub involuntary_switches: u64,
    /// Times that a task came to another CPU than the one before.
    pub migrations: Migrations,
    /// The longest wait of the last 9 to 17 s, ns.
    pub longest_recent_wait_ns: u64,
    /// Between the last two readings; null until there are two.
    pub recent: Option<Recent>,
}

/// How far tasks moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Migrations {
    /// To another hardware thread of the same core.
    pub same_core: u64,
    /// To another core below the same last-level cache.
    pub same_llc: u64,
    /// To another last-level cache of the same NUMA node.
    pub same_node: u64,
    /// To another NUMA node.
    pub other_node: u64,
}

/// What happened between two readings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recent {
    /// Time between them, ms.
    pub interval_ms: u64,
    /// Waits.
    pub waits: u64,
    /// All of them together, ns.
    pub wait_ns: u64,
    /// Half of the waits were no longer, ns; null without waits.
    pub p50_ns: Option<u64>,
    /// All but a hundredth of the waits were no longer, ns.
    pub p99_ns: Option<u64>,
    /// Who had the CPU meanwhile, descending by time; of pods only, and of waits above the threshold.
    pub neighbours: Vec<Neighbour>,
}

/// Somebody who had the CPU while a pod waited for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Neighbour {
    /// `namespace/name` of a pod (perhaps the one itself), the path of another cgroup, or `idle CPU`: then nobody had
    /// it, and the wait is the scheduler's own doing.
    pub name: String,
    /// For how long, ns.
    pub wait_ns: u64,
}

/// Neighbours that are shown of each pod: the ones after them are hardly to blame.
const NEIGHBOURS: usize = 5;

impl Runqueue {
    /// Totals, and what happened in the interval between the last two readings.
    pub fn new(totals: &domain::RunTotals, recent: Option<Recent>) -> Self {
        let migrations = totals.migrations;
        Self {
            waits: totals.waits.count(),
            wait_ns: totals.waits.sum_ns,
            on_cpu_ns: totals.on_cpu_ns,
            blocked_ns: totals.blocked_ns,
            voluntary_switches: totals.voluntary_switches,
            involuntary_switches: totals.involuntary_switches,
            migrations: Migrations {
                same_core: migrations.same_core,
                same_llc: migrations.same_llc,
                same_node: migrations.same_node,
                other_node: migrations.other_node,
            },
            longest_recent_wait_ns: totals.longest_recent_wait_ns,
            recent,
        }
    }
}

impl Recent {
    /// Of what was counted in an interval, and the neighbours in it.
    pub fn new(totals: &domain::RunTotals, neighbours: &[(String, u64)], interval_ns: u64) -> Self {
        Self {
            interval_ms: interval_ns / 1_000_000,
            waits: totals.waits.count(),
            wait_ns: totals.waits.sum_ns,
            p50_ns: totals.waits.quantile_ns(500),
            p99_ns: totals.waits.quantile_ns(990),
            neighbours: Neighbour::first(neighbours),
        }
    }
}

impl Neighbour {
    /// The ones that are shown, of a list that descends by time.
    fn first(neighbours: &[(String, u64)]) -> Vec<Self> {
        let neighbour = |(name, wait_ns): &(String, u64)| Self { name: name.clone(), wait_ns: *wait_ns };
        neighbours.iter().take(NEIGHBOURS).map(neighbour).collect()
    }
}
