//! `POST /api/v1/write`: Prometheus' remote write, 1.0 and 2.0.
//!
//! The answer says how much was written (`X-Prometheus-Remote-Write-*-Written`), to senders of either version. Exemplars
//! and metadata are read past; native histograms are told as not stored. Errors are plain text, as Prometheus' are.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::super::ReceiverState;
use super::{in_time, not_stored, source, store, turn};
use crate::http::error::Text;
use crate::http::keys::Caller;
use crate::http::serve::Connection;
use crate::http::{ApiError, body};
use crate::series::remote::wire::{self, MAX_PACKED_BYTES, Version};

/// Number of each kind that was written, by header.
const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];

/// Takes samples by remote write, 1.0 and 2.0.
#[utoipa::path(post, path = "/api/v1/write", tag = "series",
    request_body(content = Vec<u8>, content_type = "application/x-protobuf",
        description = "`prometheus.WriteRequest`, or with `proto=io.prometheus.write.v2.Request` that, in a block of snappy"),
    responses((status = 204, description = "all stored; `X-Prometheus-Remote-Write-Samples-Written` says how many"),
        (status = 400, description = "what could be stored is, the rest never will be", body = str, content_type = "text/plain"),
        (status = 413, body = str, content_type = "text/plain"), (status = 415, body = str, content_type = "text/plain"),
        (status = 503, description = "come again after `Retry-After`", body = str, content_type = "text/plain")))]
pub(in super::super) async fn write(
    State(receiver): State<ReceiverState>,
    connection: Option<Extension<Connection>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Text> {
    let version = version(&headers)?;
    let source = source(&caller, connection.as_deref());
    Ok(in_time(&receiver, take(&receiver, version, &source, &headers, body)).await?)
}

async fn take(
    receiver: &ReceiverState,
    version: Version,
    source: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let _turn = turn(receiver).await?;
    let packed = body::read(headers, body, MAX_PACKED_BYTES).await?;
    // Megabytes take tens of milliseconds.
    let decoding = tokio::task::spawn_blocking(move || wire::decode(version, &packed));
    let received = decoding.await.map_err(|error| ApiError::Encode(error.to_string()))?;
    let received = received.map_err(|error| unreadable(&error))?;
    let appended = store(receiver, source, received.series).await?;
    let why = received.why.map(|why| why.to_string());
    let mut words: Vec<_> = not_stored(&appended, received.refused, why.as_deref()).into_iter().collect();
    if received.histograms > 0 {
        let count = received.histograms;
        words.push(format!("{count} native histograms are not stored: there is no place for them"));
    }
    let mut response = if words.is_empty() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Text::from(ApiError::Invalid(words.join("; "))).into_response()
    };
    for (name, count) in WRITTEN.into_iter().zip([appended.stored, 0, 0]) {
        response.headers_mut().insert(name, HeaderValue::from(count));
    }
    Ok(response)
}

fn version(headers: &HeaderMap) -> Result<Version, ApiError> {
    let text = |name| headers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap_or("?"));
    let encoding = text(header::CONTENT_ENCODING);
    // Older senders do not say it.
    if !encoding.is_empty() && encoding != "snappy" {
        let words = format!("content-encoding {encoding:?} is not known here: snappy is");
        return Err(ApiError::Encoding(words));
    }
    let content = text(header::CONTENT_TYPE);
    Version::of(content).ok_or_else(|| {
        ApiError::Encoding(format!(
            "content-type {content:?} is neither version of remote write that is known here"
        ))
    })
}

fn unreadable(error: &wire::Error) -> ApiError {
    match error {
        wire::Error::TooLarge { .. } => ApiError::Oversized(error.to_string()),
        _ => ApiError::Invalid(error.to_string()),
    }
}
