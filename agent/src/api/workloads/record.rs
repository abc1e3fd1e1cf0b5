//! Workloads in the records that a node forwards: one when any of them began, reported, or is over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Figures;
use crate::domain::workload::{self, Workload};

/// Workloads in one record: each has a thread at least, and a node may have so many unless it is told otherwise.
pub const MAX_ROWS: usize = 128;
/// Of a reason: a line. The node itself has the whole of it.
const MAX_REASON_CHARS: usize = 256;

/// A node's workloads at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeWorkloads {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Those that run.
    pub active: u64,
    /// Those that run, and those that are over since the record before.
    pub workloads: Vec<WorkloadRow>,
    /// Of each kind among them, what all of that kind have done since the node began.
    pub kinds: Vec<KindRow>,
    /// Workloads beyond [`MAX_ROWS`].
    pub left_out: usize,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkloadRow {
    /// Names it.
    pub id: String,
    /// What.
    pub kind: String,
    /// Connections, threads or pairs of threads.
    pub threads: u32,
    /// `running`, `stopping`, `stopped`, `ended` or `failed`.
    pub state: String,
    /// `creating_db`, `preparing`, `running` or `stopped`.
    pub phase: String,
    /// Why it is over.
    pub reason: Option<String>,
    /// Wall time, ns since the epoch.
    pub started_at_ns: i64,
    /// Wall time, ns since the epoch.
    pub ended_at_ns: Option<i64>,
    /// Its report; null where there is none since the record before.
    pub report: Option<Figures>,
}

/// What all workloads of a kind have done; null is what none of them did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct KindRow {
    /// Which.
    pub kind: String,
    /// Those that are over: `stopped`, `ended`, `failed`.
    pub runs: BTreeMap<String, u64>,
    /// Events (transactions), by reports.
    pub events: Option<f64>,
    /// Queries, by reports.
    pub queries: Option<f64>,
    /// Errors that were ignored, by reports.
    pub errors: Option<f64>,
}

impl NodeWorkloads {
    /// Of these workloads, each with whether its latest report is new.
    pub fn new<'a>(at_ns: i64, told: impl IntoIterator<Item = (&'a Workload, bool)>) -> Self {
        let mut this = Self { at_ns, ..Self::default() };
        for (workload, reported) in told {
            this.active += u64::from(workload.state.is_active());
            if this.workloads.len() < MAX_ROWS {
                this.workloads.push(WorkloadRow::new(workload, reported));
            } else {
                this.left_out += 1;
            }
        }
        this
    }
}

impl WorkloadRow {
    fn new(workload: &Workload, reported: bool) -> Self {
        let Workload { id, kind, threads, state, phase, started_at_ns, ended_at_ns, .. } = workload;
        Self {
            id: id.clone(),
            kind: kind.name().to_owned(),
            threads: *threads,
            state: state.name().to_owned(),
            phase: phase.name().to_owned(),
            reason: workload.reason.as_ref().map(|why| why.chars().take(MAX_REASON_CHARS).collect()),
            started_at_ns: *started_at_ns,
            ended_at_ns: *ended_at_ns,
            report: workload.latest.as_ref().filter(|_| reported).map(Figures::from),
        }
    }
}

impl From<&workload::KindSums> for KindRow {
    fn from(sums: &workload::KindSums) -> Self {
        Self {
            kind: sums.kind.name().to_owned(),
            runs: sums.runs.iter().map(|(state, runs)| (state.name().to_owned(), *runs)).collect(),
            events: sums.events,
            queries: sums.queries,
            errors: sums.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::batch::MAX_RECORD_BYTES;
    use crate::domain::workload::{Builtin, Kind, KindSums, Phase, State, Totals};

    fn workload(id: &str, state: State, latest: Option<workload::Figures>) -> Workload {
        Workload {
            id: id.to_owned(),
            kind: Kind::Builtin(Builtin::PingPong),
            threads: 2,
            duration_s: 60,
            rate: None,
            state,
            phase: if state.is_active() { Phase::Running } else { Phase::Stopped },
            progress: None,
            reason: (state == State::Failed).then(|| "\u{7}".repeat(10_000)),
            pid: None,
            started_at_ns: i64::MAX,
            ended_at_ns: None,
            latest,
            series: Vec::new(),
            totals: Totals::default(),
        }
    }

    fn report() -> workload::Figures {
        workload::Figures {
            at_s: 3,
            threads: 2,
            events_per_s: 10.5,
            percentile: 95,
            latency_ms: 1.25,
            queries: None,
        }
    }

    #[test]
    fn a_report_is_told_once_and_what_a_load_does_not_say_is_null() {
        let (new, old) =
            (workload("a", State::Running, Some(report())), workload("b", State::Ended, Some(report())));
        let mut record = NodeWorkloads::new(7, [(&new, true), (&old, false)]);
        let sums = KindSums {
            kind: new.kind,
            runs: vec![(State::Ended, 1)],
            events: Some(31.5),
            queries: None,
            errors: None,
        };
        record.kinds.push((&sums).into());
        let json = serde_json::to_value(&record).unwrap();
        let row = |id: &str, state: &str, phase: &str| {
            serde_json::json!({
                "id": id, "kind": "ping_pong", "threads": 2, "state": state, "phase": phase, "reason": null,
                "started_at_ns": i64::MAX, "ended_at_ns": null, "report": null,
            })
        };
        let mut told = row("a", "running", "running");
        told["report"] = serde_json::json!({
            "at_s": 3, "threads": 2, "tps": 10.5, "qps": null, "reads_per_s": null, "writes_per_s": null,
            "errors_per_s": null, "reconnects_per_s": null, "latency_percentile": 95, "latency_ms": 1.25,
        });
        let wanted = serde_json::json!({
            "at_ns": 7, "active": 1, "workloads": [told, row("b", "ended", "stopped")], "left_out": 0,
            "kinds": [{"kind": "ping_pong", "runs": {"ended": 1}, "events": 31.5, "queries": null, "errors": null}],
        });
        assert_eq!(json, wanted);
        assert_eq!(serde_json::from_value::<NodeWorkloads>(json).unwrap(), record);
    }

    #[test]
    fn the_largest_record_fits_and_says_what_it_leaves_out() {
        let failed = workload(&"x".repeat(64), State::Failed, Some(report()));
        let running = workload("r", State::Running, None);
        let many = std::iter::repeat_n((&failed, true), MAX_ROWS).chain([(&running, false)]);
        let record = NodeWorkloads::new(7, many);
        assert_eq!((record.workloads.len(), record.left_out, record.active), (MAX_ROWS, 1, 1));
        let size = serde_json::to_vec(&record).unwrap().len();
        assert!(size < MAX_RECORD_BYTES / 4, "{size} bytes");
    }
}
