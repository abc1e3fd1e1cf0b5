//! Reading a request's body up to a limit.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::{ApiError, Common};

/// An order in JSON is a few hundred bytes.
const ORDER_BYTES: usize = 16 << 10;

/// An order in JSON; `empty` where there is no body.
///
/// # Errors
/// Those of [`read`], no turn to read it, and JSON that is none.
pub(super) async fn order<T: DeserializeOwned>(
    common: &Common,
    headers: &HeaderMap,
    body: Body,
    empty: &'static str,
) -> Result<T, ApiError> {
    let _slot = common.body_slot().await?;
    let bytes = read(headers, body, ORDER_BYTES).await?;
    let text = if bytes.is_empty() { empty.as_bytes() } else { &bytes };
    serde_json::from_slice(text).map_err(|error| ApiError::Invalid(format!("invalid JSON: {error}")))
}

/// The whole body, at most `limit_bytes`.
///
/// # Errors
/// [`ApiError::TooLarge`], at once where `Content-Length` says so; [`ApiError::Unreadable`] when the client
/// went away or its chunks are malformed.
pub async fn read(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit_bytes)) {
        return Err(ApiError::TooLarge { limit_bytes });
    }
    axum::body::to_bytes(body, limit_bytes).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        if source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>()) {
            return ApiError::TooLarge { limit_bytes };
        }
        ApiError::Unreadable(error.to_string())
    })
}
