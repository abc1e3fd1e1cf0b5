//! Workloads: prepared, started, watched and stopped.
//!
//! - `GET /api/v1/workloads`, `GET /api/v1/workloads/{id}`, `GET /api/workload/active` for everybody, as every reading route
//! - `POST` and `DELETE` of them and the reference backend's `/api/workload/*` with a key of scope `act`, or over
//!   the unix socket ([`crate::http::keys`]); 403 while they are off
//!
//! `POST /api/workload/prepare` answers when the tables are there, as the document's words say: it may take minutes
//! ([`crate::http::Config::prepare_timeout_ms`]). It goes on when its client leaves.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::NodeState;
use crate::api::anomalies::reference::Detail;
use crate::api::envelope::Failure;
use crate::api::workloads::{
    Active, ActiveList, Done, List, PrepareRequest, ReferenceRequest, Request, Stopped, View,
};
use crate::domain::workload::Workload;
use crate::http::error::Plain;
use crate::http::guarded::Guarded;
use crate::http::keys::Caller;
use crate::http::{ApiError, body};
use crate::workloads::{self, Handle};

/// The workloads' owner, and what it makes unless it is told otherwise.
#[derive(Clone)]
pub struct Owner {
    /// The owner.
    pub handle: Handle,
    /// Tables and rows of a `prepare` that names none.
    pub tables: (u32, u32),
}

/// The way to the workloads' owner.
pub type Workloads = Guarded<Owner>;

pub(super) fn routes() -> Router<NodeState> {
    Router::new()
        .route("/api/v1/workloads", get(list).post(start).delete(stop_all))
        .route("/api/v1/workloads/{id}", get(one).delete(stop))
        .route(crate::http::layers::PREPARE, post(prepare))
        .route("/api/workload/start", post(reference_start))
        .route("/api/workload/active", get(reference_active))
        .route("/api/workload/stop-all", post(reference_stop_all))
        .route("/api/workload/stop/{id}", post(reference_stop_second))
        .route("/api/workload/{id}/stop", post(reference_stop))
}

impl NodeState {
    fn workloads(&self) -> &Workloads {
        &self.0.handles.workloads
    }

    fn active_workloads(&self) -> Vec<Arc<Workload>> {
        let all = self.workloads().owner().map(|owner| owner.handle.workloads()).unwrap_or_default();
        all.iter().filter(|workload| workload.state.is_active()).cloned().collect()
    }
}

/// Every workload that runs, and the last that did.
#[utoipa::path(get, path = "/api/v1/workloads", tag = "workloads", responses((status = 200, body = List)))]
pub(super) async fn list(State(node): State<NodeState>) -> Json<List> {
    Json(match node.workloads().owner() {
        Err(why) => List { enabled: false, off_because: Some(why.clone()), workloads: Vec::new() },
        Ok(owner) => {
            let workloads = owner.handle.workloads().iter().map(|workload| View::from(&**workload)).collect();
            List { enabled: true, off_because: None, workloads }
        }
    })
}

/// One workload with its reports over time.
#[utoipa::path(get, path = "/api/v1/workloads/{id}", tag = "workloads", params(("id" = String, Path)),
    responses((status = 200, body = View), (status = 403, body = Failure), (status = 404, body = Failure)))]
pub(super) async fn one(
    State(node): State<NodeState>,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(View::whole(&*node.workloads().look()?.handle.get(&id)?)))
}

/// Starts one.
#[utoipa::path(post, path = "/api/v1/workloads", tag = "workloads", request_body = Request, responses(
    (status = 201, body = View), (status = 400, body = Failure), (status = 401, body = Failure),
    (status = 403, body = Failure), (status = 409, body = Failure), (status = 500, body = Failure),
    (status = 501, body = Failure), (status = 502, body = Failure)))]
pub(super) async fn start(
    State(node): State<NodeState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let owner = node.workloads().act(&caller)?;
    let request: Request = body::order(&node.0.common, &headers, body, "").await?;
    let started = owner.handle.start(request.asked().map_err(ApiError::Invalid)?).await?;
    Ok((StatusCode::CREATED, Json(View::from(&*started))).into_response())
}

/// Stops one; its process is gone when this answers. One that is over stays as it is.
#[utoipa::path(delete, path = "/api/v1/workloads/{id}", tag = "workloads", params(("id" = String, Path)),
    responses((status = 200, body = View), (status = 401, body = Failure), (status = 403, body = Failure),
        (status = 404, body = Failure)))]
pub(super) async fn stop(
    State(node): State<NodeState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    Ok(Json(View::whole(&*node.workloads().act(&caller)?.handle.stop(id).await?)))
}

