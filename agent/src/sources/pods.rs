//! The pods of this node: which process belongs to which container of which pod.
//!
//! One walk: the cgroup tree gives places and pids ([`tree`]), `/proc` the processes ([`tasks`]), name sources
//! the names ([`names`]), [`join()`] makes pods of them. Where the kernel permits it, the processes come from its own
//! walk instead, and are kept up to date by events between walks ([`follow`]). Invariants:
//! - a process is in the map at most once, under the group that the kernel listed it in;
//! - what vanishes during a walk is no error; what cannot be read is counted in `skipped`, by reason;
//! - no RPC, and no waiting, inside a walk;
//! - memory is bounded by what is alive, by [`Config`]'s limits and by five minutes of departed names.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::follow::Follower;
use self::metrics::Metrics;
use self::names::NameSources;
use self::skipped::Skipped;
use self::tasks::Tasks;
use self::tree::{Forest, Limits, TreeError, Walk, Want};
use crate::domain::pod::{Host, Leaf, Names, PodMap, PodUid, Task, join};
use crate::domain::source::SourceHealth;
use crate::host::HostRoots;
use crate::kernel::retry::Retry;

pub mod cgroup;
mod feed;
mod follow;
mod following;
mod health;
mod live;
pub mod metrics;
mod names;
mod run;
mod skipped;
mod tasks;
mod tree;

pub use run::{RunError, run};

/// How the pods source works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Time between two walks, ms; at least 100.
    pub interval_ms: u64,
    /// Every remembered process is read again within this time, ms: names changed by a late exec and thread
    /// counts are that old at most. Where the kernel tells what happens, that is the time between two walks.
    pub refresh_ms: u64,
    /// Let the kernel tell what happens (eBPF), where it permits that.
    pub events: bool,
    /// Memory for events that are not read yet, bytes: a power of two, at least 4096; 0 for 256 KiB a CPU, at most 1 MiB.
    /// Two CPUs that fork without end make 3,000 events a second of 64 bytes each, and they are read every 15 ms.
    pub events_bytes: u32,
    /// Groups walked at most; nodes have hundreds, a runaway creator of groups must not stop the rest.
    pub max_groups: usize,
    /// Levels walked at most; nested kubelets reach ten.
    pub max_depth: usize,
    /// Processes listed at most: six times the kernel's default `pid_max`.
    pub max_tasks: usize,
    /// Ask the container runtime for names and labels.
    pub cri: bool,
    /// Ask the kubelet for names and labels.
    pub kubelet: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval_ms: 1_000,
            refresh_ms: 30_000,
            events: true,
            events_bytes: 0,
            max_groups: 50_000,
            max_depth: 64,
            max_tasks: 200_000,
            cri: true,
            kubelet: true,
        }
    }
}

impl Config {
    /// [`Config::events_bytes`] where there are so many CPUs.
    fn ring_bytes(&self, cpus: usize) -> u32 {
        const OF_CPU: u32 = 256 << 10;
        const MOST: u32 = 1 << 20;
        match self.events_bytes {
            0 => u32::try_from(cpus.max(1))
                .map_or(MOST, |cpus| cpus.saturating_mul(OF_CPU).min(MOST).next_power_of_two()),
            bytes => bytes,
        }
    }
}

/// The source. [`PodsSource::collect`] walks once; [`run()`] walks for ever and adds the RPC name sources.
pub struct PodsSource {
    roots: HostRoots,
    config: Config,
    forest: Forest,
    tasks: Option<Tasks>,
    follower: Option<Follower>,
    /// Why nobody follows the kernel, where that was tried.
    without_events: Option<String>,
    /// When that is tried again.
    retry: Retry,
    /// Rings when there are events; taken by whoever waits for it.
    bell: Option<OwnedFd>,
    /// Events were lost, and no walk has healed it yet.
    heal: bool,
    names: NameSources,
    last: Arc<PodMap>,
    health: SourceHealth,
    metrics: Metrics,
}

impl PodsSource {
    /// A source that has not looked yet; opens nothing.
    pub fn new(roots: HostRoots, config: Config) -> Self {
        let limits = Limits { groups: config.max_groups, depth: config.max_depth, tasks: config.max_tasks };
        Self {
            forest: Forest::new(roots.cgroup.clone(), limits),
            tasks: None,
            follower: None,
            without_events: None,
            retry: Retry::default(),
            bell: None,
            heal: false,
            names: NameSources::new(roots.clone()),
            last: Arc::new(PodMap::default()),
            health: SourceHealth { name: "pods", ..SourceHealth::default() },
            metrics: Metrics::default(),
            roots,
            config,
        }
    }

