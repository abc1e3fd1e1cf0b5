//! How pods wait for CPUs, per namespace, pod and container; pods beyond the limit together, as `pod="other"` without a
//! namespace.
//!
//! Totals are since the node agent began to measure. The sum of the others only grows: it adds up what each of them
//! counted between two scrapes while it was one of them. What removed containers of a pod left is the pod's with an
//! empty `container`, so that a sum over `container` is the pod's and never goes backwards while it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use super::{Number, Writer, seconds};
use crate::domain::histogram::Histogram;
use crate::domain::pod::{Container, Pod, PodMap};
use crate::domain::runqueue::{Losses, PodRun, RunTotals, RunqueuePair, Runs, of_pods};
use crate::domain::top::top;

pub mod reference;

/// Pods whose neighbours are exported, and how many of each: a matrix of all is the square of the pods.
const BLAMED_PODS: usize = 20;
const NEIGHBOURS: usize = 3;

/// Reads the latest snapshots at each scrape.
#[derive(Debug)]
pub struct RunqueueCollector {
    pods: watch::Receiver<Arc<PodMap>>,
    runqueues: watch::Receiver<Arc<RunqueuePair>>,
    max_pods: usize,
    memory: Mutex<Memory>,
}

/// What is remembered from one scrape to the next.
#[derive(Debug, Default)]
struct Memory {
    exported: BTreeSet<Key>,
    last: BTreeMap<Key, RunTotals>,
    others: RunTotals,
}

/// Namespace, and name or uid.
type Key = (String, String);

/// Namespace, pod, container.
type Labels = [(&'static str, String); 3];

impl RunqueueCollector {
    /// With series of their own for at most `max_pods` pods.
    pub fn new(
        pods: watch::Receiver<Arc<PodMap>>,
        runqueues: watch::Receiver<Arc<RunqueuePair>>,
        max_pods: usize,
    ) -> Self {
        Self { pods, runqueues, max_pods, memory: Mutex::default() }
    }
}

impl Collector for RunqueueCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pods = Arc::clone(&self.pods.borrow());
        let pair = Arc::clone(&self.runqueues.borrow());
        if pair.now.at_ns == 0 {
            return Ok(());
        }
        let runs = of_pods(&pair.now, &pods);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let split = memory.split(&pods, &runs, self.max_pods);
        drop(memory);
        let mut writer = Writer::new(encoder);
        split.write(&mut writer)?;
        host(&mut writer, &runs.host)?;
        losses(&mut writer, pair.now.losses)
    }
}

/// One scrape's samples.
struct Split<'a> {
    own: BTreeMap<Labels, RunTotals>,
    neighbours: Vec<(Key, &'a [(String, u64)])>,
    /// Pods without series of their own, now.
    folded: usize,
    /// Present once there was one.
    others: Option<RunTotals>,
}

impl Memory {
    fn split<'a>(&mut self, pods: &PodMap, runs: &'a Runs, max_pods: usize) -> Split<'a> {
        let all = || pods.pods.iter().zip(&runs.pods).map(|(pod, run)| (key(pod), pod, run));
        let waited = |run: &PodRun| run.totals.waits.sum_ns;
        self.exported = top(&self.exported, all().map(|(key, _, run)| (key, waited(run))), max_pods);
        let mut split = Split { own: BTreeMap::new(), neighbours: Vec::new(), folded: 0, others: None };
        for (key, pod, run) in all() {
            if self.exported.contains(&key) {
                split.add(&key, pod, run);
                split.neighbours.push((key.clone(), &run.neighbours));
            } else {
                split.folded += 1;
                if let Some(delta) = self.last.get(&key).and_then(|before| run.totals.since(before)) {
                    self.others.add(&delta);
                }
            }
        }
        split.neighbours.sort_by_key(|(_, names)| std::cmp::Reverse(names.first().map(|(_, ns)| *ns)));
        split.neighbours.truncate(BLAMED_PODS);
        self.last = all().map(|(key, _, run)| (key, run.totals)).collect();
        split.others = (split.folded > 0 || self.others != RunTotals::default()).then_some(self.others);
        split
    }
}

