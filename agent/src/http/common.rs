//! The routes of both roles.
//!
//! - `GET /` what this is and every endpoint, in the reference's shape
//! - `GET /health` the reference's health check: the process answers
//! - `GET /healthz`, `GET /livez` the same for Kubernetes, as text
//! - `GET /readyz`, `GET /ready` 200 once every source has been tried and until the process stops;
//!   `?verbose` lists the sources and what they lack
//! - `GET /metrics` OpenMetrics, or the older Prometheus text, by `Accept`, with the events that this connection is due
//! - `POST /event` ([`events`])
//! - `GET /openapi.json` this API
//! - `GET /swagger/` the same for a person ([`swagger`]); `/docs` leads there

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::{ApiError, Common, events, exposition, openapi, swagger};
use crate::api::health::{API_VERSION, Health, Info, Route, SERVICE};
use crate::api::time::rfc3339_seconds;
use crate::domain::source::{Condition, SourceHealth};

/// What describes a role's routes.
#[derive(Clone)]
pub(super) struct Described {
    common: Common,
    routes: Arc<[Route]>,
    openapi: Bytes,
}

pub(super) fn routes(common: &Common, document: &utoipa::openapi::OpenApi) -> Router {
    let described = Described {
        common: common.clone(),
        routes: openapi::routes(document).into(),
        openapi: openapi::to_json(document).into(),
    };
    let about =
        Router::new().route("/", get(index)).route("/openapi.json", get(openapi_json)).with_state(described);
    Router::new()
        .route("/health", get(health))
        .route("/healthz", get(live))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/event", post(events::post))
        .with_state(common.clone())
        .merge(about)
        .merge(swagger::routes())
}

/// What this is, and every endpoint.
#[utoipa::path(get, path = "/", tag = "service", responses((status = 200, body = Info)))]
pub(super) async fn index(State(Described { common, routes, .. }): State<Described>) -> Json<Info> {
    let routes = routes.to_vec();
    let endpoints: Vec<_> = routes.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    Json(Info {
        message: SERVICE.to_owned(),
        version: API_VERSION.to_owned(),
        endpoints: endpoints.join(", "),
        service: "sextant".to_owned(),
        sextant_version: env!("CARGO_PKG_VERSION").to_owned(),
        role: common.identity.role.name().to_owned(),
        node: common.identity.name.clone(),
        routes,
    })
}

/// The reference's health check.
#[utoipa::path(get, path = "/health", tag = "service", responses((status = 200, body = Health)))]
pub(super) async fn health(State(common): State<Common>) -> Json<Health> {
    Json(Health {
        status: "healthy".to_owned(),
        timestamp: rfc3339_seconds((common.clock)()),
        service: SERVICE.to_owned(),
    })
}

/// Alive: the event loop answers.
#[utoipa::path(get, path = "/livez", tag = "service", responses((status = 200, body = str, content_type = "text/plain")))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Query of `/readyz`.
#[derive(Debug, Deserialize)]
pub(super) struct ReadyQuery {
    verbose: Option<String>,
}

/// Ready: every source was tried, and the process is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "service",
    params(("verbose" = Option<String>, Query, description = "list the sources and what they lack")),
    responses((status = 200, body = str, content_type = "text/plain"),
        (status = 503, body = crate::api::envelope::Failure)))]
pub(super) async fn ready(
    State(common): State<Common>,
    query: Result<Query<ReadyQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "verbose", why: error.body_text() })?;
    let sources = common.sources.borrow().clone();
    let stopping = common.draining.is_cancelled();
    let waiting: Vec<_> =
        sources.iter().filter(|s| s.condition == Condition::Starting).map(|s| s.name).collect();
    let ready = !stopping && waiting.is_empty();
    if query.verbose.as_deref().is_some_and(|value| !matches!(value, "0" | "false")) {
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        return Ok((status, verbose(&sources, stopping, ready)).into_response());
    }
    if stopping {
        return Err(ApiError::NotReady("not ready: stopping".to_owned()));
    }
    if !ready {
        return Err(ApiError::NotReady(format!("not ready: not yet collected: {}", waiting.join(", "))));
    }
    Ok("ok\n".into_response())
}

/// A line per source, as Kubernetes prints its checks.
fn verbose(sources: &[SourceHealth], stopping: bool, ready: bool) -> String {
    let mut text = String::new();
    for source in sources {
        let sign = if source.condition == Condition::Starting { '-' } else { '+' };
        text += &format!("[{sign}] {} {}\n", source.name, source.condition.name());
        for lack in &source.lacks {
            text += &format!("    lacks: {lack}\n");
        }
        if let Some(error) = &source.last_error {
            text += &format!("    failed: {error}\n");
        }
    }
    if stopping {
        text += "[-] stopping\n";
    }
    text + if ready { "ready\n" } else { "not ready\n" }
}

/// Metrics of this process and of what it reads.
#[utoipa::path(get, path = "/metrics", tag = "service",
    responses((status = 200, body = str, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(common): State<Common>, request: Request) -> Result<Response, ApiError> {
    let (request, _) = request.into_parts();
    let format = exposition::Format::negotiate(request.headers.get(header::ACCEPT));
    let batch = events::scrape(&common, &request).await;
    let text = exposition::encode(&common.registry, format).map_err(|e| ApiError::Encode(e.to_string()))?;
    let text = exposition::with_events(text, format, batch, &common.events).await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

/// This API, for machines.
#[utoipa::path(get, path = "/openapi.json", tag = "service",
    responses((status = 200, body = str, content_type = "application/json")))]
pub(super) async fn openapi_json(State(described): State<Described>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], described.openapi).into_response()
}
