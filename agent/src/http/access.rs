//! Which scope a route takes, and who is let through to it.
//!
//! | scope | routes |
//! |---|---|
//! | none | health checks, the API's description and its pages: never a key, never a limit |
//! | `read` | what is only read, `/metrics` among it |
//! | `write` | BSS records, `/event`, `/produce`, `/telemetry`, samples by remote write and line protocol |
//! | `consume` | `/consume` and what settles it |
//! | `ingest` | nodes' batches |
//! | `act` | anomalies and workloads: asked for by [`super::guarded`], which says first whether they are on |
//! | `admin` | whatever changes something and is not named here |
//!
//! A key that no route asks for is of no matter: clients of the reference send theirs everywhere.

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::keys::{Caller, Scope, presented};
use super::metrics::RouteLabels;
use super::serve::{Connection, Local};
use super::{ApiError, Common, error};

/// The scope that a route takes.
pub(super) fn scope(method: &Method, route: &str) -> Option<Scope> {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    match route {
        "/health" | "/healthz" | "/livez" | "/readyz" | "/ready" => None,
        "/openapi.json" | "/docs" | "/swagger" | "/swagger/" | "/swagger/{*file}" => None,
        "/api/v1/ingest" => Some(Scope::Ingest),
        // Consuming takes records from others, whatever its method says.
        "/consume" | "/ack" | "/nak" | "/extend" => Some(Scope::Consume),
        _ if reads => Some(Scope::Read),
        "/api/v1/metrics" | "/event" | "/produce" | "/produce/batch" | "/telemetry" => Some(Scope::Write),
        "/api/v1/write" | "/api/v2/write" | "/write" => Some(Scope::Write),
        _ if is_action(route) => Some(Scope::Act),
        _ => Some(Scope::Admin),
    }
}

fn is_action(route: &str) -> bool {
    let families = ["/api/v1/anomalies", "/api/v1/workloads", "/api/anomaly/", "/api/workload/"];
    families.iter().any(|family| route.starts_with(family))
}

/// Lets a request through, with its [`Caller`], or answers it.
pub(super) async fn access(State(common): State<Common>, mut request: Request, next: Next) -> Response {
    // What no route matches is 404, whoever asks.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let scope = route.as_ref().and_then(|route| scope(request.method(), route.as_str()));
    let (Some(route), Some(scope)) = (route, scope) else { return next.run(request).await };
    match admit(&common, &request, route.as_str(), scope) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => error::in_family(route.as_str(), refusal),
    }
}

fn admit(common: &Common, request: &Request, route: &str, scope: Scope) -> Result<Caller, ApiError> {
    let from = request.extensions().get::<Connection>();
    if from.is_some_and(|from| from.local == Local::Unix) {
        return Ok(Caller::Local);
    }
    let peer = from.and_then(|from| from.peer);
    let needed = common.keys.are_needed(scope);
    let caller = match presented(request.headers()) {
        None => Caller::Nobody,
        Some(key) => {
            if needed {
                common.logins.admit(peer)?;
            }
            common.keys.find(key).map_or(Caller::Stranger, Caller::Holder)
        }
    };
    if needed && matches!(caller, Caller::Stranger) {
        common.logins.failed(peer);
    }
    common.rates.admit(&caller, peer).inspect_err(|_| {
        let labels = RouteLabels { route: route.to_owned() };
        common.metrics.rate_limited.get_or_create(&labels).inc();
    })?;
    if needed && scope != Scope::Act {
        caller.may(scope)?;
    }
    Ok(caller)
}

#[cfg(test)]
mod tests;
