//! The node's routes.
//!
//! - `GET /status` one screen of text for a person; `?format=json` the same as JSON, `?color=1` with ANSI codes
//! - `POST /api/v1/metrics` takes BSS records ([`super::bss_body`]); 200 once they are on disk
//! - `GET /api/v1/metrics` the scheduler's own BSS record while one runs, else the last posted one
//! - `GET /api/v1/schedulers` the scheduler whole: every variable with type and value, events, last exit
//! - `GET /api/v1/pods` pods with containers, processes, threads, usage, waits for CPUs
//! - `GET /api/v1/pods/pids` pods and processes in the reference's shape
//! - `/api/v1/anomalies`, `/api/anomaly/*` ([`anomalies`])
//! - `GET /api/metrics/database`, `GET /api/metrics/tenant` ([`database`])
//! - `/api/v1/workloads`, `/api/workload/*` ([`workloads`])
//! - `GET /api/v1/stream` the scheduler and the pods as they are read, as server-sent events
//!
//! and those of [`super::common`].

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;

use super::answers::retrieved;
use super::door::{AcceptError, Recorder};
use super::pids::Cache;
use super::status::{History, Snapshots};
use super::{ApiError, Common, body, bss_body, common, layers, openapi, status as build, swagger};
use crate::api::bss::{Record, Retrieved};
use crate::api::envelope::{Enveloped, Failure, Message};
use crate::api::pods::{PodPidsList, Pods, pod_pids as list_pids};
use crate::api::scheduler::Scheduler;
use crate::api::status::{Delivery, Status, text};
use crate::domain::pod::PodMap;
use crate::domain::runqueue::RunqueuePair;
use crate::domain::scheduler::{SchedulerReading, State as SchedulerState};
use crate::domain::usage::UsageMap;

pub mod anomalies;
pub mod database;
mod stream;
pub mod workloads;

/// A spool commit under load takes milliseconds.
const BUSY_RETRY_S: u64 = 1;

/// A full disk does not empty itself at once.
const DEGRADED_RETRY_S: u64 = 5;

/// The way to the receivers at a wall time (ns since the epoch), as `/status` shows it.
pub type DeliveryView = Arc<dyn Fn(i64) -> Delivery + Send + Sync>;

/// What the node's routes read.
#[derive(Clone)]
pub struct Handles {
    /// The latest reading of the scheduler.
    pub scheduler: watch::Receiver<Arc<SchedulerReading>>,
    /// The latest walk of the pods.
    pub pods: watch::Receiver<Arc<PodMap>>,
    /// The latest usage of pods and containers.
    pub usage: watch::Receiver<Arc<UsageMap>>,
    /// The last two readings of the run queues.
    pub runqueues: watch::Receiver<Arc<RunqueuePair>>,
    /// The way to the receivers.
    pub delivery: DeliveryView,
    /// Where posted records become durable; none where nothing is spooled: then only the last one is kept.
    pub recorder: Option<Recorder>,
    /// Anomalies on purpose.
    pub anomalies: anomalies::Anomalies,
    /// The database as it tells of itself.
    pub database: database::Database,
    /// Load on purpose.
    pub workloads: workloads::Workloads,
}

/// The snapshots that `GET /api/v1/pods` shows.
type PodsWithAll = (Arc<PodMap>, (Arc<UsageMap>, Arc<RunqueuePair>));

/// State of the node's routes.
#[derive(Clone)]
pub struct NodeState(Arc<Inner>);

struct Inner {
    common: Common,
    handles: Handles,
    history: History,
    /// The record that was posted last, and when, ns since the epoch.
    posted: ArcSwapOption<(Record, i64)>,
    pids: Cache<Arc<PodMap>>,
    pods: Cache<PodsWithAll>,
    samples: stream::Samples,
}

impl NodeState {
    /// From what both roles need and what the node has.
    pub fn new(common: Common, handles: Handles) -> Self {
        Self(Arc::new(Inner {
            common,
            handles,
            history: History::default(),
            posted: ArcSwapOption::empty(),
            pids: Cache::new(|map| encode_pids(map).into()),
            pods: Cache::new(|(pods, (usage, runqueues))| {
                encode(&Pods::with_usage(pods, usage).with_runqueues(pods, runqueues)).into()
            }),
            samples: stream::Samples::default(),
        }))
    }