/// Stops all.
#[utoipa::path(delete, path = "/api/v1/workloads", tag = "workloads", responses((status = 200, body = Stopped),
    (status = 401, body = Failure), (status = 403, body = Failure)))]
pub(super) async fn stop_all(
    State(node): State<NodeState>,
    caller: Caller,
) -> Result<Json<Stopped>, ApiError> {
    let stopped = node.workloads().act(&caller)?.handle.stop_all().await?;
    Ok(Json(Stopped { stopped }))
}

/// Makes the database and its tables; answers when they are there.
#[utoipa::path(post, path = "/api/workload/prepare", tag = "reference", request_body = Option<PrepareRequest>,
    responses((status = 200, body = Done), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 409, body = Detail), (status = 500, body = Detail),
        (status = 501, body = Detail), (status = 502, body = Detail)))]
pub(super) async fn prepare(
    State(node): State<NodeState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Plain> {
    let owner = node.workloads().act(&caller)?;
    let request: PrepareRequest = body::order(&node.0.common, &headers, body, "{}").await?;
    let tables = request.tables(owner.tables.0, owner.tables.1);
    owner.handle.prepare(tables, request.threads).await.map_err(ApiError::from)?;
    Ok(Json(Done::new("prepare", "Database prepared successfully")))
}

/// Starts one, in the reference's words.
#[utoipa::path(post, path = "/api/workload/start", tag = "reference", request_body = ReferenceRequest,
    responses((status = 200, body = Done), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 409, body = Detail), (status = 500, body = Detail),
        (status = 501, body = Detail), (status = 502, body = Detail)))]
pub(super) async fn reference_start(
    State(node): State<NodeState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Done>, Plain> {
    let owner = node.workloads().act(&caller)?;
    let request: ReferenceRequest = body::order(&node.0.common, &headers, body, "").await?;
    let asked = request.asked().map_err(ApiError::Invalid)?;
    let started = owner.handle.start(asked).await.map_err(ApiError::from)?;
    Ok(Json(Done::new(&started.id, "Workload started successfully")))
}

/// Stops one, in the reference's words.
#[utoipa::path(post, path = "/api/workload/{id}/stop", tag = "reference", params(("id" = String, Path)),
    responses((status = 200, body = Done), (status = 401, body = Detail), (status = 403, body = Detail),
        (status = 404, body = Detail)))]
pub(super) async fn reference_stop(
    State(node): State<NodeState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Done>, Plain> {
    let stopped = node.workloads().act(&caller)?.handle.stop(id).await.map_err(ApiError::from)?;
    Ok(Json(Done::new(&stopped.id, "Workload stopped successfully")))
}

/// The same at the path that the reference's code has.
#[utoipa::path(post, path = "/api/workload/stop/{id}", tag = "reference", params(("id" = String, Path)),
    responses((status = 200, body = Done), (status = 401, body = Detail), (status = 403, body = Detail),
        (status = 404, body = Detail)))]
pub(super) async fn reference_stop_second(
    node: State<NodeState>,
    caller: Caller,
    id: Path<String>,
) -> Result<Json<Done>, Plain> {
    reference_stop(node, caller, id).await
}

/// Stops all, in the reference's words.
#[utoipa::path(post, path = "/api/workload/stop-all", tag = "reference", responses((status = 200, body = Done),
    (status = 401, body = Detail), (status = 403, body = Detail)))]
pub(super) async fn reference_stop_all(
    State(node): State<NodeState>,
    caller: Caller,
) -> Result<Json<Done>, Plain> {
    node.workloads().act(&caller)?.handle.stop_all().await.map_err(ApiError::from)?;
    Ok(Json(Done::new("all", "All workloads stopped successfully")))
}

/// Those that run.
#[utoipa::path(get, path = "/api/workload/active", tag = "reference", responses((status = 200, body = ActiveList)))]
pub(super) async fn reference_active(State(node): State<NodeState>) -> Json<ActiveList> {
    let workloads = node.active_workloads().iter().map(|workload| Active::from(&**workload)).collect();
    Json(ActiveList { workloads })
}

impl From<workloads::Error> for ApiError {
    fn from(error: workloads::Error) -> Self {
        let text = error.to_string();
        match error {
            workloads::Error::Invalid(_) => Self::Invalid(text),
            workloads::Error::Conflict(_) => Self::Conflict(text),
            workloads::Error::Unknown(_) => Self::NoSuchAction(text),
            workloads::Error::Missing(_) => Self::Lacking(text),
            workloads::Error::Database(_) => Self::Database(text),
            workloads::Error::Failed(_) => Self::NotDone(text),
            workloads::Error::Unavailable(_) => Self::NotReady(text),
        }
    }
}
