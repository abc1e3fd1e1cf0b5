//! Who waits for a CPU, how long, and because of whom: an eBPF program at every switch of tasks.
//!
//! ```text
//! kernel (sched_switch) ── maps by cgroup id ── probe ── paths of cgroups ── ledger ── RunqueueReading
//! ```
//!
//! Invariants:
//! - every stint that was seen to begin and end is counted exactly once, under the cgroup that its task began it in;
//!   of others the waits are still counted, with the next one;
//! - sums over a subtree of cgroups never go backwards while its root lives: removed groups leave theirs to their
//!   nearest living ancestor;
//! - nothing is pinned, so the program and its maps end with this process, however it ends;
//! - memory in the kernel is bounded by [`Config`], and what finds no room there is counted.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::PathBuf;

use agent_ebpf::runqlat::{CgroupStats, IDLE, Pair};
use aya::util::nr_cpus;
use serde::{Deserialize, Serialize};

use self::hierarchy::{Hierarchy, Paths};
use self::ledger::Ledger;
use self::probe::{Probe, Row, Sizes};
use crate::domain::runqueue::{BEYOND, Blame, CgroupRun, RunqueueReading};
use crate::host::HostRoots;
use crate::kernel::programs::{LoadError, one_at_a_time};
use crate::kernel::types::Types;

mod hierarchy;
mod ledger;
mod probe;
mod run;
mod settings;

pub use run::run;

/// How the run-queue source works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Measure at all.
    pub enabled: bool,
    /// Time between two readings of the maps, ms; at least 100. Five seconds hold enough waits for a 99th percentile.
    pub interval_ms: u64,
    /// Cgroups counted at most; 0 chooses by the number of CPUs, since each costs 384 bytes on every one: 1,024 up to
    /// 40 CPUs, then as many as fit 16 MiB, at least 256. A full node has some 400.
    pub max_cgroups: u32,
    /// Threads remembered at most, 100 bytes each; the least recently switched make room.
    pub max_threads: u32,
    /// Pairs of cgroups remembered that got in each other's way; the least recently met make room.
    pub max_blames: u32,
    /// Waits shorter than this are blamed on nobody, us: they hurt nobody, and blaming costs.
    pub blame_from_us: u32,
    /// Pods with series of their own in `/metrics`, the ones that waited most; the rest are summed as `other`. 110 is the
    /// kubelet's own default limit: an ordinary node exports every pod.
    pub max_pods_exported: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            interval_ms: 5_000,
            max_cgroups: 0,
            max_threads: 32_768,
            max_blames: 4_096,
            blame_from_us: 100,
            max_pods_exported: 110,
        }
    }
}

/// Memory for the totals of cgroups where their number is chosen by that of CPUs.
const CGROUPS_BYTES: usize = 16 << 20;

/// Collections between two looks for cgroups that were removed: each costs a system call per cgroup.
const SWEEP_EVERY: u64 = 4;

