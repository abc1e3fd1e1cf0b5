//! The receiver's routes.
//!
//! - `POST /api/v1/ingest` takes a node's batch ([`crate::api::batch`]); the answer means that it is on disk
//! - `GET /api/v1/nodes` every node: its lag, what became of its records, its scheduler
//! - `GET /api/v1/nodes/{node}/scheduler` one node's scheduler whole, and what happened to it lately
//! - `POST /api/v1/metrics` takes BSS records ([`super::bss_body`]); 200 once they are on disk
//! - `GET /api/v1/metrics` the BSS record that was posted last, to any node or here
//! - `GET /api/v1/pods` what each pod of the fleet uses and how it waits for a CPU
//! - `GET /api/v1/pods/pids` the pods of the whole fleet in the reference's shape, each with its `node`;
//!   `?node=NAME` those of one node
//! - `POST /api/v1/write`, `/api/v2/write`, `/write` take samples from others ([`mod@write`])
//! - `GET /api/v1/alerts` what is watched for, and what of it is so
//! - `GET /api/v1/stream` what arrives from nodes, as server-sent events
//!
//! those of the queue ([`queue`]), of GPU telemetry ([`telemetry`]), of time series ([`series`]) and those of
//! [`super::common`].

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use super::answers::retrieved;
use super::serve::Connection;
use super::{ApiError, Common, body, bss_body, common, layers, openapi, swagger};
use crate::api::anomalies::NodeAnomalies;
use crate::api::batch::{Ack, Batch, Refusal};
use crate::api::bss::{Record, Retrieved};
use crate::api::envelope::{Enveloped, Failure, Message};
use crate::api::nodes::Nodes;
use crate::api::pods::FleetPodPidsList;
use crate::api::scheduler::event::NodeHistory;
use crate::receiver::ingest::{Ingest, IngestError};

mod alerts;
mod events;
pub mod exposition;
mod fleet_pids;
mod pods;
pub mod queue;
pub mod series;
mod stream;
mod telemetry;
pub mod write;

/// Looks through the whole fleet at a time: each may take a thread for a second, and batches need threads too.
const LOOKS: usize = 4;

/// State of the receiver's routes.
#[derive(Clone)]
pub struct ReceiverState {
    common: Common,
    ingest: Arc<Ingest>,
    queue: queue::Door,
    series: series::Door,
    alerts: crate::alerts::Watch,
    /// Room for those who look through the whole fleet.
    looks: Arc<Semaphore>,
}

impl ReceiverState {
    /// From what both roles need, the door for batches, the one of the queue, the one of the series, and the alerts.
    pub fn new(
        common: Common,
        ingest: Arc<Ingest>,
        queue: queue::Door,
        series: series::Door,
        alerts: crate::alerts::Watch,
    ) -> Self {
        Self { common, ingest, queue, series, alerts, looks: Arc::new(Semaphore::new(LOOKS)) }
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "sextant receiver", description = "what a fleet's nodes delivered"),
    paths(
        common::index,
        common::health,
        common::live,
        common::ready,
        common::metrics,
        common::openapi_json,
        swagger::page,
        super::events::post,
        events::list,
        ingest,
        nodes,
        node_anomalies,
        node_scheduler,
        post_metrics,
        get_metrics,
        pods::pods,
        pod_pids,
        stream::stream,
        queue::produce::single,
        queue::produce::several,
        queue::consume::consume,
        queue::consume::forget,
        queue::settle::ack,
        queue::settle::nak,
        queue::settle::extend,
        queue::topics,
        alerts::alerts,
        telemetry::post,
        telemetry::seen::gpus,
        telemetry::history::telemetry,
        telemetry::seen::hosts,
        telemetry::seen::namespaces,
        series::list,
        series::labels,
        series::label_values,
        series::samples,
        series::tail::stream,
        series::statistics::statistics,
        write::prometheus::write,
        write::lines::write,
        write::lines::write_v1,
    ),
    components(schemas(crate::api::queue::Messages, crate::api::queue::Settled, crate::api::queue::Topic))
)]
struct ReceiverDoc;

/// The receiver's API, for `/openapi.json` and the golden file.
pub fn document() -> utoipa::openapi::OpenApi {
    openapi::secured(ReceiverDoc::openapi())
}

/// Every route of a receiver.
pub fn router(state: &ReceiverState) -> Router {
    let common = &state.common;
    let routes = Router::new()
        .route("/api/v1/ingest", post(ingest))
        .route("/api/v1/events", get(events::list))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/{node}/scheduler", get(node_scheduler))
        .route("/api/v1/nodes/{node}/anomalies", get(node_anomalies))
        .route("/api/v1/metrics", get(get_metrics).post(post_metrics))
        .route("/api/v1/pods", get(pods::pods))
        .route("/api/v1/pods/pids", get(pod_pids))
        .route("/api/v1/stream", get(stream::stream))
        .route("/produce", post(queue::produce::single))
        .route("/produce/batch", post(queue::produce::several))
        .route("/consume", get(queue::consume::consume).delete(queue::consume::forget))
        .route("/ack", post(queue::settle::ack))
        .route("/nak", post(queue::settle::nak))
        .route("/extend", post(queue::settle::extend))
        .route("/topics", get(queue::topics))
        .route("/api/v1/alerts", get(alerts::alerts))
        .route("/telemetry", post(telemetry::post))
        .route("/api/v1/gpus", get(telemetry::seen::gpus))
        .route("/api/v1/gpus/{id}/telemetry", get(telemetry::history::telemetry))
        .route("/api/v1/hosts", get(telemetry::seen::hosts))
        .route("/api/v1/namespaces", get(telemetry::seen::namespaces))
        .route("/api/v1/series", get(series::list))
        .route("/api/v1/labels", get(series::labels))
        .route("/api/v1/labels/{name}/values", get(series::label_values))
        .route("/api/v1/samples", get(series::samples))
        .route("/api/v1/samples/stream", get(series::tail::stream))
        .route("/api/v1/statistics", get(series::statistics::statistics))
        .route("/api/v1/write", post(write::prometheus::write))
        .route("/api/v2/write", post(write::lines::write))
        .route("/write", post(write::lines::write_v1))
        .with_state(state.clone())
        .merge(common::routes(common, &document()));
    layers::apply(routes, common)
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Busy { retry_after_s } => Self::Busy { retry_after_s },
            IngestError::Storage { words, retry_after_s } => Self::Degraded { why: words, retry_after_s },
            IngestError::TooLarge { .. } => Self::BatchTooLarge(error.refusal()),
            IngestError::Invalid(_) | IngestError::Record { .. } => Self::Batch(error.refusal()),
        }
    }
}

