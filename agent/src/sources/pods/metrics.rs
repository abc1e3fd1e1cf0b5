//! Metrics of the pods source. Pods and pids never label a series.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::follow::Found;
use super::live::Correction;
use super::skipped::REASONS;
use crate::domain::pod::PodMap;
use crate::domain::source::SourceHealth;

/// The closed set of reasons.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The closed set of what happens, and of what was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// What happens, in the order of [`Found::events`].
const EVENTS: [&str; 4] = ["fork", "exec", "exit", "move"];

/// Metrics of the pods source.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pods: Gauge,
    unnamed: Gauge,
    containers: Gauge,
    tasks: Gauge,
    host_tasks: Gauge,
    generation: Gauge<u64, AtomicU64>,
    duration_seconds: Gauge<f64, AtomicU64>,
    last_success_seconds: Gauge<f64, AtomicU64>,
    walks: Counter,
    stat_reads: Counter,
    failures: Counter,
    skipped: Family<Reason, Gauge>,
    events: Family<Kind, Counter>,
    events_lost: Counter,
    corrections: Family<Kind, Counter>,
    pub(super) reconciles: Counter,
}

impl Metrics {
    /// Registers every metric; the registry's prefix makes `pods` into `sextant_pods`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("pods", "Pods on this node", this.pods.clone());
        registry.register("pods_unnamed", "Pods that no name source knows", this.unnamed.clone());
        registry.register(
            "pod_containers",
            "Containers in pods, sandboxes included",
            this.containers.clone(),
        );
        registry.register("pod_tasks", "Processes in pods", this.tasks.clone());
        registry.register("host_tasks", "Processes in no container", this.host_tasks.clone());
        registry.register("pods_generation", "Changes of the pod map", this.generation.clone());
        registry.register(
            "pods_walk_duration_seconds",
            "Duration of the last walk",
            this.duration_seconds.clone(),
        );
        registry.register(
            "pods_last_success_timestamp_seconds",
            "Wall time of the last walk that succeeded",
            this.last_success_seconds.clone(),
        );
        registry.register("pods_walks", "Walks that succeeded", this.walks.clone());
        registry.register("pods_walk_failures", "Walks that failed", this.failures.clone());
        registry.register("pods_stat_reads", "Files /proc/PID/stat read", this.stat_reads.clone());
        registry.register("pods_skipped", "Entries the last walk could not read", this.skipped.clone());
        registry.register(
            "pods_events",
            "What the kernel told of processes on the whole node",
            this.events.clone(),
        );
        registry.register(
            "pods_events_lost",
            "Events that found no room in the ring",
            this.events_lost.clone(),
        );
        registry.register("pods_reconciles", "Walks of the kernel's own list", this.reconciles.clone());
        registry.register(
            "pods_reconcile_corrections",
            "What a walk set right that no event had told of",
            this.corrections.clone(),
        );
        for kind in EVENTS {
            this.events.get_or_create(&Kind { kind }).inc_by(0);
        }
        for kind in Correction::ALL.map(Correction::name) {
            this.corrections.get_or_create(&Kind { kind }).inc_by(0);
        }
        this
    }

    /// After a look at what the kernel told.
    pub(super) fn followed(&self, found: &Found) {
        for (kind, count) in EVENTS.into_iter().zip(found.events).filter(|(_, count)| *count > 0) {
            self.events.get_or_create(&Kind { kind }).inc_by(count);
        }
        self.events_lost.inc_by(found.lost);
        for correction in &found.corrections {
            self.corrections.get_or_create(&Kind { kind: correction.name() }).inc();
        }
    }

    /// After a walk; `stat_reads` counts from the start of the source.
    pub(super) fn walked(&self, map: &PodMap, health: &SourceHealth, stat_reads: u64) {
        self.map(map);
        self.duration_seconds.set(seconds(i64::try_from(health.last_duration_ns).unwrap_or(i64::MAX)));
        self.last_success_seconds.set(seconds(health.last_success_at_ns.unwrap_or_default()));
        self.walks.inc_by(health.collections.saturating_sub(self.walks.get()));
        self.failures.inc_by(health.failures.saturating_sub(self.failures.get()));
        self.stat_reads.inc_by(stat_reads.saturating_sub(self.stat_reads.get()));
    }

    /// A new map.
    pub(super) fn map(&self, map: &PodMap) {
        self.pods.set(count(map.pods.len()));
        self.unnamed.set(count(map.pods.iter().filter(|pod| pod.name.is_none()).count()));
        self.containers.set(count(map.pods.iter().map(|pod| pod.containers.len()).sum()));
        self.tasks.set(count(map.pod_tasks()));
        self.host_tasks.set(i64::try_from(map.host.tasks).unwrap_or(i64::MAX));
        self.generation.set(map.generation);
        for reason in REASONS {
            let skipped = map.skipped.iter().find(|(word, _)| *word == reason).map_or(0, |(_, count)| *count);
            self.skipped.get_or_create(&Reason { reason }).set(i64::try_from(skipped).unwrap_or(i64::MAX));
        }
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people; 53 bits of nanoseconds are enough")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}