    /// Reports into `metrics` from now on.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Walks once. Blocks for the time of a walk; `at_ns` is the wall time now.
    ///
    /// The generation grows whenever anything but the time differs from the walk before. When there is no
    /// cgroup tree the map of the walk before comes back, with its own time, and the health says why.
    pub fn collect(&mut self, at_ns: i64) -> Arc<PodMap> {
        let started = Instant::now();
        let walked = if self.follower.is_some() { self.reconcile() } else { self.walk() };
        self.health.last_duration_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        match walked {
            Ok(seen) => {
                let foreign = seen.foreign;
                self.names.look_up(&seen.leaves, at_ns);
                self.make_map(seen, at_ns);
                health::succeeded(&mut self.health, &self.last, foreign, self.forest.hierarchy());
                let lacks = self.event_lacks();
                health::without_events(&mut self.health, lacks);
            }
            Err(error) => health::failed(&mut self.health, &error),
        }
        let stat_reads = self.tasks.as_ref().map_or(0, Tasks::reads);
        self.metrics.walked(&self.last, &self.health, stat_reads);
        Arc::clone(&self.last)
    }

    /// States of this source and of its name sources.
    pub fn health(&self) -> Vec<SourceHealth> {
        let unnamed = self.last.pods.iter().filter(|pod| pod.name.is_none()).count();
        let mut all = vec![self.health.clone()];
        all.extend(self.names.health(self.last.at_ns, unnamed));
        all
    }

    /// (namespace, name) of a pod, alive or departed less than five minutes ago.
    pub fn name_of(&self, uid: &PodUid) -> Option<(String, String)> {
        self.names.name_of(uid)
    }

    /// By `/proc`.
    fn walk(&mut self) -> Result<Seen, WalkError> {
        let tasks = match &mut self.tasks {
            Some(tasks) => tasks,
            none => {
                let refresh_walks = self.config.refresh_ms / self.config.interval_ms.max(1);
                let refresh_walks = u32::try_from(refresh_walks).unwrap_or(u32::MAX);
                let opened = Tasks::open(&self.roots.proc, refresh_walks);
                none.insert(opened.map_err(|source| WalkError::Proc(self.roots.proc.clone(), source))?)
            }
        };
        // Before the tree: a pid given out during the walk is then new to the next one at the latest.
        tasks.begin();
        let Walk { places, host, foreign, mut skipped, .. } = self.forest.walk(Want::Processes)?;
        let leaves: Vec<Leaf> = places
            .into_iter()
            .map(|place| Leaf {
                tasks: read_tasks(tasks, &place.pids, &mut skipped),
                place: place.place,
                cgroup: place.cgroup,
                cgroup_id: place.cgroup_id,
                churn: None,
            })
            .collect();
        let host = count_host(tasks, &host, &mut skipped);
        tasks.finish();
        Ok(Seen { leaves, host, foreign, skipped })
    }

    /// Joins what was seen with the names. The generation grows if that is anything new.
    fn make_map(&mut self, seen: Seen, at_ns: i64) {
        let Seen { leaves, host, skipped, .. } = seen;
        let (pods, containers) = join(leaves, Names(&self.names.tables()));
        self.names.told();
        let host = Host { containers, ..host };
        let mut map =
            PodMap { at_ns, generation: self.last.generation, pods, host, skipped: skipped.words() };
        let same =
            map.pods == self.last.pods && map.host == self.last.host && map.skipped == self.last.skipped;
        map.generation += u64::from(!same);
        self.last = Arc::new(map);
    }
}

/// What is seen of a node at one moment, without names.
#[derive(Debug, Default)]
struct Seen {
    leaves: Vec<Leaf>,
    host: Host,
    foreign: u64,
    skipped: Skipped,
}

/// Why there was no walk.
#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error("cannot open {}", .0.display())]
    Proc(std::path::PathBuf, #[source] rustix::io::Errno),
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn read_tasks(tasks: &mut Tasks, pids: &[u32], skipped: &mut Skipped) -> Vec<Task> {
    pids.iter().filter_map(|&pid| tasks.get(pid, skipped).cloned()).collect()
}

fn count_host(tasks: &mut Tasks, pids: &[u32], skipped: &mut Skipped) -> Host {
    let mut host = Host::default();
    for &pid in pids {
        if let Some(task) = tasks.get(pid, skipped) {
            host.tasks += 1;
            host.threads += u64::from(task.threads);
        }
    }
    host
}

#[cfg(test)]
mod tests;
