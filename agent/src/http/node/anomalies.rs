//! Anomalies: started, watched and stopped.
//!
//! - `GET /api/v1/anomalies`, `GET /api/v1/anomalies/{id}` for everybody, as every reading route
//! - `GET /api/v1/anomalies/stream` for everybody, as server-sent events ([`stream`])
//! - `POST /api/v1/anomalies`, `DELETE /api/v1/anomalies`, `DELETE /api/v1/anomalies/{id}` with a key of scope `act`,
//!   or over the unix socket ([`crate::http::keys`]); 403 while they are off
//! - `POST /api/anomaly/start`, `POST /api/anomaly/stop`, `GET /api/anomaly/active`: the reference backend's, with its
//!   bodies and errors, and the same guard

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::NodeState;
use crate::actions::{self, Handle};
use crate::api::anomalies::reference::{Active, Detail, ReferenceRequest, Status};
use crate::api::anomalies::{List, Request, StoppedAll, View, Wrong};
use crate::api::envelope::Failure;
use crate::http::error::Plain;
use crate::http::guarded::Guarded;
use crate::http::keys::Caller;
use crate::http::{ApiError, body};

pub(super) mod stream;

/// The way to the anomalies' owner.
pub type Anomalies = Guarded<Handle>;

pub(super) fn routes() -> Router<NodeState> {
    Router::new()
        .route("/api/v1/anomalies", get(list).post(start).delete(stop_all))
        .route("/api/v1/anomalies/stream", get(stream::stream))
        .route("/api/v1/anomalies/{id}", get(one).delete(stop))
        .route("/api/anomaly/start", post(reference_start))
        .route("/api/anomaly/stop", post(reference_stop))
        .route("/api/anomaly/active", get(reference_active))
}

impl NodeState {
    fn anomalies(&self) -> &Anomalies {
        &self.0.handles.anomalies
    }
}

/// Every anomaly that is active, and the last that were.
#[utoipa::path(get, path = "/api/v1/anomalies", tag = "anomalies", responses((status = 200, body = List)))]
pub(super) async fn list(State(node): State<NodeState>) -> Json<List> {
    Json(match node.anomalies().owner() {
        Err(why) => List { enabled: false, off_because: Some(why.clone()), anomalies: Vec::new() },
        Ok(handle) => {
            let anomalies = handle.anomalies().iter().map(View::from).collect();
            List { enabled: true, off_because: None, anomalies }
        }
    })
}

/// One anomaly: asked and achieved, its plan, its undo.
#[utoipa::path(get, path = "/api/v1/anomalies/{id}", tag = "anomalies", params(("id" = String, Path)),
    responses((status = 200, body = View), (status = 403, body = Failure), (status = 404, body = Failure)))]
pub(super) async fn one(
    State(node): State<NodeState>,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    Ok(Json((&node.anomalies().look()?.get(&id)?).into()))
}

/// Starts one, or (`dry_run`) says what would be done.
#[utoipa::path(post, path = "/api/v1/anomalies", tag = "anomalies", request_body = Request, responses(
    (status = 200, description = "a dry run's plan", body = View), (status = 201, body = View),
    (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
    (status = 409, body = Failure), (status = 500, body = Failure)))]
pub(super) async fn start(
    State(node): State<NodeState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let handle = node.anomalies().act(&caller)?;
    let request: Request = body::order(&node.0.common, &headers, body, "").await?;
    let started = handle.start(request.asked().map_err(wrong)?, request.dry_run).await?;
    let status = if request.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(View::from(&started))).into_response())
}

/// Stops one; it is undone when this answers. One that is over stays as it is.
#[utoipa::path(delete, path = "/api/v1/anomalies/{id}", tag = "anomalies", params(("id" = String, Path)),
    responses((status = 200, body = View), (status = 401, body = Failure), (status = 403, body = Failure),
        (status = 404, body = Failure)))]
pub(super) async fn stop(
    State(node): State<NodeState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<View>, ApiError> {
    Ok(Json((&node.anomalies().act(&caller)?.stop(id).await?).into()))
}

/// Stops all.
#[utoipa::path(delete, path = "/api/v1/anomalies", tag = "anomalies", responses((status = 200, body = StoppedAll),
    (status = 401, body = Failure), (status = 403, body = Failure)))]
pub(super) async fn stop_all(
    State(node): State<NodeState>,
    caller: Caller,
) -> Result<Json<StoppedAll>, ApiError> {
    let stopped = node.anomalies().act(&caller)?.stop_all().await?;
    Ok(Json(StoppedAll { stopped }))
}

/// Starts one on the node, in the reference's words and strength.
#[utoipa::path(post, path = "/api/anomaly/start", tag = "reference", request_body = ReferenceRequest,
    responses((status = 200, body = Status), (status = 400, body = Detail), (status = 401, body = Detail),
        (status = 403, body = Detail), (status = 409, body = Detail)))]
pub(super) async fn reference_start(
    State(node): State<NodeState>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Status>, Plain> {
    let handle = node.anomalies().act(&caller)?;
    let request: ReferenceRequest = body::order(&node.0.common, &headers, body, "").await?;
    handle.start(request.asked().map_err(wrong)?, false).await.map_err(ApiError::from)?;
    Ok(Json(Status::success(format!("Started {} anomaly", request.kind))))
}

/// Stops all, in the reference's words.
#[utoipa::path(post, path = "/api/anomaly/stop", tag = "reference", responses((status = 200, body = Status),
    (status = 401, body = Detail), (status = 403, body = Detail)))]
pub(super) async fn reference_stop(
    State(node): State<NodeState>,
    caller: Caller,
) -> Result<Json<Status>, Plain> {
    node.anomalies().act(&caller)?.stop_all().await.map_err(ApiError::from)?;
    Ok(Json(Status::success("Stopped all anomalies".to_owned())))
}

/// Those that are active.
#[utoipa::path(get, path = "/api/anomaly/active", tag = "reference", responses((status = 200, body = Vec<Active>)))]
pub(super) async fn reference_active(State(node): State<NodeState>) -> Json<Vec<Active>> {
    let all = node.anomalies().owner().map(Handle::anomalies).unwrap_or_default();
    Json(all.iter().filter(|anomaly| anomaly.state.is_active()).map(Active::from).collect())
}

fn wrong(wrong: Wrong) -> ApiError {
    let Wrong { field, why } = wrong;
    ApiError::Invalid(format!("{field}: {why}"))
}

impl From<actions::Error> for ApiError {
    fn from(error: actions::Error) -> Self {
        let text = error.to_string();
        match error {
            actions::Error::Invalid(_) => Self::Invalid(text),
            actions::Error::Protected(_) => Self::Forbidden(text),
            actions::Error::Conflict(_) => Self::Conflict(text),
            actions::Error::Unknown(_) => Self::NoSuchAction(text),
            actions::Error::Failed(_) => Self::NotDone(text),
            actions::Error::Unavailable(_) => Self::NotReady(text),
        }
    }
}
