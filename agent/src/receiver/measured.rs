//! What nodes' records measured, as series: under the names and labels of the node's own `/metrics`, with the label `node`.
//!
//! A pod without a known name goes by its uid, a container by its id. What is null is no sample. A scheduler's end is one
//! sample of `sextant_scheduler_exits`, to be counted; other happenings (warnings, anomalies, events) are no series: they are
//! told by `/api/v1/events` and the node's history.

mod database;
mod runqueue;
mod usage;
mod workloads;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::api::bss;
use crate::api::gpu::NodeGpu;
use crate::api::nodes::Nodes;
use crate::api::pods::Pods;
use crate::api::record::{Body, Record};
use crate::api::scheduler::Scheduler;
use crate::domain::bss::BssRecord;
use crate::domain::series::{Labels, NAME, Sample, SeriesSamples};

/// Variables of one scheduler: as many as the node's own exposition has.
const MAX_VARIABLES: usize = 2_000;

/// A record's samples, and how many of its values have labels that are none.
pub fn measured(node: &str, record: &Record) -> (Vec<SeriesSamples>, u64) {
    let mut out = Out::new(node, record.at_ns.div_euclid(1_000_000));
    match &record.body {
        Body::Scheduler(reading) => scheduler(&mut out, reading),
        Body::Usage(usage) => usage::of(&mut out, usage),
        Body::Runqueue(runqueues) => runqueue::of(&mut out, runqueues),
        Body::Pods(pods) => of_pods(&mut out, pods),
        Body::Gpu(gpus) => of_gpus(&mut out, gpus),
        Body::Database(reading) => database::of(&mut out, reading),
        Body::Workloads(all) => workloads::of(&mut out, all),
        Body::BssPosted(posted) => bss(&mut out, posted, &[("source", "posted")]),
        Body::SchedulerExit(exit) => {
            let labels = [("ops", exit.ops.as_str()), ("kind", exit.kind.as_str())];
            out.push("sextant_scheduler_exits", &labels, 1.0);
        }
        Body::SchedulerWarning(_) | Body::SchedulerEvent(_) | Body::Anomaly(_) | Body::Event(_) => {}
    }
    (out.series, out.unfit)
}

/// What nodes dropped, what waits there, and when they were heard last.
#[derive(Debug, Default)]
pub struct Accounts {
    /// The last record of each node that was told, ms since the epoch: it stands at its own time, and is told once. A node
    /// that is gone would else have its last day opened, and packed again, for as long as it is known.
    seen: HashMap<String, i64>,
}

impl Accounts {
    /// They, at a time (ns since the epoch).
    pub fn at(&mut self, now_ns: i64, nodes: &Nodes) -> Vec<SeriesSamples> {
        let mut all = Vec::new();
        for node in &nodes.nodes {
            let mut out = Out::new(&node.node, now_ns.div_euclid(1_000_000));
            for (reason, count) in &node.dropped {
                out.count("sextant_node_dropped_records_total", &[("reason", reason)], Some(*count));
            }
            out.count("sextant_node_spooled_records", &[], Some(node.spooled));
            out.push("sextant_node_lag_seconds", &[], node.lag_seconds);
            self.last_record(&mut out, &node.last_seen);
            all.append(&mut out.series);
        }
        all
    }

    /// What was told last is not stored: it is told again.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    fn last_record(&mut self, out: &mut Out<'_>, last_seen: &str) {
        let Ok(seen) = last_seen.parse::<jiff::Timestamp>() else { return };
        let seen_ms = seen.as_millisecond();
        if self.seen.insert(out.node.to_owned(), seen_ms) != Some(seen_ms) {
            out.at_ms = seen_ms;
            let seen_s = u64::try_from(seen.as_second()).ok();
            out.count("sextant_node_last_record_timestamp_seconds", &[], seen_s);
        }
    }
}

/// Samples of one record.
struct Out<'a> {
    node: &'a str,
    at_ms: i64,
    series: Vec<SeriesSamples>,
    unfit: u64,
    /// Of all labels so far: the series of a record have most of theirs in common.
    texts: HashSet<Arc<str>>,
}

impl<'a> Out<'a> {
    fn new(node: &'a str, at_ms: i64) -> Self {
        Self { node, at_ms, series: Vec::new(), unfit: 0, texts: HashSet::new() }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new = Arc::<str>::from(text);
        self.texts.insert(Arc::clone(&new));
        new
    }

