//! Workloads on the wire: `/api/v1/workloads` in full, `/api/workload/*` as the reference backend's document has them.
//!
//! Times are seconds, latencies milliseconds. An event is a transaction where there is a database.

pub mod record;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339_seconds;
use crate::domain::workload::{self, Asked, Kind, Tables, Workload};

/// What the reference's own code starts when it is asked for `sysbench`.
const SYSBENCH: &str = "sysbench";
const SYSBENCH_KIND: &str = "oltp_read_write";
/// As the document's example.
const DEFAULT_THREADS: u32 = 4;

/// What `POST /api/v1/workloads` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WorkloadRequest)]
pub struct Request {
    /// A script of sysbench (`oltp_read_write` ...), or `ping_pong`, `fork_storm`, `cpu_burst`, `batch`.
    pub kind: String,
    /// 1 to 64; 4 by default.
    #[serde(default)]
    pub threads: Option<u32>,
    /// How long, s; by default as long as the node's operator allows.
    #[serde(default)]
    pub duration: Option<u32>,
    /// Events a second; by default as many as go.
    #[serde(default)]
    pub rate: Option<u32>,
}

impl Request {
    /// What is asked for.
    ///
    /// # Errors
    /// A kind that there is not, in words.
    pub fn asked(&self) -> Result<Asked, String> {
        let Self { threads, duration, rate, .. } = *self;
        let threads = threads.unwrap_or(DEFAULT_THREADS);
        Ok(Asked { kind: kind("kind", &self.kind)?, threads, duration_s: duration, rate })
    }
}

/// What `POST /api/workload/start` takes: the document's form, or that of the reference's code. Other keys are ignored, as
/// the reference does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReferenceWorkloadRequest)]
pub struct ReferenceRequest {
    /// `oltp_read_write`, `oltp_read_only`, `oltp_write_only`, or any kind there is.
    #[serde(default)]
    pub workload_type: Option<String>,
    /// `sysbench`: the second form's word for `oltp_read_write`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// 1 to 64; 4 by default.
    #[serde(default)]
    pub threads: Option<i64>,
}

impl ReferenceRequest {
    /// What is asked for.
    ///
    /// # Errors
    /// A kind that there is not or threads that cannot be, in words.
    pub fn asked(&self) -> Result<Asked, String> {
        let named = match (&self.workload_type, &self.kind) {
            (Some(name), _) => ("workload_type", name.as_str()),
            (None, Some(name)) => ("type", if name == SYSBENCH { SYSBENCH_KIND } else { name }),
            (None, None) => return Err(format!("workload_type is missing; any of {}", Kind::names())),
        };
        let threads = self.threads.unwrap_or_else(|| DEFAULT_THREADS.into());
        let threads = u32::try_from(threads).map_err(|_| format!("threads: {threads} is outside 1 to 64"))?;
        Ok(Asked { kind: kind(named.0, named.1)?, threads, duration_s: None, rate: None })
    }
}

fn kind(field: &str, name: &str) -> Result<Kind, String> {
    Kind::named(name).ok_or_else(|| format!("{field}: {name:?} is none; any of {}", Kind::names()))
}

/// What `POST /api/workload/prepare` takes; nothing at all is the usual case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrepareRequest {
    /// How many; by default `[workloads] tables`.
    #[serde(default)]
    pub tables: Option<u32>,
    /// Rows of each; by default `[workloads] table_size`.
    #[serde(default)]
    pub table_size: Option<u32>,
    /// Tables made at once.
    #[serde(default)]
    pub threads: Option<u32>,
    /// Drop the tables that are there.
    #[serde(default)]
    pub recreate: bool,
}

impl PrepareRequest {
    /// The tables, where nothing is said these.
    pub fn tables(&self, count: u32, rows: u32) -> Tables {
        Tables {
            count: self.tables.unwrap_or(count),
            rows: self.table_size.unwrap_or(rows),
            recreate: self.recreate,
        }
    }
}

/// `{"workload_id":"...","status":"..."}`: every success of the reference's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadDone)]
pub struct Done {
    /// Names it; `prepare` and `all` for those two.
    pub workload_id: String,
    /// A sentence.
    pub status: String,
}

impl Done {
    /// With this sentence.
    pub fn new(id: &str, status: &str) -> Self {
        Self { workload_id: id.to_owned(), status: status.to_owned() }
    }
}

/// What `GET /api/workload/active` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ActiveWorkloads)]
pub struct ActiveList {
    /// Those that run.
    pub workloads: Vec<Active>,
}

/// One of them: the document's two keys, beside them those of the reference's code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ActiveWorkload)]
pub struct Active {
    /// Names it.
    pub workload_id: String,
    /// Always true.
    pub running: bool,
    /// The same id.
    pub id: String,
    /// What.
    #[serde(rename = "type")]
    pub kind: String,
    /// Connections, threads or pairs of threads.
    pub threads: u32,
    /// Its process.
    pub pid: Option<u32>,
}

impl From<&Workload> for Active {
    fn from(workload: &Workload) -> Self {
        Self {
            workload_id: workload.id.clone(),
            running: true,
            id: workload.id.clone(),
            kind: workload.kind.name().to_owned(),
            threads: workload.threads,
            pid: workload.pid,
        }
    }
}

