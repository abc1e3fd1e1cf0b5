//! From the latest snapshots to [`api::status::Status`](crate::api::status::Status).

use std::cmp::Reverse;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Identity;
use crate::api::runqueue::Recent;
use crate::api::scheduler::Exit;
use crate::api::scheduler::event::Margin;
use crate::api::status::{
    Counter, Delivery, Node, Pod, Pods, Scheduler, Source, Status, Waiting, Watchdog, age_ms,
};
use crate::api::time::rfc3339_seconds;
use crate::domain::pod::{self, PodMap};
use crate::domain::rate::{Reading, per_second};
use crate::domain::runqueue::{PodRun, RunqueuePair, lately};
use crate::domain::scheduler::SchedulerReading;
use crate::domain::source::SourceHealth;
use crate::domain::usage::{Bound, UsageMap};

/// Pods shown: what fits on a screen beside the rest.
const TOP_PODS: usize = 10;

/// Variables, members and reasons are `/api/v1/schedulers`' business; a status names this many events.
const MAX_COUNTERS: usize = 40;

/// The last two readings of the scheduler: a rate needs two.
#[derive(Clone, Debug, Default)]
pub struct Pair {
    before: Option<Arc<SchedulerReading>>,
    now: Arc<SchedulerReading>,
}

/// Keeps the last two readings.
#[derive(Debug, Default)]
pub struct History(ArcSwap<Pair>);

impl History {
    /// Follows the readings until `stop` is cancelled.
    pub async fn follow(
        &self,
        mut readings: watch::Receiver<Arc<SchedulerReading>>,
        stop: CancellationToken,
    ) {
        loop {
            let now = Arc::clone(&readings.borrow_and_update());
            self.push(now);
            tokio::select! {
                () = stop.cancelled() => return,
                // The source may stop first; there is nothing to follow then, but nobody asked us to end.
                changed = readings.changed() => if changed.is_err() { return stop.cancelled().await },
            }
        }
    }

    fn push(&self, now: Arc<SchedulerReading>) {
        let last = self.0.load();
        let before = (last.now.mono_ns != 0).then(|| Arc::clone(&last.now));
        self.0.store(Arc::new(Pair { before, now }));
    }

    /// This reading and, where it is known, the one before it.
    pub fn pair(&self, latest: &Arc<SchedulerReading>) -> Pair {
        let pair = self.0.load();
        if Arc::ptr_eq(&pair.now, latest) {
            return Pair::clone(&pair);
        }
        // The follower has not seen it yet: what it saw last is the one before.
        let before = (pair.now.mono_ns != 0).then(|| Arc::clone(&pair.now));
        Pair { before, now: Arc::clone(latest) }
    }
}

/// What a status is made from.
pub struct Snapshots<'a> {
    /// Who answers.
    pub identity: &'a Identity,
    /// The scheduler, twice.
    pub scheduler: Pair,
    /// The pods.
    pub pods: &'a PodMap,
    /// What they use.
    pub usage: &'a UsageMap,
    /// How they wait for CPUs.
    pub runqueues: &'a RunqueuePair,
    /// The sources.
    pub sources: &'a [SourceHealth],
    /// The way to the receivers.
    pub delivery: Delivery,
}

/// The status at a wall time (ns since the epoch).
pub fn build(snapshots: Snapshots<'_>, now_ns: i64) -> Status {
    let identity = snapshots.identity;
    Status {
        node: Node {
            name: identity.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: identity.kernel.clone(),
            timestamp: rfc3339_seconds(now_ns),
            uptime_s: age_ms(identity.started_at_ns, now_ns) / 1_000,
        },
        scheduler: scheduler(&snapshots.scheduler, snapshots.pods, now_ns),
        sources: snapshots.sources.iter().map(|health| Source::new(health, now_ns)).collect(),
        pods: Pods {
            waiting: waiting(snapshots.pods, snapshots.runqueues),
            ..pods(snapshots.pods, snapshots.usage, now_ns)
        },
        delivery: snapshots.delivery,
    }
}

