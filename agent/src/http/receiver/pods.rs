//! `GET /api/v1/pods` at the receiver: the fleet's pods, what they use and how they wait.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::ReceiverState;
use crate::api::envelope::Failure;
use crate::api::fleet_pods::FleetPods;
use crate::http::ApiError;
use crate::receiver::pods::{PodQuery, fleet_pods};

/// A screen of them.
const DEFAULT_LIMIT: usize = 100;

/// With two containers a pod is some 5 kB of JSON: an answer of 5 MB.
const MAX_LIMIT: usize = 1_000;

/// One look is over within a second.
const BUSY_RETRY_S: u64 = 1;

/// Query of `/api/v1/pods`.
#[derive(Debug, Deserialize)]
pub(super) struct PodsQuery {
    node: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    limit: Option<usize>,
    sort: Option<String>,
}

/// What each pod of the fleet uses and how it waits for a CPU.
#[utoipa::path(get, path = "/api/v1/pods", tag = "receiver",
    params(("node" = Option<String>, Query, description = "only pods of this node"),
        ("namespace" = Option<String>, Query, description = "only pods of this namespace"),
        ("pod" = Option<String>, Query, description = "only pods of this name"),
        ("limit" = Option<usize>, Query, description = "so many at most, 1 to 1000; 100 if it is not given"),
        ("sort" = Option<String>, Query,
            description = "`name` (default): by node, namespace, name; `wait`: who waited most lately comes first")),
    responses((status = 200, body = FleetPods), (status = 400, body = Failure), (status = 429, body = Failure)))]
pub(super) async fn pods(
    State(receiver): State<ReceiverState>,
    query: Result<Query<PodsQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "limit", why: error.body_text() })?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::Query { name: "limit", why: format!("{limit} is not 1 to {MAX_LIMIT}") });
    }
    let by_wait = match query.sort.as_deref() {
        None | Some("" | "name") => false,
        Some("wait") => true,
        Some(_) => return Err(ApiError::Query { name: "sort", why: "name or wait".to_owned() }),
    };
    let nodes = receiver.ingest.fleet().figures(query.node.as_deref());
    let wanted = PodQuery { namespace: query.namespace, pod: query.pod, limit, by_wait };
    let now_ns = (receiver.common.clock)();
    let room = Arc::clone(&receiver.looks).try_acquire_owned();
    let room = room.map_err(|_| ApiError::Busy { retry_after_s: BUSY_RETRY_S })?;
    // A fleet's hundred thousand pods take a while to look through. The look keeps its room even if nobody waits for it
    // any more.
    let look = move || {
        let found = serde_json::to_vec(&fleet_pods(&nodes, &wanted, now_ns));
        drop(room);
        found
    };
    let found =
        tokio::task::spawn_blocking(look).await.map_err(|error| ApiError::Encode(error.to_string()))?;
    let json = found.map_err(|error| ApiError::Encode(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}