impl Split<'_> {
    fn add(&mut self, key: &Key, pod: &Pod, run: &PodRun) {
        let mut rest = Some(run.totals);
        // Of containers that never ran anything there is nothing to say.
        let ran = |(_, totals): &(&Container, &RunTotals)| totals.waits.count() > 0;
        for (container, totals) in pod.containers.iter().zip(&run.containers).filter(ran) {
            let id = || container.id.as_ref().map_or_else(String::new, |id| id.0.clone());
            let labels = labels(key, container.name.clone().unwrap_or_else(id));
            self.own.entry(labels).or_default().add(totals);
            rest = rest.and_then(|rest| rest.since(totals));
        }
        if let Some(rest) = rest.filter(|rest| rest.waits.count() > 0) {
            // The longest wait was one of a living container's.
            let rest = RunTotals { longest_recent_wait_ns: 0, ..rest };
            self.own.entry(labels(key, String::new())).or_default().add(&rest);
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let help = "Time between being able to run and running";
        let samples = self.samples(|totals| totals.waits);
        writer.histograms(("pod_runqueue_latency", help), samples)?;
        let longest = self
            .own
            .iter()
            .map(|(labels, totals)| (labels.clone(), Number::Float(seconds(totals.longest_recent_wait_ns))));
        let help = "The longest wait of the last 9 to 17 seconds";
        writer.gauges(("pod_runqueue_longest_wait", help), Some(&Unit::Seconds), longest)?;
        let help = "Time on a CPU, as the scheduler counts it";
        let samples = self.samples(|totals| seconds(totals.on_cpu_ns));
        writer.counters_in(("pod_on_cpu", help), Some(&Unit::Seconds), samples)?;
        let help = "Time neither on a CPU nor waiting for one, over all tasks";
        let samples = self.samples(|totals| seconds(totals.blocked_ns));
        writer.counters_in(("pod_blocked", help), Some(&Unit::Seconds), samples)?;
        let kinds = |totals: &RunTotals| {
            [("voluntary", totals.voluntary_switches), ("involuntary", totals.involuntary_switches)]
        };
        let help = "Times that a task left a CPU: it had to wait for something, or could have gone on";
        writer.counters(("pod_context_switches", help), self.by("kind", kinds))?;
        let distances = |totals: &RunTotals| {
            let moved = totals.migrations;
            [
                ("same_core", moved.same_core),
                ("same_llc", moved.same_llc),
                ("same_node", moved.same_node),
                ("other_node", moved.other_node),
            ]
        };
        let help = "Times that a task came to another CPU than the one before, by what the two share";
        writer.counters(("pod_cpu_migrations", help), self.by("distance", distances))?;
        let blamed = self.neighbours.iter().flat_map(|((namespace, pod), names)| {
            names.iter().take(NEIGHBOURS).map(move |(neighbour, ns)| {
                let labels = [
                    ("namespace", namespace.clone()),
                    ("pod", pod.clone()),
                    ("neighbour", neighbour.clone()),
                ];
                (labels, Number::Float(seconds(*ns)))
            })
        });
        let help =
            "Time that the pod waited for a CPU which the neighbour had, since both are known; the worst few";
        writer.gauges(("pod_neighbour_wait", help), Some(&Unit::Seconds), blamed)?;
        let folded = Number::Unsigned(u64::try_from(self.folded).unwrap_or(u64::MAX));
        let help = "Pods without series of their own, summed as other";
        writer.gauge("pod_runqueue_folded_pods", help, None, Some(folded))
    }

    fn samples<V>(&self, value: impl Fn(&RunTotals) -> V) -> Vec<(Labels, V)> {
        let other = [("namespace", String::new()), ("pod", "other".to_owned()), ("container", String::new())];
        let own = self.own.iter().map(|(labels, totals)| (labels.clone(), value(totals)));
        own.chain(self.others.iter().map(|totals| (other.clone(), value(totals)))).collect()
    }

    fn by<const N: usize>(
        &self,
        label: &'static str,
        values: impl Fn(&RunTotals) -> [(&'static str, u64); N],
    ) -> Vec<([(&'static str, String); 4], u64)> {
        let of = |(labels, values): (Labels, [(&'static str, u64); N])| {
            let [namespace, pod, container] = labels;
            values.map(|(word, value)| {
                ([namespace.clone(), pod.clone(), container.clone(), (label, word.to_owned())], value)
            })
        };
        self.samples(values).into_iter().flat_map(of).collect()
    }
}

fn host(writer: &mut Writer<'_>, totals: &RunTotals) -> fmt::Result {
    let help = "Time between being able to run and running, of tasks outside pods";
    writer.histogram("host_runqueue_latency", help, &totals.waits)
}

fn losses(writer: &mut Writer<'_>, losses: Losses) -> fmt::Result {
    let help =
        "What could not be counted as it should: what is beyond the limits, and stints without a beginning";
    let all = [
        ("cgroups", losses.cgroups),
        ("threads", losses.threads),
        ("blames", losses.blames),
        ("stints", losses.stints),
    ];
    let samples = all.map(|(what, count)| ([("what", what)], count));
    writer.counters(("runqueue_losses", help), samples)
}

fn key(pod: &Pod) -> Key {
    (pod.namespace.clone().unwrap_or_default(), pod.name.clone().unwrap_or_else(|| pod.uid.0.clone()))
}

fn labels((namespace, pod): &Key, container: String) -> Labels {
    [("namespace", namespace.clone()), ("pod", pod.clone()), ("container", container)]
}

/// Sum, count, and occurrences below each bucket's end. Prometheus means "at most", the slots "less than"; nobody can
/// tell the two apart at a nanosecond.
pub(super) fn buckets(histogram: &Histogram) -> (f64, u64, Vec<(f64, u64)>) {
    let end = |end_ns: Option<u64>| end_ns.map_or(f64::INFINITY, seconds);
    let buckets = histogram.buckets().into_iter().map(|(end_ns, inside)| (end(end_ns), inside)).collect();
    (seconds(histogram.sum_ns), histogram.count(), buckets)
}

#[cfg(test)]
mod tests;