fn scheduler(pair: &Pair, pods: &PodMap, now_ns: i64) -> Scheduler {
    let now = &*pair.now;
    let before = pair.before.as_deref();
    let rate = |value: u64, previous: &dyn Fn(&SchedulerReading) -> Option<u64>| {
        let before = before?;
        per_second(reading(before, previous(before)?), reading(now, value))
    };
    let fields = now.bss.iter().filter(|(field, _)| field.is_counter()).filter_map(|(field, value)| {
        let (name, total) = (field.name().to_owned(), value?);
        Some(Counter { name, total, per_second: rate(total, &|before| before.bss.get(field)) })
    });
    let events = now.events.iter().map(|(name, total)| {
        let previous =
            |before: &SchedulerReading| before.events.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        Counter { name: name.clone(), total: *total, per_second: rate(*total, &previous) }
    });
    Scheduler {
        state: now.state.name().to_owned(),
        ops: now.ops.as_ref().map(|ops| ops.raw.clone()),
        user_pid: now.user_pid,
        enable_seq: now.enable_seq,
        switch_all: now.switch_all,
        age_ms: age_ms(now.at_ns, now_ns),
        counters: fields.chain(events).take(MAX_COUNTERS).collect(),
        gauges: now
            .bss
            .iter()
            .filter(|(field, _)| !field.is_counter())
            .filter_map(|(field, value)| Some((field.name().to_owned(), value?)))
            .collect(),
        absent: now.bss_absent.iter().map(|(field, why)| (field.name().to_owned(), why.clone())).collect(),
        variables: now.raw.len(),
        watchdog: watchdog(now, pods),
        last_exit: now.last_exit.as_ref().map(Exit::from),
    }
}

fn watchdog(now: &SchedulerReading, pods: &PodMap) -> Option<Watchdog> {
    let margin = now.margin.as_ref()?;
    let waits = |pod: &&pod::Pod| {
        tasks(pod).any(|task| Some(task.key.pid) == margin.longest.as_ref().map(|it| it.pid))
    };
    let pod = pods.pods.iter().find(waits).map(|pod| match (&pod.namespace, &pod.name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => pod.uid.0.clone(),
    });
    Some(Watchdog { margin: Margin::from(margin), share: margin.share(), pod, warnings: now.stall_warnings })
}

/// Both halves of the epoch: either one changes with the scheduler.
fn reading(of: &SchedulerReading, value: u64) -> Reading {
    let maps = of.epoch.map_or(0, |epoch| u64::from(epoch.struct_ops_map_id));
    let enabled = of.epoch.map_or(of.enable_seq.unwrap_or(0), |epoch| epoch.enable_seq);
    Reading { epoch: enabled.rotate_left(32) ^ maps, value, at_ns: of.mono_ns }
}

fn pods(map: &PodMap, usage: &UsageMap, now_ns: i64) -> Pods {
    let mut top: Vec<(usize, &pod::Pod)> = map.pods.iter().map(|pod| (tasks(pod).count(), pod)).collect();
    top.sort_by(|(a_tasks, a), (b_tasks, b)| b_tasks.cmp(a_tasks).then_with(|| a.uid.cmp(&b.uid)));
    top.truncate(TOP_PODS);
    Pods {
        total: map.pods.len(),
        tasks: map.pod_tasks(),
        host_tasks: map.host.tasks,
        age_ms: (map.at_ns != 0).then(|| age_ms(map.at_ns, now_ns)),
        top: top.into_iter().map(|(_, known)| pod(known, usage)).collect(),
        waiting: Vec::new(),
    }
}

/// Pods that waited at all lately, the most patient first.
fn waiting(map: &PodMap, pair: &RunqueuePair) -> Vec<Waiting> {
    let Some((runs, interval_ns)) = lately(pair, map).zip(pair.interval_ns()) else { return Vec::new() };
    let mut waiting: Vec<_> =
        runs.pods.iter().zip(&map.pods).filter(|(run, _)| run.totals.waits.sum_ns > 0).collect();
    waiting.sort_by_key(|(run, pod)| (Reverse(run.totals.waits.sum_ns), &pod.uid));
    waiting.truncate(TOP_PODS);
    let shown = |(run, pod): (&PodRun, &pod::Pod)| Waiting {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.0.clone(),
        longest_recent_wait_ns: run.totals.longest_recent_wait_ns,
        recent: Recent::new(&run.totals, &run.neighbours, interval_ns),
    };
    waiting.into_iter().map(shown).collect()
}

fn tasks(pod: &pod::Pod) -> impl Iterator<Item = &pod::Task> {
    pod.containers.iter().flat_map(|container| &container.tasks)
}

fn pod(pod: &pod::Pod, usage: &UsageMap) -> Pod {
    let usage = usage.pod(pod).unwrap_or_default();
    Pod {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.0.clone(),
        qos: pod.qos.name().to_owned(),
        containers: pod.containers.iter().filter(|container| !container.tasks.is_empty()).count(),
        tasks: tasks(pod).count(),
        threads: tasks(pod).map(|task| u64::from(task.threads)).sum(),
        cpu_cores: usage.rates.cpu_cores,
        throttled_ratio: usage.rates.throttled_ratio,
        memory_working_set_bytes: usage.memory.and_then(|memory| memory.working_set_bytes),
        memory_limit_bytes: usage.limits.memory_max.and_then(Bound::at),
    }
}
