//! The names under which the Gthulhu stack scrapes pods of a node: `gthulhu_pod_*`. Behind the switch for reference
//! names, like the others.
//!
//! It names three kinds of migration without saying where they begin and end; here `smt` stays on the core, `l3` leaves
//! the last-level cache, and `numa` leaves the node (and so the cache).

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::watch;

use super::super::{Number, Writer};
use crate::domain::pod::{Pod, PodMap};
use crate::domain::runqueue::{PodRun, RunTotals, RunqueuePair, of_pods};

/// A counter's name, and its value.
type Counter = (&'static str, fn(&RunTotals) -> u64);

const COUNTERS: [Counter; 9] = [
    ("voluntary_ctx_switches", |totals| totals.voluntary_switches),
    ("involuntary_ctx_switches", |totals| totals.involuntary_switches),
    ("cpu_time_nanoseconds", |totals| totals.on_cpu_ns),
    ("wait_time_nanoseconds", |totals| totals.waits.sum_ns),
    ("run_count", |totals| totals.waits.count()),
    ("cpu_migrations", |totals| totals.migrations.total()),
    ("smt_migrations", |totals| totals.migrations.same_core),
    ("l3_migrations", |totals| totals.migrations.same_node.saturating_add(totals.migrations.other_node)),
    ("numa_migrations", |totals| totals.migrations.other_node),
];

/// Reads the latest snapshots at each scrape.
#[derive(Debug)]
pub struct GthulhuCollector {
    /// The latest map of pods.
    pub pods: watch::Receiver<Arc<PodMap>>,
    /// The last two readings of the run queues.
    pub runqueues: watch::Receiver<Arc<RunqueuePair>>,
    /// Value of the label `node_name`.
    pub node: String,
    /// Pods with series at most: those that waited most.
    pub max_pods: usize,
}

impl Collector for GthulhuCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (pods, pair) = (Arc::clone(&self.pods.borrow()), Arc::clone(&self.runqueues.borrow()));
        if pair.now.at_ns == 0 {
            return Ok(());
        }
        let runs = of_pods(&pair.now, &pods);
        let mut all: Vec<_> = pods.pods.iter().zip(&runs.pods).collect();
        all.sort_by_key(|(pod, run)| (std::cmp::Reverse(run.totals.waits.sum_ns), &pod.uid));
        all.truncate(self.max_pods);
        self.write(&all, &mut Writer::new(encoder))
    }
}

impl GthulhuCollector {
    fn write(&self, pods: &[(&Pod, &PodRun)], writer: &mut Writer<'_>) -> fmt::Result {
        for (name, value) in COUNTERS {
            let samples = pods.iter().map(|(pod, run)| (self.labels(pod), value(&run.totals)));
            let help = "Scheduling of the pod's tasks, under the name that the Gthulhu stack uses";
            writer.counters((&format!("gthulhu_pod_{name}"), help), samples)?;
        }
        let count = |pod: &Pod| pod.containers.iter().fold(0, |sum, container| sum + container.tasks.len());
        let samples = pods.iter().map(|(pod, _)| {
            (self.labels(pod), Number::Unsigned(u64::try_from(count(pod)).unwrap_or(u64::MAX)))
        });
        writer.gauges(("gthulhu_pod_process_count", "Processes of the pod"), None, samples)
    }

    fn labels(&self, pod: &Pod) -> [(&'static str, String); 4] {
        [
            ("pod_name", pod.name.clone().unwrap_or_default()),
            ("pod_uid", pod.uid.0.clone()),
            ("namespace", pod.namespace.clone().unwrap_or_default()),
            ("node_name", self.node.clone()),
        ]
    }
}