    fn push(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let pairs = [(NAME, metric), ("node", self.node)].into_iter().chain(labels.iter().copied());
        let pairs = pairs.map(|(name, value)| (self.text(name), self.text(value))).collect();
        match Labels::from_pairs(pairs) {
            Ok(labels) => {
                self.series
                    .push(SeriesSamples { labels, samples: vec![Sample { at_ms: self.at_ms, value }] });
            }
            Err(_) => self.unfit += 1,
        }
    }

    fn number(&mut self, metric: &str, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.push(metric, labels, value);
        }
    }

    fn count(&mut self, metric: &str, labels: &[(&str, &str)], value: Option<u64>) {
        if let Some(value) = value {
            self.push(metric, labels, whole(value));
        }
    }

    fn seconds(&mut self, metric: &str, labels: &[(&str, &str)], value_ns: Option<u64>) {
        if let Some(value_ns) = value_ns {
            self.push(metric, labels, whole(value_ns) / 1e9);
        }
    }
}

/// As every time-series store has it: beyond 2^53 the nearest.
#[expect(clippy::cast_precision_loss, reason = "series are of floats")]
const fn whole(value: u64) -> f64 {
    value as f64
}

fn scheduler(out: &mut Out<'_>, reading: &Scheduler) {
    for state in ["unsupported", "disabled", "enabling", "enabled", "disabling"] {
        let is = u64::from(state == reading.state);
        out.count("sextant_scheduler_state", &[("state", state)], Some(is));
    }
    out.count("sextant_scheduler_enable_seq", &[], reading.enable_seq);
    out.count("sextant_scheduler_nr_rejected", &[], reading.nr_rejected);
    out.count("sextant_scheduler_switch_all", &[], reading.switch_all.map(u64::from));
    out.count("sextant_scheduler_hotplug_seq", &[], reading.hotplug_seq);
    out.count("sextant_scheduler_stall_warnings_total", &[], Some(reading.stall_warnings));
    for (event, count) in &reading.events {
        out.count("sextant_scheduler_events_total", &[("event", event)], Some(*count));
    }
    if let Some(margin) = &reading.watchdog {
        out.seconds("sextant_scheduler_watchdog_timeout_seconds", &[], margin.timeout_ns);
        let longest = margin.waiting.map(|_| margin.longest.as_ref().map_or(0, |wait| wait.wait_ns));
        out.seconds("sextant_scheduler_longest_wait_seconds", &[], longest);
        out.seconds("sextant_scheduler_longest_wait_of_epoch_seconds", &[], margin.longest_of_epoch_ns);
        out.count("sextant_scheduler_waiting_tasks", &[], margin.waiting);
    }
    bss(out, &reading.bss, &[]);
    for variable in reading.variables.iter().take(MAX_VARIABLES) {
        let number = variable.value.as_f64();
        let value = number.or_else(|| variable.value.as_bool().map(|on| whole(u64::from(on))));
        if let Some(value) = value {
            let labels = [("section", variable.section.as_str()), ("name", variable.name.as_str())];
            out.push("sextant_scheduler_variable", &labels, value);
        }
    }
}

/// What somebody posted has a label of its own: it may be older than what the node read meanwhile, and of one series the two
/// would look like counters that begin anew.
fn bss(out: &mut Out<'_>, record: &bss::Record, labels: &[(&str, &str)]) {
    for (field, value) in BssRecord::from(record).iter() {
        let total = if field.is_counter() { "_total" } else { "" };
        out.count(&format!("sextant_scheduler_{}{total}", field.name()), labels, value);
    }
}

fn of_pods(out: &mut Out<'_>, pods: &Pods) {
    let count = |count: usize| u64::try_from(count).ok();
    out.count("sextant_pods", &[], count(pods.pods.len()));
    let processes = |pod: &crate::api::pods::Pod| {
        pod.containers.iter().map(|container| container.processes.len()).sum::<usize>()
    };
    out.count("sextant_pod_processes", &[], count(pods.pods.iter().map(processes).sum()));
}

/// Under DCGM's names, with the labels of its exporter.
fn of_gpus(out: &mut Out<'_>, gpus: &NodeGpu) {
    for device in &gpus.devices {
        let labels: Vec<_> = device.labels().collect();
        for (field, value) in gpus.fields.iter().zip(&device.values) {
            if let Some(value) = value {
                out.push(field, &labels, *value);
            }
        }
    }
}

/// Who a pod is.
fn pod_labels<'a>(
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    uid: &'a str,
) -> [(&'static str, &'a str); 2] {
    [("namespace", namespace.unwrap_or_default()), ("pod", name.unwrap_or(uid))]
}

#[cfg(test)]
mod tests;
