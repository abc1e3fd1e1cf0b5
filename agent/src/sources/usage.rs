//! What containers and pods use: their cgroups' files, read at an interval.
//!
//! Which cgroups is said from outside, as a list of paths and ids ([`Target`]); this source knows no pods. Invariants:
//! - a reading belongs to the cgroup with the asked-for id, never to another one that has its path by now;
//! - every controller and every file is optional: what is absent is `None`, and the health says why;
//! - a cgroup that vanishes during a reading is no error;
//! - no more files stay open than [`Config::max_open_files`], and no more cgroups are read than
//!   [`Config::max_groups`]; both are counted.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::group::{BUFFER_BYTES, Budget, Group, Lacks, Shared};
use self::hierarchy::{Hierarchies, HierarchyError};
use self::metrics::Metrics;
use crate::domain::source::SourceHealth;
use crate::domain::usage::request::Conversion;
use crate::domain::usage::{Target, UsageMap};
use crate::host::HostRoots;

mod conversion;
mod files;
mod group;
mod health;
mod hierarchy;
pub mod metrics;
pub mod parse;
mod reading;
mod run;

pub use run::{RunError, run};

/// How the usage source works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two collections, ms; at least 1000. The kubelet's own figures are 10 s old, throttling is visible
    /// in any span of some hundred periods of 100 ms, and 600 cgroups cost a twentieth of a second of CPU.
    pub interval_ms: u64,
    /// Cgroups read at most: 500 pods, which the largest nodes are built for, with nine containers each.
    pub max_groups: usize,
    /// Files kept open, which saves two thirds of a reading. The kernel keeps a page for each, charged to us: 2,048 are
    /// 8 MiB. Cgroups' directories are kept besides, which cost little; both together are at most half of what the process
    /// may open.
    pub max_open_files: usize,
    /// Pods with series of their own in `/metrics`; the rest are summed as `other`. 110 is the kubelet's own default
    /// limit: an ordinary node exports every pod.
    pub max_pods_exported: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { interval_ms: 5_000, max_groups: 5_000, max_open_files: 2_048, max_pods_exported: 110 }
    }
}

/// The source. [`UsageSource::collect`] reads once; [`run()`] reads for ever.
pub struct UsageSource {
    roots: HostRoots,
    config: Config,
    trees: Option<Hierarchies>,
    groups: HashMap<u64, Group>,
    budget: Budget,
    buffer: Box<[u8]>,
    epochs: u64,
    number: u64,
    conversion: Option<Conversion>,
    started: Instant,
    last: Arc<UsageMap>,
    health: SourceHealth,
    metrics: Metrics,
}

/// What one collection met, beside the usage.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    groups: usize,
    /// Targets beyond the limit.
    left_out: usize,
    /// Targets that were gone, or another cgroup by now.
    gone: u64,
    reads: u64,
    lacks: Lacks,
}

impl UsageSource {
    /// A source that has not looked yet; opens nothing.
    pub fn new(roots: HostRoots, config: Config) -> Self {
        let may_open = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
        let limit = may_open.unwrap_or(usize::MAX) / 2;
        Self {
            roots,
            config,
            trees: None,
            groups: HashMap::new(),
            budget: Budget { limit, max_files: config.max_open_files, ..Budget::default() },
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            epochs: 0,
            number: 0,
            conversion: None,
            started: Instant::now(),
            last: Arc::new(UsageMap::default()),
            health: SourceHealth { name: "usage", ..SourceHealth::default() },
            metrics: Metrics::default(),
        }
    }

    /// Reports into `metrics` from now on.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Reads every target once. Blocks for the time that takes; `at_ns` is the wall time now.
    ///
    /// Without a cgroup tree the usage of the collection before comes back, with its own time, and the health says why.
    pub fn collect(&mut self, targets: &[Target], at_ns: i64) -> Arc<UsageMap> {
        let started = Instant::now();
        let collected = self.read(targets, at_ns);
        self.health.last_duration_ns = nanos(started);
        match collected {
            Ok((map, tally)) => {
                self.last = Arc::new(map);
                health::succeeded(&mut self.health, at_ns, &tally);
                self.metrics.collected(&tally, self.budget.open);
            }
            Err(error) => health::failed(&mut self.health, &error),
        }
        Arc::clone(&self.last)
    }

    /// Its state.
    pub const fn health(&self) -> &SourceHealth {
        &self.health
    }

    fn read(&mut self, targets: &[Target], at_ns: i64) -> Result<(UsageMap, Tally), HierarchyError> {
        self.number += 1;
        // A number that no life of an earlier process had: one more for each group, from the milliseconds of the clock.
        self.epochs = self.epochs.max(u64::try_from(at_ns / 1_000_000).unwrap_or(0));
        let trees = match &mut self.trees {
            Some(trees) => trees,
            none => none.insert(Hierarchies::open(&self.roots.cgroup)?),
        };
        let asked = &targets[..targets.len().min(self.config.max_groups)];
        let mut tally = Tally { left_out: targets.len() - asked.len(), ..Tally::default() };
        if self.number % group::SELDOM == 1 || self.conversion.is_none() {
            self.conversion = conversion::of_node(trees, asked, &self.roots.sys, &mut self.buffer);
        }
        let groups = HashMap::with_capacity(asked.len());
        let mut map = UsageMap { at_ns, groups, conversion: self.conversion };
        let mut shared = Shared {
            trees,
            buffer: &mut self.buffer,
            budget: &mut self.budget,
            lacks: &mut tally.lacks,
            reads: &mut tally.reads,
        };
        for target in asked {
            let group = self.groups.entry(target.cgroup_id).or_insert_with(|| {
                self.epochs += 1;
                Group::new(self.epochs)
            });
            if group.seen == self.number {
                // Listed twice.
                continue;
            }
            group.seen = self.number;
            let Ok(mut usage) = group.read(target, &mut shared, nanos(self.started)) else {
                group.seen = 0;
                tally.gone += 1;
                continue;
            };
            if let Some(before) = self.last.groups.get(&target.cgroup_id) {
                usage.rates = usage.rates_since(before);
            }
            map.groups.insert(target.cgroup_id, usage);
        }
        self.groups.retain(|_, group| {
            let stays = group.seen == self.number;
            if !stays {
                group.release(&mut self.budget);
            }
            stays
        });
        tally.groups = map.groups.len();
        if tally.gone > 0 && map.groups.is_empty() {
            // All of them: the tree itself may be another one by now.
            self.trees = None;
        }
        Ok((map, tally))
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
