//! What containers use, per namespace, pod and container; pods beyond the limit together, as `pod="other"` without a
//! namespace.
//!
//! Counters are the kernel's and restart with the cgroup. The sum of the others only grows: it adds up what each of them
//! used between two scrapes while it was one of them, so that no pod that leaves it looks like a restart. Series are of
//! containers only, so that a sum over `container` is the pod's, but for the pause process and tmpfs volumes;
//! `/api/v1/pods` has pods' own figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use super::{Number, Writer};
use crate::domain::pod::{CgroupKind, Container, Pod, PodMap};
use crate::domain::top::top;
use crate::domain::usage::request::{Conversion, cores};
use crate::domain::usage::{Bound, CpuQuota, Pressure, Pressures, Tally, Usage, UsageMap, sum};

/// Reads the latest snapshots at each scrape.
#[derive(Debug)]
pub struct UsageCollector {
    pods: watch::Receiver<Arc<PodMap>>,
    usage: watch::Receiver<Arc<UsageMap>>,
    max_pods: usize,
    memory: Mutex<Memory>,
}

/// What is remembered from one scrape to the next.
#[derive(Debug, Default)]
struct Memory {
    exported: BTreeSet<Key>,
    last: Arc<UsageMap>,
    others: Tally,
}

/// Namespace, and name or uid.
type Key = (String, String);

/// Namespace, pod, container.
type Labels = [(&'static str, String); 3];

impl UsageCollector {
    /// With series of their own for at most `max_pods` pods.
    pub fn new(
        pods: watch::Receiver<Arc<PodMap>>,
        usage: watch::Receiver<Arc<UsageMap>>,
        max_pods: usize,
    ) -> Self {
        Self { pods, usage, max_pods, memory: Mutex::default() }
    }
}

impl Collector for UsageCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let pods = Arc::clone(&self.pods.borrow());
        let usage = Arc::clone(&self.usage.borrow());
        if usage.at_ns == 0 {
            return Ok(());
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let split = memory.split(&pods, &usage, self.max_pods);
        memory.last = Arc::clone(&usage);
        drop(memory);
        split.write(&mut Writer::new(encoder))
    }
}

/// One scrape's samples.
struct Split<'a> {
    own: Vec<(Labels, &'a Usage)>,
    conversion: Option<Conversion>,
    /// Pods without series of their own, now.
    folded: usize,
    /// Present once there was one.
    others: Option<(Tally, Usage)>,
}

impl Memory {
    fn split<'a>(&mut self, pods: &'a PodMap, map: &'a UsageMap, max_pods: usize) -> Split<'a> {
        self.exported = top(&self.exported, weights(pods, map), max_pods);
        let mut own: BTreeMap<Labels, (u64, &Usage)> = BTreeMap::new();
        let (mut folded, mut other) = (BTreeSet::new(), Vec::new());
        for pod in &pods.pods {
            let key = key(pod);
            let is_exported = self.exported.contains(&key);
            for container in pod.containers.iter().filter(|container| container.kind != CgroupKind::Pod) {
                let Some(usage) = map.container(container) else { continue };
                if !is_exported {
                    if let Some(before) = self.last.container(container) {
                        self.others.add(before, usage);
                    }
                    other.push(usage);
                    continue;
                }
                // While a container is replaced there are two of its name: the newer cgroup has the greater id.
                let newest = own.entry(labels(&key, container)).or_insert((container.cgroup_id, usage));
                if newest.0 < container.cgroup_id {
                    *newest = (container.cgroup_id, usage);
                }
            }
            if !is_exported {
                folded.insert(key);
            }
        }
        let others = (!folded.is_empty() || self.others != Tally::default())
            .then(|| (self.others, sum::of(&other).unwrap_or_default()));
        let own = own.into_iter().map(|(labels, (_, usage))| (labels, usage)).collect();
        Split { own, conversion: map.conversion, folded: folded.len(), others }
    }
}

/// Pods by the larger of their shares of what all pods use, in millionths: CPU now, or memory.
fn weights(pods: &PodMap, map: &UsageMap) -> Vec<(Key, u64)> {
    let used = |pod: &Pod| {
        let usage = map.pod(pod).unwrap_or_default();
        let memory =
            usage.memory.map_or(0, |memory| memory.working_set_bytes.unwrap_or(memory.current_bytes));
        (usage.rates.cpu_cores.unwrap_or(0.0), memory)
    };
    let used: Vec<_> = pods.pods.iter().map(|pod| (key(pod), used(pod))).collect();
    let all_cores = used.iter().map(|(_, (cores, _))| cores).sum::<f64>().max(f64::MIN_POSITIVE);
    let all_memory = used.iter().fold(1_u64, |all, (_, (_, memory))| all.saturating_add(*memory));
    let weight = |(cores, memory): (f64, u64)| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share: 0 to a million"
        )]
        let of_cores = (cores / all_cores * 1e6) as u64;
        let of_memory = u128::from(memory) * 1_000_000 / u128::from(all_memory);
        of_cores.max(u64::try_from(of_memory).unwrap_or(0))
    };
    used.into_iter().map(|(key, used)| (key, weight(used))).collect()
}

