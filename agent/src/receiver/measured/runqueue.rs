//! How containers wait for CPUs.

use super::{Out, pod_labels, whole};
use crate::api::runqueue::record::{NodeRunqueue, RunqueueRow};

pub(super) fn of(out: &mut Out<'_>, runqueues: &NodeRunqueue) {
    for pod in &runqueues.pods {
        let [namespace, name] = pod_labels(pod.namespace.as_deref(), pod.name.as_deref(), &pod.uid);
        for container in &pod.containers {
            let own = container.name.as_deref().or(container.id.as_deref()).unwrap_or_default();
            row(out, runqueues, &[namespace, name, ("container", own)], &container.row);
        }
    }
}

fn row(out: &mut Out<'_>, runqueues: &NodeRunqueue, labels: &[(&str, &str); 3], row: &RunqueueRow) {
    let totals = runqueues.totals(row);
    let [namespace, pod, container] = *labels;
    let mut below = 0_u64;
    for (end_ns, inside) in totals.waits.buckets() {
        below = below.saturating_add(inside);
        let end = end_ns.map_or_else(|| "+Inf".to_owned(), |end_ns| (whole(end_ns) / 1e9).to_string());
        let labels = [namespace, pod, container, ("le", end.as_str())];
        out.count("sextant_pod_runqueue_latency_seconds_bucket", &labels, Some(below));
    }
    out.count("sextant_pod_runqueue_latency_seconds_count", labels, Some(totals.waits.count()));
    out.seconds("sextant_pod_runqueue_latency_seconds_sum", labels, Some(totals.waits.sum_ns));
    out.seconds("sextant_pod_runqueue_longest_wait_seconds", labels, Some(totals.longest_recent_wait_ns));
    out.seconds("sextant_pod_on_cpu_seconds_total", labels, Some(totals.on_cpu_ns));
    out.seconds("sextant_pod_blocked_seconds_total", labels, Some(totals.blocked_ns));
    for (kind, count) in
        [("voluntary", totals.voluntary_switches), ("involuntary", totals.involuntary_switches)]
    {
        let labels = [namespace, pod, container, ("kind", kind)];
        out.count("sextant_pod_context_switches_total", &labels, Some(count));
    }
    let moved = totals.migrations;
    for (distance, count) in [
        ("same_core", moved.same_core),
        ("same_llc", moved.same_llc),
        ("same_node", moved.same_node),
        ("other_node", moved.other_node),
    ] {
        let labels = [namespace, pod, container, ("distance", distance)];
        out.count("sextant_pod_cpu_migrations_total", &labels, Some(count));
    }
}
