//! What the run queues did to the tasks of each cgroup, and to each pod: who waited for a CPU, how long, because of
//! whom.

use std::sync::Arc;

use super::histogram::Histogram;

mod join;

pub use join::{PodRun, Runs, lately, of_pods};

/// Everything counted for the tasks of one cgroup since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunTotals {
    /// Waits for a CPU by length; their number is that of stints on a CPU.
    pub waits: Histogram,
    /// Time on a CPU, ns.
    pub on_cpu_ns: u64,
    /// Time neither on a CPU nor waiting for one, ns.
    pub blocked_ns: u64,
    /// Stints that ended because the task had to wait for something.
    pub voluntary_switches: u64,
    /// Stints that ended though the task could have gone on.
    pub involuntary_switches: u64,
    /// Stints on another CPU than the one before.
    pub migrations: Migrations,
    /// The longest wait of the last 9 to 17 s, ns.
    pub longest_recent_wait_ns: u64,
}

/// How far tasks moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

impl RunTotals {
    /// Adds another cgroup's; of the longest waits the longer one stays.
    pub fn add(&mut self, other: &Self) {
        self.waits.add(&other.waits);
        let (ours, theirs) = (&mut self.migrations, &other.migrations);
        for (sum, more) in [
            (&mut self.on_cpu_ns, other.on_cpu_ns),
            (&mut self.blocked_ns, other.blocked_ns),
            (&mut self.voluntary_switches, other.voluntary_switches),
            (&mut self.involuntary_switches, other.involuntary_switches),
            (&mut ours.same_core, theirs.same_core),
            (&mut ours.same_llc, theirs.same_llc),
            (&mut ours.same_node, theirs.same_node),
            (&mut ours.other_node, theirs.other_node),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.longest_recent_wait_ns = self.longest_recent_wait_ns.max(other.longest_recent_wait_ns);
    }
}

impl RunTotals {
    /// What was counted since `before`; `None` when that is no earlier reading of the same.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let (now, then) = (&self.migrations, &before.migrations);
        Some(Self {
            waits: self.waits.since(&before.waits)?,
            on_cpu_ns: self.on_cpu_ns.checked_sub(before.on_cpu_ns)?,
            blocked_ns: self.blocked_ns.checked_sub(before.blocked_ns)?,
            voluntary_switches: self.voluntary_switches.checked_sub(before.voluntary_switches)?,
            involuntary_switches: self.involuntary_switches.checked_sub(before.involuntary_switches)?,
            migrations: Migrations {
                same_core: now.same_core.checked_sub(then.same_core)?,
                same_llc: now.same_llc.checked_sub(then.same_llc)?,
                same_node: now.same_node.checked_sub(then.same_node)?,
                other_node: now.other_node.checked_sub(then.other_node)?,
            },
            longest_recent_wait_ns: self.longest_recent_wait_ns,
        })
    }
}

impl Migrations {
    /// All of them.
    pub const fn total(&self) -> u64 {
        let near = self.same_core.saturating_add(self.same_llc);
        near.saturating_add(self.same_node).saturating_add(self.other_node)
    }
}

/// A cgroup that still exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupRun {
    /// Inode of its directory.
    pub cgroup_id: u64,
    /// Its path below the root of its hierarchy, `/` for the root itself; empty for [`BEYOND`].
    pub path: Box<str>,
    /// Its own tasks, and what groups below it had counted when they were removed.
    pub totals: RunTotals,
}

/// The path under which tasks are counted whose cgroups found no room in the kernel's map.
pub const BEYOND: &str = "";

/// Who ran while somebody waited: paths of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The one that waited.
    pub waiter: Box<str>,
    /// The one that had the CPU; `None` when the CPU was idle, and the wait the scheduler's own doing.
    pub runner: Option<Box<str>>,
    /// For how long, ns.
    pub wait_ns: u64,
}

/// What could not be counted as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Stints of cgroups beyond the limit: counted, under [`BEYOND`].
    pub cgroups: u64,
    /// Arrivals of threads beyond the limit: their waits count from the last run queue.
    pub threads: u64,
    /// Waits that were blamed on nobody for want of room.
    pub blames: u64,
    /// Stints that ended without having been seen to begin: not counted; the wait before them is in the next one.
    pub stints: u64,
}

/// One reading of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunqueueReading {
    /// Wall time, ns since the epoch; 0 before the first.
    pub at_ns: i64,
    /// Monotonic time, ns.
    pub mono_ns: u64,
    /// Wall time of the first reading since the programs were loaded, ns since the epoch: readings that differ in it have
    /// nothing in common.
    pub since_ns: i64,
    /// Ascending by path.
    pub cgroups: Vec<CgroupRun>,
    /// Descending by time, since the programs were loaded.
    pub blames: Vec<Blame>,
    /// What could not be counted.
    pub losses: Losses,
}

/// The last reading and the one before it: what happened lately is their difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunqueuePair {
    /// None until there are two.
    pub before: Option<Arc<RunqueueReading>>,
    /// The last one.
    pub now: Arc<RunqueueReading>,
}

impl RunqueuePair {
    /// The pair after one more reading; alone if the programs were loaded anew.
    #[must_use]
    pub fn then(self, now: RunqueueReading) -> Self {
        let before = (self.now.at_ns != 0 && self.now.since_ns == now.since_ns).then_some(self.now);
        Self { before, now: Arc::new(now) }
    }

    /// Time between the two, ns.
    pub fn interval_ns(&self) -> Option<u64> {
        self.now.mono_ns.checked_sub(self.before.as_ref()?.mono_ns)
    }
}