fn key(pod: &Pod) -> Key {
    (pod.namespace.clone().unwrap_or_default(), pod.name.clone().unwrap_or_else(|| pod.uid.0.clone()))
}

fn labels((namespace, pod): &Key, container: &Container) -> Labels {
    let id = || container.id.as_ref().map_or_else(|| container.kind.name().to_owned(), |id| id.0.clone());
    let name = container.name.clone().unwrap_or_else(id);
    [("namespace", namespace.clone()), ("pod", pod.clone()), ("container", name)]
}

fn others() -> Labels {
    [("namespace", String::new()), ("pod", "other".to_owned()), ("container", String::new())]
}

impl Split<'_> {
    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        self.cpu(writer)?;
        self.memory(writer)?;
        self.io(writer)?;
        self.pressure(writer)?;
        let pids = |usage: &Usage| usage.pids.map(Number::Unsigned);
        self.gauge(writer, "pod_pids", "Processes and threads", None, pids)?;
        let pids = |usage: &Usage| usage.limits.pids_max.and_then(Bound::at).map(Number::Unsigned);
        self.limit(writer, "pod_pids_limit", "Limit of processes and threads", None, pids)?;
        let folded = Number::Unsigned(u64::try_from(self.folded).unwrap_or(u64::MAX));
        let help = "Pods without series of their own, summed as other";
        writer.gauge("pod_usage_folded_pods", help, None, Some(folded))
    }

    fn cpu(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let throttling = |usage: &Usage| usage.cpu.and_then(|cpu| cpu.throttling);
        let value = |usage: &Usage| usage.cpu.map(|cpu| seconds(cpu.usage_usec));
        let other = |tally: &Tally| seconds(tally.usage_usec);
        self.counter(writer, ("pod_cpu_usage", "CPU time"), Some(&Unit::Seconds), value, other)?;
        let value = |usage: &Usage| throttling(usage).map(|throttling| seconds(throttling.throttled_usec));
        let other = |tally: &Tally| seconds(tally.throttled_usec);
        let names = ("pod_cpu_throttled", "Time stopped by the CPU quota, over all CPUs");
        self.counter(writer, names, Some(&Unit::Seconds), value, other)?;
        let value = |usage: &Usage| throttling(usage).map(|throttling| throttling.nr_throttled);
        let names = ("pod_cpu_throttled_periods", "Periods of the CPU quota in which it was throttled");
        self.counter(writer, names, None, value, |tally| tally.nr_throttled)?;
        let value = |usage: &Usage| throttling(usage).map(|throttling| throttling.nr_periods);
        let names = ("pod_cpu_periods", "Periods of the CPU quota in which it wanted to run");
        self.counter(writer, names, None, value, |tally| tally.nr_periods)?;
        let unit = Unit::Other("cores".to_owned());
        let quota =
            |usage: &Usage| usage.limits.cpu.and_then(Bound::at).map(CpuQuota::cores).map(Number::Float);
        self.limit(writer, "pod_cpu_limit", "CPUs that the quota allows", Some(&unit), quota)?;
        let request = |usage: &Usage| {
            usage.limits.cpu_share.and_then(|share| cores(share, self.conversion)).map(Number::Float)
        };
        self.limit(writer, "pod_cpu_request", "CPUs asked for, from the weight", Some(&unit), request)
    }

    fn memory(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let bytes = Some(&Unit::Bytes);
        let value = |usage: &Usage| usage.memory?.working_set_bytes.map(Number::Unsigned);
        self.gauge(writer, "pod_memory_working_set", "Memory without inactive page cache", bytes, value)?;
        let value = |usage: &Usage| usage.memory?.rss_bytes.map(Number::Unsigned);
        self.gauge(writer, "pod_memory_rss", "Anonymous memory", bytes, value)?;
        let value = |usage: &Usage| usage.memory?.swap_bytes.map(Number::Unsigned);
        self.gauge(writer, "pod_memory_swap", "Swap", bytes, value)?;
        let value = |usage: &Usage| usage.limits.memory_max.and_then(Bound::at).map(Number::Unsigned);
        self.limit(writer, "pod_memory_limit", "Memory limit", bytes, value)?;
        let samples = self.own.iter().flat_map(|(labels, usage)| {
            let events = usage.memory.map(|memory| memory.events).unwrap_or_default();
            events
                .iter()
                .filter_map(|(event, count)| Some((with(labels, "event", event), count?)))
                .collect::<Vec<_>>()
        });
        writer.counters(("pod_memory_events", "Memory events of the kernel"), samples)
    }

    fn io(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let bytes = Some(&Unit::Bytes);
        let value = |usage: &Usage| usage.io.as_ref().map(|io| io.rbytes);
        self.counter(writer, ("pod_io_read", "Bytes read from block devices"), bytes, value, |t| t.rbytes)?;
        let value = |usage: &Usage| usage.io.as_ref().map(|io| io.wbytes);
        self.counter(writer, ("pod_io_write", "Bytes written to block devices"), bytes, value, |t| t.wbytes)
    }

    fn pressure(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let samples = |total: fn(Pressure) -> Option<u64>| {
            self.own.iter().flat_map(move |(labels, usage)| {
                let Pressures { cpu, memory, io } = usage.pressure;
                [("cpu", cpu), ("memory", memory), ("io", io)].into_iter().filter_map(
                    move |(resource, pressure)| {
                        Some((with(labels, "resource", resource), seconds(total(pressure?)?)))
                    },
                )
            })
        };
        let some = samples(|pressure| Some(pressure.some.total_usec));
        let help = "Time in which at least one task waited for the resource";
        writer.counters_in(("pod_pressure_waiting", help), Some(&Unit::Seconds), some)?;
        let full = samples(|pressure| Some(pressure.full?.total_usec));
        let help = "Time in which all tasks waited for the resource";
        writer.counters_in(("pod_pressure_stalled", help), Some(&Unit::Seconds), full)
    }

    fn counter<V: prometheus_client::encoding::EncodeCounterValue>(
        &self,
        writer: &mut Writer<'_>,
        names: (&str, &str),
        unit: Option<&Unit>,
        value: impl Fn(&Usage) -> Option<V>,
        other: impl Fn(&Tally) -> V,
    ) -> fmt::Result {
        let own = self.own.iter().filter_map(|(labels, usage)| Some((labels.clone(), value(usage)?)));
        let other = self.others.iter().map(|(tally, _)| (others(), other(tally)));
        writer.counters_in(names, unit, own.chain(other))
    }

    fn gauge(
        &self,
        writer: &mut Writer<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Usage) -> Option<Number>,
    ) -> fmt::Result {
        let own = self.own.iter().filter_map(|(labels, usage)| Some((labels.clone(), value(usage)?)));
        let other = self.others.iter().filter_map(|(_, sum)| Some((others(), value(sum)?)));
        writer.gauges((name, help), unit, own.chain(other))
    }

    /// Limits have no sum.
    fn limit(
        &self,
        writer: &mut Writer<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: impl Fn(&Usage) -> Option<Number>,
    ) -> fmt::Result {
        let own = self.own.iter().filter_map(|(labels, usage)| Some((labels.clone(), value(usage)?)));
        writer.gauges((name, help), unit, own)
    }
}

fn with(labels: &Labels, name: &'static str, value: &str) -> [(&'static str, String); 4] {
    let [namespace, pod, container] = labels.clone();
    [namespace, pod, container, (name, value.to_owned())]
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of centuries fit 53 bits")]
fn seconds(usec: u64) -> f64 {
    usec as f64 / 1e6
}

#[cfg(test)]
mod tests;