/// Takes a node's batch.
#[utoipa::path(post, path = "/api/v1/ingest", tag = "receiver", request_body = Batch,
    responses((status = 200, description = "on disk", body = Ack), (status = 400, body = Refusal),
        (status = 413, body = Refusal), (status = 415, description = "packed in a way that is not known", body = Failure),
        (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn ingest(
    State(receiver): State<ReceiverState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Ack>, ApiError> {
    let _slot = receiver.common.body_slot().await?;
    let limit_bytes = receiver.common.config.ingest_body_bytes;
    let bytes = body::unpacked(&headers, body, limit_bytes).await?;
    Ok(Json(receiver.ingest.ingest(bytes.into()).await?))
}

/// Every node of the fleet.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "receiver", responses((status = 200, body = Nodes)))]
pub(super) async fn nodes(State(receiver): State<ReceiverState>) -> Json<Nodes> {
    Json(receiver.ingest.fleet().nodes((receiver.common.clock)()))
}

/// One node's scheduler, its last ends, the warnings before them, and what the kernel counted.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/scheduler", tag = "receiver",
    params(("node" = String, Path, description = "the node's name")),
    responses((status = 200, body = NodeHistory), (status = 404, body = Failure)))]
pub(super) async fn node_scheduler(
    State(receiver): State<ReceiverState>,
    node: Result<Path<String>, PathRejection>,
) -> Result<Json<NodeHistory>, ApiError> {
    let Path(node) = node.map_err(|error| ApiError::NoNode(error.body_text()))?;
    receiver.ingest.fleet().scheduler(&node).map(Json).ok_or(ApiError::NoNode(node))
}

/// The anomalies that began and ended on one node lately, oldest first.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/anomalies", tag = "receiver",
    params(("node" = String, Path, description = "the node's name")),
    responses((status = 200, body = NodeAnomalies), (status = 404, body = Failure)))]
pub(super) async fn node_anomalies(
    State(receiver): State<ReceiverState>,
    node: Result<Path<String>, PathRejection>,
) -> Result<Json<NodeAnomalies>, ApiError> {
    let Path(node) = node.map_err(|error| ApiError::NoNode(error.body_text()))?;
    receiver.ingest.fleet().anomalies(&node).map(Json).ok_or(ApiError::NoNode(node))
}

/// Takes one BSS record or a batch.
#[utoipa::path(post, path = "/api/v1/metrics", tag = "bss",
    request_body(content = Record, description = "a record, `{\"metrics\":[...]}` or an array of records"),
    responses((status = 200, body = Message), (status = 400, body = Failure), (status = 413, body = Failure),
        (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn post_metrics(
    State(receiver): State<ReceiverState>,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Message>, ApiError> {
    let _slot = receiver.common.body_slot().await?;
    let bytes = body::read(&headers, body, receiver.common.config.metrics_body_bytes).await?;
    let records = bss_body::decode(&bytes)?.records;
    let sender = connection.map_or_else(|| "local".to_owned(), |connection| connection.0.sender());
    receiver.ingest.post_bss(&sender, records).await?;
    Ok(Json(Message::new(true, "Metrics received successfully", (receiver.common.clock)())))
}

/// The BSS record that was posted last.
#[utoipa::path(get, path = "/api/v1/metrics", tag = "bss", responses(
    (status = 200, description = "`success` is false while there is no record", body = Enveloped<Retrieved>)))]
pub(super) async fn get_metrics(State(receiver): State<ReceiverState>) -> Response {
    let posted = receiver.ingest.fleet().latest_posted();
    let latest = posted.as_ref().map(|posted| (&posted.record, posted.at_ns, "posted"));
    retrieved(latest, (receiver.common.clock)())
}

/// Query of `/api/v1/pods/pids`.
#[derive(Debug, Deserialize)]
pub(super) struct PidsQuery {
    node: Option<String>,
}

/// Pods and processes of the fleet in the reference's shape.
#[utoipa::path(get, path = "/api/v1/pods/pids", tag = "bss",
    params(("node" = Option<String>, Query, description = "only this node's pods")),
    responses((status = 200, body = Enveloped<FleetPodPidsList>)))]
pub(super) async fn pod_pids(
    State(receiver): State<ReceiverState>,
    query: Result<Query<PidsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "node", why: error.body_text() })?;
    let mut pods = receiver.ingest.fleet().pods();
    if let Some(wanted) = query.node {
        pods.retain(|(node, _)| *node == wanted);
    }
    let body = fleet_pids::body(pods, (receiver.common.clock)());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

#[cfg(test)]
mod tests;
