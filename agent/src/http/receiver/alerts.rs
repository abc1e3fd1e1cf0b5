//! `GET /api/v1/alerts` at the receiver: what is watched for, and what of it is so.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;

use super::ReceiverState;
use crate::alerts::state;
use crate::api::alerts as wire;
use crate::api::envelope::Failure;
use crate::api::time::rfc3339;
use crate::http::ApiError;

/// Query of `/api/v1/alerts`.
#[derive(Debug, Deserialize)]
pub(super) struct AlertsQuery {
    state: Option<String>,
}

/// Alerts that are pending or fire, and those that were resolved within an hour.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "receiver",
    params(("state" = Option<String>, Query, description = "only `pending`, `firing` or `resolved` ones")),
    responses((status = 200, body = wire::Alerts), (status = 400, body = Failure)))]
pub(super) async fn alerts(
    State(receiver): State<ReceiverState>,
    query: Result<Query<AlertsQuery>, QueryRejection>,
) -> Result<Json<wire::Alerts>, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "state", why: error.body_text() })?;
    let wanted = query.state.as_deref().filter(|state| !state.is_empty());
    if wanted.is_some_and(|state| !["pending", "firing", "resolved"].contains(&state)) {
        return Err(ApiError::Query { name: "state", why: "pending, firing or resolved".to_owned() });
    }
    let status = receiver.alerts.borrow().clone();
    let alerts =
        status.alerts.iter().filter(|alert| wanted.is_none_or(|wanted| alert.state.name() == wanted));
    let alerts: Vec<_> = alerts.map(alert).collect();
    Ok(Json(wire::Alerts {
        count: alerts.len(),
        evaluated_at: status.evaluated_at_ms.map(time),
        failing: status.failing.into_iter().collect(),
        alerts,
    }))
}

fn alert(alert: &state::Alert) -> wire::Alert {
    wire::Alert {
        name: alert.rule.clone(),
        state: alert.state.name().to_owned(),
        severity: alert.severity.clone(),
        labels: alert.labels.clone(),
        summary: alert.summary.clone(),
        // JSON has no number for what is infinite.
        value: alert.value.filter(|value| value.is_finite()),
        active_at: time(alert.active_at_ms),
        fired_at: alert.fired_at_ms.map(time),
        resolved_at: alert.resolved_at_ms.map(time),
    }
}

fn time(at_ms: i64) -> String {
    rfc3339(at_ms.saturating_mul(1_000_000))
}