    /// Keeps the last two readings for `/status`' rates, and numbers samples for streams, until `stop`: to be spawned
    /// beside the server.
    pub async fn follow(&self, stop: CancellationToken) {
        let Inner { history, samples, handles, .. } = &*self.0;
        tokio::join!(samples.follow(handles, &stop), history.follow(handles.scheduler.clone(), stop.clone()));
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sextant node",
        description = "what one Linux node says of its sched_ext scheduler and its pods"
    ),
    paths(
        common::index,
        common::health,
        common::live,
        common::ready,
        common::metrics,
        common::openapi_json,
        swagger::page,
        super::events::post,
        super::events::list,
        status,
        post_metrics,
        get_metrics,
        schedulers,
        pods,
        pod_pids,
        anomalies::list,
        anomalies::one,
        anomalies::stream::stream,
        anomalies::start,
        anomalies::stop,
        anomalies::stop_all,
        anomalies::reference_start,
        anomalies::reference_stop,
        anomalies::reference_active,
        database::database,
        database::tenant,
        workloads::list,
        workloads::one,
        workloads::start,
        workloads::stop,
        workloads::stop_all,
        workloads::prepare,
        workloads::reference_start,
        workloads::reference_stop,
        workloads::reference_stop_second,
        workloads::reference_stop_all,
        workloads::reference_active,
        stream::stream,
    )
)]
struct NodeDoc;

/// The node's API, for `/openapi.json` and the golden file.
pub fn document() -> utoipa::openapi::OpenApi {
    openapi::secured(NodeDoc::openapi())
}

/// Every route of a node.
pub fn router(state: &NodeState) -> Router {
    let common = &state.0.common;
    let routes = Router::new()
        .route("/status", get(status))
        .route("/api/v1/metrics", get(get_metrics).post(post_metrics))
        .route("/api/v1/schedulers", get(schedulers))
        .route("/api/v1/pods", get(pods))
        .route("/api/v1/pods/pids", get(pod_pids))
        .merge(anomalies::routes())
        .merge(database::routes())
        .merge(workloads::routes())
        .route("/api/v1/stream", get(stream::stream))
        .with_state(state.clone())
        .merge(common::routes(common, &document()))
        .merge(Router::new().route("/api/v1/events", get(super::events::list)).with_state(common.clone()));
    layers::apply(routes, common)
}

/// Query of `/status`.
#[derive(Debug, Deserialize)]
pub(super) struct StatusQuery {
    format: Option<String>,
    color: Option<String>,
}

/// One screen for a person.
#[utoipa::path(get, path = "/status", tag = "node",
    params(("format" = Option<String>, Query, description = "`text` (default) or `json`"),
        ("color" = Option<String>, Query, description = "`1`: ANSI codes in the text")),
    responses((status = 200, body = Status), (status = 400, body = Failure)))]
pub(super) async fn status(
    State(NodeState(node)): State<NodeState>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "format", why: error.body_text() })?;
    let now_ns = (node.common.clock)();
    let reading = Arc::clone(&node.handles.scheduler.borrow());
    let pods = Arc::clone(&node.handles.pods.borrow());
    let usage = Arc::clone(&node.handles.usage.borrow());
    let runqueues = Arc::clone(&node.handles.runqueues.borrow());
    let sources = node.common.sources.borrow().clone();
    let snapshots = Snapshots {
        identity: &node.common.identity,
        scheduler: node.history.pair(&reading),
        pods: &pods,
        usage: &usage,
        runqueues: &runqueues,
        sources: &sources,
        delivery: (node.handles.delivery)(now_ns),
    };
    let status = build::build(snapshots, now_ns);
    match query.format.as_deref() {
        None | Some("" | "text") => {
            let color = query.color.is_some_and(|value| !matches!(&*value, "0" | "false"));
            Ok(text::render(&status, color).into_response())
        }
        Some("json") => Ok(Json(status).into_response()),
        Some(_) => Err(ApiError::Query { name: "format", why: "text or json".to_owned() }),
    }
}

