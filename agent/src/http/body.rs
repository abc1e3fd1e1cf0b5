//! Reading a request's body up to a limit, packed or not.

use std::io::Read as _;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
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

/// As [`read`], of a body that may be packed (`Content-Encoding: gzip`): the limit is that of what comes out.
///
/// # Errors
/// Those of [`read`]; [`ApiError::Encoding`] for another packing, or one that is broken.
pub(super) async fn unpacked(headers: &HeaderMap, body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(Ok("identity"), |value| value.to_str());
    let packed = match encoding {
        Ok("identity") => false,
        Ok("gzip") => true,
        _ => {
            return Err(ApiError::Encoding(
                "this body's content-encoding is not known here: gzip is".to_owned(),
            ));
        }
    };
    let bytes = read(headers, body, limit_bytes).await?;
    if !packed {
        return Ok(bytes);
    }
    // Megabytes take tens of milliseconds.
    let unpacking = tokio::task::spawn_blocking(move || {
        let mut plain = Vec::new();
        let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX).saturating_add(1);
        MultiGzDecoder::new(&*bytes).take(limit).read_to_end(&mut plain).map(|_| plain)
    });
    match unpacking.await {
        Ok(Ok(plain)) if plain.len() > limit_bytes => Err(ApiError::TooLarge { limit_bytes }),
        Ok(Ok(plain)) => Ok(plain.into()),
        Ok(Err(error)) => Err(ApiError::Encoding(format!("this body is no gzip: {error}"))),
        Err(_) => Err(ApiError::Encoding("unpacking failed".to_owned())),
    }
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
