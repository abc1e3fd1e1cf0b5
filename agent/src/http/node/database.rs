//! The database as it tells of itself, in the reference backend's shapes.
//!
//! - `GET /api/metrics/database` samples of the last half hour
//! - `GET /api/metrics/tenant?tenant_name=` the same of one tenant of OceanBase: from Prometheus where one is configured,
//!   else from the system tenant

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::sync::watch;

use super::NodeState;
use crate::api::anomalies::reference::Detail;
use crate::api::database::{DatabaseMetrics, TenantMetrics};
use crate::domain::database::History;
use crate::http::ApiError;
use crate::http::error::Plain;
use crate::sources::database::prometheus::{self, Prometheus};

/// Longer names are none of OceanBase's.
const MAX_NAME: usize = 128;

/// Where the figures come from.
#[derive(Clone)]
pub struct Database {
    /// What the source has kept.
    pub history: watch::Receiver<Arc<History>>,
    /// For tenants.
    pub prometheus: Option<Prometheus>,
}

pub(super) fn routes() -> Router<NodeState> {
    Router::new().route("/api/metrics/database", get(database)).route("/api/metrics/tenant", get(tenant))
}

/// The database's figures over the last half hour.
#[utoipa::path(get, path = "/api/metrics/database", tag = "reference",
    responses((status = 200, body = DatabaseMetrics)))]
pub(super) async fn database(State(node): State<NodeState>) -> Json<DatabaseMetrics> {
    let history = Arc::clone(&node.0.handles.database.history.borrow());
    Json((&*history).into())
}

/// Query of `/api/metrics/tenant`.
#[derive(Debug, Deserialize)]
pub(super) struct TenantQuery {
    tenant_name: String,
}

/// A tenant's figures over the last half hour.
#[utoipa::path(get, path = "/api/metrics/tenant", tag = "reference",
    params(("tenant_name" = String, Query, description = "such as `sys`")),
    responses((status = 200, body = TenantMetrics), (status = 400, body = Detail), (status = 502, body = Detail)))]
pub(super) async fn tenant(
    State(node): State<NodeState>,
    query: Result<Query<TenantQuery>, QueryRejection>,
) -> Result<Json<TenantMetrics>, Plain> {
    let wrong = |why: String| ApiError::Query { name: "tenant_name", why };
    let Query(TenantQuery { tenant_name }) = query.map_err(|error| wrong(error.body_text()))?;
    if tenant_name.is_empty() || tenant_name.len() > MAX_NAME {
        return Err(wrong(format!("1 to {MAX_NAME} bytes")).into());
    }
    let Database { history, prometheus } = &node.0.handles.database;
    if let Some(prometheus) = prometheus {
        let now_ns = (node.0.common.clock)();
        let samples = prometheus.tenant(&tenant_name, now_ns).await.map_err(ApiError::from)?;
        if samples.is_empty() {
            let why = format!("Prometheus knows no tenant {tenant_name:?}: does it scrape obagent?");
            return Ok(Json(TenantMetrics::none(why)));
        }
        return Ok(Json(TenantMetrics::new(&samples)));
    }
    let history = Arc::clone(&history.borrow());
    Ok(Json(match history.tenants.get(&tenant_name) {
        Some(samples) => TenantMetrics::new(samples.iter().map(|sample| &**sample)),
        None => TenantMetrics::none(no_tenant(&history, &tenant_name)),
    }))
}

fn no_tenant(history: &History, name: &str) -> String {
    if let Some(why) = history.off_because.as_ref().or(history.no_tenants.as_ref()) {
        return why.clone();
    }
    let known: Vec<&str> = history.tenants.keys().map(String::as_str).collect();
    format!("no tenant {name:?} is seen from here; there are: {}", known.join(", "))
}

impl From<prometheus::Error> for ApiError {
    fn from(error: prometheus::Error) -> Self {
        match error {
            prometheus::Error::Busy => Self::Busy { retry_after_s: 1 },
            error => Self::Database(error.to_string()),
        }
    }
}