/// Takes one BSS record or a batch.
#[utoipa::path(post, path = "/api/v1/metrics", tag = "bss",
    request_body(content = Record, description = "a record, `{\"metrics\":[...]}` or an array of records"),
    responses((status = 200, body = Message), (status = 400, body = Failure), (status = 413, body = Failure),
        (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn post_metrics(
    State(NodeState(node)): State<NodeState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Message>, ApiError> {
    let common = &node.common;
    let _slot = common.body_slot().await?;
    let bytes = body::read(&headers, body, common.config.metrics_body_bytes).await?;
    let records = bss_body::decode(&bytes)?.records;
    let last = records.last().copied();
    if let Some(recorder) = &node.handles.recorder {
        recorder.accept(records).await.map_err(|error| match error {
            AcceptError::Busy => ApiError::Busy { retry_after_s: BUSY_RETRY_S },
            AcceptError::Degraded(why) => ApiError::Degraded { why, retry_after_s: DEGRADED_RETRY_S },
        })?;
    }
    let now_ns = (common.clock)();
    node.posted.store(last.map(|record| Arc::new((record, now_ns))));
    Ok(Json(Message::new(true, "Metrics received successfully", now_ns)))
}

/// The scheduler's BSS record, or the last posted one.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "bss", responses(
    (status = 200, description = "`success` is false while there is no record", body = Enveloped<Retrieved>)))]
pub(super) async fn get_metrics(State(NodeState(node)): State<NodeState>) -> Response {
    let now_ns = (node.common.clock)();
    let reading = Arc::clone(&node.handles.scheduler.borrow());
    if reading.state == SchedulerState::Enabled && !reading.bss.is_empty() {
        return retrieved(Some((&(&reading.bss).into(), reading.at_ns, "scheduler")), now_ns);
    }
    let posted = node.posted.load();
    retrieved(posted.as_deref().map(|(record, at_ns)| (record, *at_ns, "posted")), now_ns)
}

/// The scheduler, whole.
#[utoipa::path(get, path = "/api/v1/schedulers", tag = "node", responses((status = 200, body = Scheduler)))]
pub(super) async fn schedulers(State(NodeState(node)): State<NodeState>) -> Json<Scheduler> {
    let reading = Arc::clone(&node.handles.scheduler.borrow());
    Json(Scheduler::from(&*reading))
}

/// Pods with containers, processes and usage.
#[utoipa::path(get, path = "/api/v1/pods", tag = "node",
    responses((status = 200, body = Pods), (status = 503, body = Failure)))]
pub(super) async fn pods(State(NodeState(node)): State<NodeState>) -> Result<Response, ApiError> {
    let usage = Arc::clone(&node.handles.usage.borrow());
    let runqueues = Arc::clone(&node.handles.runqueues.borrow());
    Ok(json(node.pods.get(&(walked(&node.handles)?, (usage, runqueues)))))
}

/// Pods and processes in the reference's shape.
#[utoipa::path(get, path = "/api/v1/pods/pids", tag = "bss",
    responses((status = 200, body = Enveloped<PodPidsList>), (status = 503, body = Failure)))]
pub(super) async fn pod_pids(State(NodeState(node)): State<NodeState>) -> Result<Response, ApiError> {
    Ok(json(node.pids.get(&walked(&node.handles)?)))
}

fn walked(handles: &Handles) -> Result<Arc<PodMap>, ApiError> {
    let map = Arc::clone(&handles.pods.borrow());
    if map.at_ns == 0 {
        return Err(ApiError::NoPods("the processes have not been walked yet"));
    }
    Ok(map)
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The reference's shape; its timestamp is the walk's.
fn encode_pids(map: &Arc<PodMap>) -> Vec<u8> {
    let head = Message::new(true, "Pod-PID mappings retrieved successfully", map.at_ns);
    encode(&Enveloped { head, body: PodPidsList { pods: list_pids(map) } })
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    // Derived Serialize over strings, numbers and maps with string keys: there is nothing that could fail.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests;