/// One report.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadFigures)]
pub struct Figures {
    /// Since the start, s.
    pub at_s: u32,
    /// Threads at work.
    pub threads: u32,
    /// Events (transactions) a second.
    pub tps: f64,
    /// Queries a second; null without a database, as the next four.
    pub qps: Option<f64>,
    /// Of them reads.
    pub reads_per_s: Option<f64>,
    /// Of them writes.
    pub writes_per_s: Option<f64>,
    /// Errors a second that were ignored.
    pub errors_per_s: Option<f64>,
    /// Connections made anew a second.
    pub reconnects_per_s: Option<f64>,
    /// Of which percentile the latency is.
    pub latency_percentile: u32,
    /// Latency of an event, ms.
    pub latency_ms: f64,
}

/// A report as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadPoint)]
pub struct Point {
    /// Since the start, s.
    pub at_s: u32,
    /// Events (transactions) a second.
    pub tps: f64,
    /// Queries a second; null without a database, as errors.
    pub qps: Option<f64>,
    /// Latency of an event at the report's percentile, ms.
    pub latency_ms: f64,
    /// Errors a second that were ignored.
    pub errors_per_s: Option<f64>,
}

/// The sum of all reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadTotals)]
pub struct Totals {
    /// Time that reports cover, s.
    pub covered_s: u32,
    /// Events (transactions), as the reports' rates add up.
    pub events: f64,
    /// Queries; null without a database, as errors.
    pub queries: Option<f64>,
    /// Errors that were ignored.
    pub errors: Option<f64>,
    /// Events a second over all of it; null before the first report.
    pub tps: Option<f64>,
    /// The highest latency of all reports, each at its percentile, ms.
    pub worst_latency_ms: Option<f64>,
}

/// How far the making of tables is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadProgress)]
pub struct Progress {
    /// Steps that have begun.
    pub begun: u32,
    /// Steps in all.
    pub of: u32,
    /// The latest, in sysbench's words.
    pub step: String,
}

/// A workload as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadView)]
pub struct View {
    /// Names it.
    pub id: String,
    /// What.
    pub kind: String,
    /// Connections, threads or pairs of threads.
    pub threads: u32,
    /// When it ends by itself, s after its start.
    pub duration: u32,
    /// Events a second that were asked for.
    pub rate: Option<u32>,
    /// `running`, `stopping`, `stopped`, `ended` or `failed`.
    pub state: String,
    /// `creating_db`, `preparing`, `running` or `stopped`.
    pub phase: String,
    /// How far the making of tables is.
    pub progress: Option<Progress>,
    /// Why it is over.
    pub reason: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// Wall time.
    pub started_at: String,
    /// Wall time.
    pub ended_at: Option<String>,
    /// The latest report.
    pub latest: Option<Figures>,
    /// The sum of all reports.
    pub totals: Totals,
    /// The reports over time, at most 600; left out of lists and streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Vec<Point>>,
}

/// What `GET /api/v1/workloads` answers, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadList)]
pub struct List {
    /// They may be started.
    pub enabled: bool,
    /// Why not, and how to allow it.
    pub off_because: Option<String>,
    /// Those that run, and the last that did.
    pub workloads: Vec<View>,
}

/// What `DELETE /api/v1/workloads` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkloadsStopped)]
pub struct Stopped {
    /// How many ran.
    pub stopped: usize,
}

impl View {
    /// With its reports over time.
    pub fn whole(workload: &Workload) -> Self {
        let point = |point: &workload::Point| Point {
            at_s: point.at_s,
            tps: point.events_per_s,
            qps: point.queries_per_s,
            latency_ms: point.latency_ms,
            errors_per_s: point.errors_per_s,
        };
        Self { series: Some(workload.series.iter().map(point).collect()), ..Self::from(workload) }
    }
}

impl From<&Workload> for View {
    fn from(workload: &Workload) -> Self {
        let Workload { id, kind, threads, duration_s, rate, state, phase, .. } = workload;
        let progress = |progress: &workload::Progress| Progress {
            begun: progress.begun,
            of: progress.of,
            step: progress.step.clone(),
        };
        Self {
            id: id.clone(),
            kind: kind.name().to_owned(),
            threads: *threads,
            duration: *duration_s,
            rate: *rate,
            state: state.name().to_owned(),
            phase: phase.name().to_owned(),
            progress: workload.progress.as_ref().map(progress),
            reason: workload.reason.clone(),
            pid: workload.pid,
            started_at: rfc3339_seconds(workload.started_at_ns),
            ended_at: workload.ended_at_ns.map(rfc3339_seconds),
            latest: workload.latest.as_ref().map(Figures::from),
            totals: (&workload.totals).into(),
            series: None,
        }
    }
}

impl From<&workload::Figures> for Figures {
    fn from(figures: &workload::Figures) -> Self {
        let queries = figures.queries;
        Self {
            at_s: figures.at_s,
            threads: figures.threads,
            tps: figures.events_per_s,
            qps: queries.map(|queries| queries.per_s),
            reads_per_s: queries.map(|queries| queries.reads_per_s),
            writes_per_s: queries.map(|queries| queries.writes_per_s),
            errors_per_s: queries.map(|queries| queries.errors_per_s),
            reconnects_per_s: queries.map(|queries| queries.reconnects_per_s),
            latency_percentile: figures.percentile,
            latency_ms: figures.latency_ms,
        }
    }
}

impl From<&workload::Totals> for Totals {
    fn from(totals: &workload::Totals) -> Self {
        let cents = |value: f64| (value * 100.0).round() / 100.0;
        Self {
            covered_s: totals.covered_s,
            events: cents(totals.events),
            queries: totals.queries.map(cents),
            errors: totals.errors.map(cents),
            tps: totals.events_per_s().map(cents),
            worst_latency_ms: totals.worst_latency_ms,
        }
    }
}