impl Config {
    fn sizes(&self, cpus: usize) -> Sizes {
        let fitting = CGROUPS_BYTES / CgroupStats::BYTES / cpus.max(1);
        let chosen = u32::try_from(fitting).unwrap_or(u32::MAX).clamp(256, 1_024);
        let cgroups = if self.max_cgroups == 0 { chosen } else { self.max_cgroups };
        Sizes { cgroups, threads: self.max_threads.max(1), blames: self.max_blames.max(1) }
    }
}

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum RunqlatError {
    /// No cgroups, so nobody to count for.
    #[error("{} holds no cgroup hierarchy: mount the host's cgroup tree there", .0.display())]
    NoHierarchy(PathBuf),
    /// The program does not run.
    #[error("{}", .0.said())]
    Load(#[from] LoadError),
}

/// The source: [`RunqlatSource::collect`] reads once; [`run()`] does so for ever.
#[derive(Debug)]
pub struct RunqlatSource {
    probe: Probe,
    paths: Paths,
    ledger: Ledger,
    collections: u64,
    /// See [`RunqueueReading::since_ns`].
    since_ns: Option<i64>,
}

impl RunqlatSource {
    /// Loads the program and begins to count.
    ///
    /// # Errors
    /// No hierarchy of cgroups, or a kernel that does not permit or take the program.
    pub fn start(roots: &HostRoots, config: &Config) -> Result<Self, RunqlatError> {
        let hierarchy = Hierarchy::of_root(&roots.cgroup);
        let hierarchy = hierarchy.ok_or_else(|| RunqlatError::NoHierarchy(roots.cgroup.clone()))?;
        let probe = one_at_a_time(|| {
            let types = Types::read(&roots.sys)?;
            let blame_from_ns = config.blame_from_us.saturating_mul(1_000);
            let settings = settings::of_kernel(&types, &hierarchy, blame_from_ns)?;
            drop(types);
            Probe::load(&settings, config.sizes(nr_cpus().unwrap_or(1)), &roots.sys)
        })?;
        Ok(Self {
            probe,
            paths: Paths::new(hierarchy),
            ledger: Ledger::default(),
            collections: 0,
            since_ns: None,
        })
    }

    /// Reads everything once; `at_ns` is the wall time now, `mono_ns` a monotonic one.
    ///
    /// # Errors
    /// The maps cannot be read, which no running program's are.
    pub fn collect(&mut self, at_ns: i64, mono_ns: u64) -> Result<RunqueueReading, RunqlatError> {
        let rows = self.probe.cgroups()?;
        self.paths.learn(rows.iter().map(|row| row.cgroup_id).filter(|id| *id != 0));
        let blames = self.blames()?;
        let sweep = self.collections.is_multiple_of(SWEEP_EVERY);
        self.collections += 1;
        let mut living = Vec::with_capacity(rows.len());
        for row in rows {
            match self.paths.get(row.cgroup_id) {
                _ if row.cgroup_id == 0 => living.push(group(&row, BEYOND)),
                Some(path) if !sweep || self.paths.lives(row.cgroup_id) => living.push(group(&row, path)),
                path => {
                    // A group that was gone before it was ever looked for has no path: only the root is sure.
                    let path = path.unwrap_or("/").to_owned();
                    self.bury(&row, &path)?;
                }
            }
        }
        if sweep {
            let paths = &self.paths;
            self.ledger.sweep(|path| paths.is_group(path));
            let known: HashSet<u64> = living.iter().map(|group| group.cgroup_id).collect();
            self.paths.keep(|id| known.contains(&id));
        }
        Ok(RunqueueReading {
            at_ns,
            mono_ns,
            since_ns: *self.since_ns.get_or_insert(at_ns),
            cgroups: self.ledger.settle(living),
            blames,
            losses: self.probe.losses()?,
        })
    }

    fn bury(&mut self, row: &Row, path: &str) -> Result<(), RunqlatError> {
        // Its last task may have been switched since the row was read.
        let totals = self.probe.take(row.cgroup_id)?.unwrap_or(row.totals);
        let paths = &self.paths;
        self.ledger.fold(path, &totals, |path| paths.is_group(path));
        Ok(())
    }

    /// Those among groups that are known; what a removed group suffered or did is history.
    fn blames(&self) -> Result<Vec<Blame>, RunqlatError> {
        let named = |id: u64| self.paths.get(id).map(Into::into);
        let named_pair = |(pair, wait_ns): (Pair, u64)| {
            let runner = if pair.runner == IDLE { None } else { Some(named(pair.runner)?) };
            Some(Blame { waiter: named(pair.waiter)?, runner, wait_ns })
        };
        let mut blames: Vec<_> = self.probe.blames()?.into_iter().filter_map(named_pair).collect();
        blames.sort_by_key(|blame| Reverse(blame.wait_ns));
        Ok(blames)
    }
}

fn group(row: &Row, path: &str) -> CgroupRun {
    CgroupRun { cgroup_id: row.cgroup_id, path: path.into(), totals: row.totals }
}
