//! What containers use.

use super::{Out, pod_labels, whole};
use crate::api::usage::record::{NodeUsage, Row};

/// A field of the record; its series' name; a label it has beside the container's; what one of its units is.
type Told = (&'static str, &'static str, Option<(&'static str, &'static str)>, f64);

const USEC: f64 = 1e-6;

const TOLD: [Told; 27] = [
    ("usage_usec", "sextant_pod_cpu_usage_seconds_total", None, USEC),
    ("nr_periods", "sextant_pod_cpu_periods_total", None, 1.0),
    ("nr_throttled", "sextant_pod_cpu_throttled_periods_total", None, 1.0),
    ("throttled_usec", "sextant_pod_cpu_throttled_seconds_total", None, USEC),
    ("memory_current_bytes", "sextant_pod_memory_current_bytes", None, 1.0),
    ("memory_working_set_bytes", "sextant_pod_memory_working_set_bytes", None, 1.0),
    ("memory_rss_bytes", "sextant_pod_memory_rss_bytes", None, 1.0),
    ("memory_swap_bytes", "sextant_pod_memory_swap_bytes", None, 1.0),
    ("memory_low", "sextant_pod_memory_events_total", Some(("event", "low")), 1.0),
    ("memory_high", "sextant_pod_memory_events_total", Some(("event", "high")), 1.0),
    ("memory_max", "sextant_pod_memory_events_total", Some(("event", "max")), 1.0),
    ("memory_oom", "sextant_pod_memory_events_total", Some(("event", "oom")), 1.0),
    ("memory_oom_kill", "sextant_pod_memory_events_total", Some(("event", "oom_kill")), 1.0),
    ("rbytes", "sextant_pod_io_read_bytes_total", None, 1.0),
    ("wbytes", "sextant_pod_io_write_bytes_total", None, 1.0),
    ("pids", "sextant_pod_pids", None, 1.0),
    ("pids_max", "sextant_pod_pids_limit", None, 1.0),
    ("memory_max_bytes", "sextant_pod_memory_limit_bytes", None, 1.0),
    ("cpu_some_usec", "sextant_pod_pressure_waiting_seconds_total", Some(("resource", "cpu")), USEC),
    ("memory_some_usec", "sextant_pod_pressure_waiting_seconds_total", Some(("resource", "memory")), USEC),
    ("io_some_usec", "sextant_pod_pressure_waiting_seconds_total", Some(("resource", "io")), USEC),
    ("cpu_full_usec", "sextant_pod_pressure_stalled_seconds_total", Some(("resource", "cpu")), USEC),
    ("memory_full_usec", "sextant_pod_pressure_stalled_seconds_total", Some(("resource", "memory")), USEC),
    ("io_full_usec", "sextant_pod_pressure_stalled_seconds_total", Some(("resource", "io")), USEC),
    ("user_usec", "sextant_pod_cpu_user_seconds_total", None, USEC),
    ("system_usec", "sextant_pod_cpu_system_seconds_total", None, USEC),
    ("rios", "sextant_pod_io_reads_total", None, 1.0),
];

pub(super) fn of(out: &mut Out<'_>, usage: &NodeUsage) {
    let at = |field: &str| usage.fields.iter().position(|known| known == field);
    let told = TOLD.map(|(field, metric, label, unit)| (at(field), metric, label, unit));
    let (quota, period) = (at("cpu_quota_usec"), at("cpu_period_usec"));
    let value = |row: &Row, at: Option<usize>| at.and_then(|at| row.values.get(at).copied().flatten());
    for pod in &usage.pods {
        let [namespace, name] = pod_labels(pod.namespace.as_deref(), pod.name.as_deref(), &pod.uid);
        for container in &pod.containers {
            let own = container.name.as_deref().or(container.id.as_deref()).unwrap_or_default();
            let labels = [namespace, name, ("container", own)];
            for (at, metric, label, unit) in told {
                let Some(value) = value(&container.row, at) else { continue };
                match label {
                    None => out.push(metric, &labels, whole(value) * unit),
                    Some(label) => {
                        let [namespace, name, container] = labels;
                        out.push(metric, &[namespace, name, container, label], whole(value) * unit);
                    }
                }
            }
            if let Some((quota, period)) = value(&container.row, quota).zip(value(&container.row, period))
                && period > 0
            {
                out.push("sextant_pod_cpu_limit_cores", &labels, whole(quota) / whole(period));
            }
        }
    }
}
