//! What workloads report, and what all of a kind have done.

use super::Out;
use crate::api::workloads::record::NodeWorkloads;

pub(super) fn of(out: &mut Out<'_>, all: &NodeWorkloads) {
    out.count("sextant_workload_active", &[], Some(all.active));
    for workload in &all.workloads {
        let Some(report) = &workload.report else { continue };
        let labels = [("workload", workload.id.as_str()), ("kind", workload.kind.as_str())];
        out.push("sextant_workload_threads", &labels, f64::from(report.threads));
        out.push("sextant_workload_event_rate", &labels, report.tps);
        out.push("sextant_workload_latency_seconds", &labels, report.latency_ms / 1_000.0);
        out.number("sextant_workload_query_rate", &labels, report.qps);
        out.number("sextant_workload_error_rate", &labels, report.errors_per_s);
    }
    for kind in &all.kinds {
        let labels = [("kind", kind.kind.as_str())];
        out.number("sextant_workload_events_total", &labels, kind.events);
        out.number("sextant_workload_queries_total", &labels, kind.queries);
        out.number("sextant_workload_errors_total", &labels, kind.errors);
        let [of_kind] = labels;
        for (result, runs) in &kind.runs {
            out.count("sextant_workload_runs_total", &[of_kind, ("result", result)], Some(*runs));
        }
    }
}
