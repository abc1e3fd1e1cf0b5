//! The layers that every route shares, outermost first: request id, log and metrics, caught panics, CORS,
//! the guard against foreign pages, keys, the time limit.

use std::any::Any;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::time::{Duration, Instant};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any as AnyOrigin, CorsLayer};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};

use super::error::ErrorText;
use super::metrics::{RequestLabels, RouteLabels};
use super::{ApiError, Common, access, guard};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The route whose answer waits for tables to be made, and has a limit of its own.
pub(super) const PREPARE: &str = "/api/workload/prepare";

/// Longest request id that we repeat: it goes into every log line.
const MAX_REQUEST_ID: usize = 64;

/// Wraps a role's routes.
pub(super) fn apply(routes: Router, common: &Common) -> Router {
    let panics = common.metrics.panics.clone();
    let on_panic = move |_: Box<dyn Any + Send>| {
        panics.inc();
        ApiError::Panicked.into_response()
    };
    let cors = CorsLayer::new()
        .allow_origin(AnyOrigin)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::OPTIONS])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, API_KEY])
        .expose_headers([REQUEST_ID])
        .max_age(Duration::from_secs(3_600));
    routes
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(common.clone(), deadline))
        .layer(middleware::from_fn_with_state(common.clone(), access::access))
        .layer(middleware::from_fn_with_state(common.clone(), guard::guard))
        .layer(cors)
        .layer(CatchPanicLayer::custom(on_panic))
        .layer(middleware::from_fn_with_state(common.clone(), observe))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::map_request(drop_unsafe_id))
}

async fn unknown(uri: Uri) -> ApiError {
    let mut path = uri.path().to_owned();
    if path.len() > 128 {
        // A path is ASCII in http::Uri; still, cut at a character.
        let end = (0..=128).rev().find(|&end| path.is_char_boundary(end)).unwrap_or(0);
        path.truncate(end);
    }
    ApiError::NotFound(path)
}

/// A client's id is repeated in the log: what is not a plain token is replaced by ours.
async fn drop_unsafe_id(mut request: Request) -> Request {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let sane = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(plain)
    };
    if request.headers().get(REQUEST_ID).is_some_and(|value| !sane(value)) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

async fn deadline(State(common): State<Common>, request: Request, next: Next) -> Response {
    let prepares = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == PREPARE);
    let config = &common.config;
    let limit_ms = if prepares { config.prepare_timeout_ms } else { config.request_timeout_ms };
    let answer = tokio::time::timeout(Duration::from_millis(limit_ms), next.run(request)).await;
    answer.unwrap_or_else(|_| ApiError::Timeout(limit_ms).into_response())
}

/// One log line and two metrics per request.
async fn observe(State(common): State<Common>, request: Request, next: Next) -> Response {
    let since = Instant::now();
    let method = method_name(request.method());
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "unmatched".to_owned());
    let id = request.extensions().get::<RequestId>().map(|id| id.header_value().clone());

    let response = next.run(request).await;

    let elapsed = since.elapsed();
    let status = response.status().as_u16();
    let id = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let duration_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    if status >= 400 {
        if let Some(held_back) = common.throttle.admit() {
            let error = response.extensions().get::<ErrorText>().map_or("", |text| &text.0);
            tracing::info!(
                method,
                route,
                status,
                duration_us,
                request_id = id,
                error,
                held_back,
                "request refused"
            );
        } else {
            common.metrics.held_back_lines.inc();
        }
    } else if is_frequent(&route) {
        tracing::debug!(method, route, status, duration_us, request_id = id, "request");
    } else {
        tracing::info!(method, route, status, duration_us, request_id = id, "request");
    }
    let labels = RouteLabels { route };
    common.metrics.durations.get_or_create(&labels).observe(elapsed.as_secs_f64());
    common.metrics.requests.get_or_create(&RequestLabels { route: labels.route, method, status }).inc();
    response
}

/// What machines ask every few seconds, or thousands of times in one.
fn is_frequent(route: &str) -> bool {
    matches!(route, "/event" | "/health" | "/healthz" | "/livez" | "/readyz" | "/ready" | "/metrics")
        || matches!(route, "/produce" | "/produce/batch" | "/consume" | "/ack" | "/nak" | "/extend")
}

/// A closed set: the method is a metric's label.
const fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
