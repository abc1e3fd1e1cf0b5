//! The only place where an error becomes a status.
//!
//! The BSS family's envelope is `{"success":false,"error":"..."}`; every answer of Sextant's own routes that
//! is not a success has it, except a wrong method, which is a bare 405 with `Allow`, as the reference gives it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::bss_body::BodyError;
use crate::api::anomalies::reference::Detail;
use crate::api::batch::Refusal;
use crate::api::envelope::Failure;
use crate::api::influx::{Failed, FailedV1};
use crate::api::telemetry::TelemetryFailure;

/// What can go wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is not the JSON that the route takes.
    #[error("Invalid JSON format: {0}")]
    Body(#[from] BodyError),
    /// The body is longer than the route takes.
    #[error("request body exceeds {limit_bytes} bytes")]
    TooLarge {
        /// The route's limit.
        limit_bytes: usize,
    },
    /// The body did not arrive.
    #[error("request body could not be read: {0}")]
    Unreadable(String),
    /// The body is packed in a way that is not known here, or badly.
    #[error("{0}")]
    Encoding(String),
    /// A query parameter has a value that the route does not know.
    #[error("query parameter {name}: {why}")]
    Query {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The request comes from where it may not come from.
    #[error("{0}")]
    Forbidden(String),
    /// The request names nobody who may do this.
    #[error("this needs a key: X-API-Key or Authorization: Bearer, or the unix socket")]
    Unauthorized,
    /// The key that came is none.
    #[error("this key is not known")]
    WrongKey,
    /// More requests than are let in.
    #[error("more than {per_second} requests a second: try again in {retry_after_s} s")]
    TooManyRequests {
        /// How many are let in.
        per_second: u32,
        /// When to come back, s.
        retry_after_s: u64,
    },
    /// Too many wrong keys came from there.
    #[error("too many wrong keys came from your address: no key is looked at for {retry_after_s} s")]
    TooManyLogins {
        /// When to come back, s.
        retry_after_s: u64,
    },
    /// A value in the request cannot be.
    #[error("{0}")]
    Invalid(String),
    /// What is asked for contradicts what there is.
    #[error("{0}")]
    Conflict(String),
    /// No such anomaly or workload.
    #[error("{0}")]
    NoSuchAction(String),
    /// The node could not do it, and left nothing behind.
    #[error("{0}")]
    NotDone(String),
    /// The database that the node was told of.
    #[error("{0}")]
    Database(String),
    /// The node lacks what it takes.
    #[error("{0}")]
    Lacking(String),
    /// No such route.
    #[error("no such endpoint: {0} (GET / lists them)")]
    NotFound(String),
    /// No such node.
    #[error("no records of a node {0:?} (GET /api/v1/nodes lists them)")]
    NoNode(String),
    /// No such GPU.
    #[error("{0}")]
    NoGpu(String),
    /// The request was not answered in time.
    #[error("request took longer than {0} ms")]
    Timeout(u64),
    /// A node's batch is not what the envelope says. The refusal is the body.
    #[error("{}", .0.error)]
    Batch(Refusal),
    /// A node's batch is larger than is taken. The refusal is the body.
    #[error("{}", .0.error)]
    BatchTooLarge(Refusal),
    /// Too many requests wait already.
    #[error("too many records are waiting to be stored: try again in {retry_after_s} s")]
    Busy {
        /// When to come back, s.
        retry_after_s: u64,
    },
    /// Too many questions are under way, or their answers are read too slowly.
    #[error("too many questions are being answered: try again in {retry_after_s} s")]
    Crowded {
        /// When to come back, s.
        retry_after_s: u64,
    },
    /// As many events are held as may be.
    #[error("{0}")]
    EventsFull(String),
    /// Groups have as much to acknowledge as a partition holds.
    #[error("{words}")]
    QueueFull {
        /// Which partition, and of how many.
        words: String,
        /// When they will have acknowledged enough.
        retry_after_s: u64,
    },
    /// No such topic, group or record.
    #[error("{0}")]
    NotInQueue(String),
    /// More than is ever taken.
    #[error("{0}")]
    Oversized(String),
    /// The records cannot be stored at the moment.
    #[error("the records were not stored: {why}")]
    Degraded {
        /// Why.
        why: String,
        /// When to come back, s.
        retry_after_s: u64,
    },
    /// What is asked for cannot be read at the moment.
    #[error("the records could not be read: {why}")]
    NotRead {
        /// Why.
        why: String,
        /// When to come back, s.
        retry_after_s: u64,
    },
    /// As many streams are open as may be.
    #[error("{limit} streams are open, and no more are served at once ({setting})")]
    TooManyStreams {
        /// How many.
        limit: usize,
        /// Where that is said.
        setting: &'static str,
    },
    /// The pod map does not exist yet. The words before the colon are the reference's.
    #[error("Failed to get pod-pid mappings: {0}")]
    NoPods(&'static str),
    /// A part of the role is not there yet, or not any more.
    #[error("{0}")]
    NotReady(String),
    /// A handler panicked. The hook has logged and counted it.
    #[error("internal error: the request was not completed")]
    Panicked,
    /// An answer could not be encoded.
    #[error("internal error: {0}")]
    Encode(String),
}

/// The error's text, left in the answer's extensions for the request log.
#[derive(Clone, Debug)]
pub(super) struct ErrorText(pub(super) String);

impl ApiError {
    /// The status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Body(BodyError::BatchTooLong(_))
            | Self::TooLarge { .. }
            | Self::BatchTooLarge(_)
            | Self::Oversized(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Batch(_) | Self::Unreadable(_) | Self::Query { .. } | Self::Invalid(_) => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized | Self::WrongKey => StatusCode::UNAUTHORIZED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Database(_) => StatusCode::BAD_GATEWAY,
            Self::Lacking(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NotFound(_)
            | Self::NoNode(_)
            | Self::NoGpu(_)
            | Self::NoSuchAction(_)
            | Self::NotInQueue(_) => StatusCode::NOT_FOUND,
            Self::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Busy { .. }
            | Self::Crowded { .. }
            | Self::EventsFull(_)
            | Self::QueueFull { .. }
            | Self::TooManyLogins { .. }
            | Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Degraded { .. }
            | Self::NotRead { .. }
            | Self::TooManyStreams { .. }
            | Self::NoPods(_)
            | Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked | Self::Encode(_) | Self::NotDone(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// When to come back, s: a first walk of the processes takes a few.
    const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Busy { retry_after_s }
            | Self::Crowded { retry_after_s }
            | Self::Degraded { retry_after_s, .. }
            | Self::NotRead { retry_after_s, .. }
            | Self::TooManyRequests { retry_after_s, .. }
            | Self::QueueFull { retry_after_s, .. }
            | Self::TooManyLogins { retry_after_s } => Some(*retry_after_s),
            // As the window moves on.
            Self::EventsFull(_) => Some(10),
            // Streams stay open for long.
            Self::TooManyStreams { .. } => Some(30),
            Self::NoPods(_) | Self::NotReady(_) => Some(5),
            _ => None,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let text = self.to_string();
        let response = match &self {
            Self::Batch(refusal) | Self::BatchTooLarge(refusal) => {
                (self.status(), Json(refusal)).into_response()
            }
            _ => (self.status(), Json(Failure::new(text.clone()))).into_response(),
        };
        self.dress(response, text)
    }
}

/// An error in the envelope of the reference's anomaly and workload backend: `{"detail":"..."}`.
#[derive(Debug)]
pub(super) struct Plain(ApiError);

impl From<ApiError> for Plain {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        let detail = self.0.to_string();
        let response = (self.0.status(), Json(Detail { detail: detail.clone() })).into_response();
        self.0.dress(response, detail)
    }
}

/// An error as the reference's broker gives it: its text and nothing else.
#[derive(Debug)]
pub(super) struct Text(ApiError);

impl<E: Into<ApiError>> From<E> for Text {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        let text = self.0.to_string();
        let response = (self.0.status(), text.clone()).into_response();
        self.0.dress(response, text)
    }
}

/// An error as InfluxDB gives it, in its second version or its first.
#[derive(Debug)]
pub(super) enum Influx {
    /// `{"code":"invalid","message":"..."}`
    Two(ApiError),
    /// `{"error":"..."}`
    One(ApiError),
}

impl IntoResponse for Influx {
    fn into_response(self) -> Response {
        let (Self::Two(error) | Self::One(error)) = &self;
        let (status, text) = (error.status(), error.to_string());
        let response = match &self {
            Self::Two(_) => (status, Json(Failed::new(status.as_u16(), text.clone()))).into_response(),
            Self::One(_) => (status, Json(FailedV1 { error: text.clone() })).into_response(),
        };
        error.dress(response, text)
    }
}

/// An error in the envelope of the reference's telemetry API: `{"error":"...","message":"..."}`.
#[derive(Debug)]
pub(super) struct Telemetry(ApiError);

impl<E: Into<ApiError>> From<E> for Telemetry {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Telemetry {
    fn into_response(self) -> Response {
        let (status, message) = (self.0.status(), self.0.to_string());
        let error = status.canonical_reason().unwrap_or("Error").to_owned();
        let response = (status, Json(TelemetryFailure { error, message: message.clone() })).into_response();
        self.0.dress(response, message)
    }
}

/// An error as the family of a route gives it.
pub(super) fn in_family(route: &str, error: ApiError) -> Response {
    let begins = |families: &[&str]| families.iter().any(|family| route.starts_with(family));
    if begins(&["/produce", "/consume", "/ack", "/nak", "/extend", "/topics"]) {
        Text(error).into_response()
    } else if begins(&["/api/v1/write"]) {
        Text(for_remote_write(error)).into_response()
    } else if begins(&["/api/v2/write"]) {
        Influx::Two(error).into_response()
    } else if begins(&["/write"]) {
        Influx::One(error).into_response()
    } else if begins(&["/api/anomaly/", "/api/workload/", "/api/metrics/"]) {
        Plain(error).into_response()
    } else if begins(&["/telemetry", "/api/v1/gpus", "/api/v1/hosts", "/api/v1/namespaces"]) {
        Telemetry(error).into_response()
    } else {
        error.into_response()
    }
}

/// What to come back after is 503 to a sender of remote write: on 429 Prometheus throws away what it has.
fn for_remote_write(error: ApiError) -> ApiError {
    match error.retry_after_s() {
        Some(retry_after_s) if error.status() == StatusCode::TOO_MANY_REQUESTS => {
            ApiError::Degraded { why: error.to_string(), retry_after_s }
        }
        _ => error,
    }
}

impl ApiError {
    /// Headers, and the text for the log.
    fn dress(&self, mut response: Response, text: String) -> Response {
        if self.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(ErrorText(text));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_said_only_where_it_helps() {
        let busy = ApiError::Busy { retry_after_s: 60 }.into_response();
        assert_eq!(
            (busy.status(), &busy.headers()[header::RETRY_AFTER]),
            (StatusCode::TOO_MANY_REQUESTS, &60.into())
        );
        assert_eq!(ApiError::NoPods("early").into_response().headers()[header::RETRY_AFTER], "5");
        let refused = ApiError::TooLarge { limit_bytes: 1 }.into_response();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(!refused.headers().contains_key(header::RETRY_AFTER), "the same body will never fit");
    }
}
