//! `POST /produce` and `POST /produce/batch`.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderMap;

use super::{Asked, Parameters, ReceiverState, parameters};
use crate::api::queue as wire;
use crate::http::error::Text;
use crate::http::{ApiError, body};
use crate::queue::{MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, NewMessage, Produce};

/// A payload of the largest size fits even where every second character is escaped, or a few are by `\u....`.
const SINGLE_BODY_BYTES: usize = 2 * MAX_PAYLOAD_BYTES;
const BATCH_BODY_BYTES: usize = 2 * MAX_BATCH_BYTES;

/// Keeps a record.
#[utoipa::path(post, path = "/produce", tag = "queue",
    params(("topic" = String, Query, description = "1 to 123 of `A-Za-z0-9._-`; made if there is none"),
        ("partition" = Option<u32>, Query, description = "without one the key decides, and without a key they take turns"),
        ("key" = Option<String>, Query, description = "records with the same key go to the same partition"),
        ("id" = Option<String>, Query, description = "a record that comes again under its id is not kept again")),
    request_body(content = wire::NewMessage, description = "or anything else: the payload itself"),
    responses((status = 200, description = "on disk", body = wire::Produced),
        (status = 400, body = str, content_type = "text/plain"), (status = 409, body = str, content_type = "text/plain"),
        (status = 413, body = str, content_type = "text/plain"), (status = 429, body = str, content_type = "text/plain"),
        (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn single(
    State(receiver): State<ReceiverState>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Produced>, Text> {
    let asked = parameters(asked)?;
    let bytes = read(&receiver, &headers, body, SINGLE_BODY_BYTES).await?;
    let payload = payload(&bytes)?;
    let key = asked.key.clone();
    let batch = batch(asked, vec![NewMessage { key, payload }])?;
    let produced = receiver.queue.keep(batch).await?;
    let id = produced.ids.first().map(ToString::to_string).unwrap_or_default();
    Ok(Json(wire::Produced { id }))
}

/// Keeps a batch, whole or not at all.
#[utoipa::path(post, path = "/produce/batch", tag = "queue",
    params(("topic" = String, Query, description = "1 to 123 of `A-Za-z0-9._-`; made if there is none"),
        ("partition" = Option<u32>, Query, description = "of all records; without one their keys decide"),
        ("key" = Option<String>, Query, description = "of records that have none"),
        ("id" = Option<String>, Query, description = "a batch that comes again under its id is not kept again")),
    request_body(content = wire::NewBatch, description = "at most 10,000 records and 4 MiB of payload"),
    responses((status = 200, description = "on disk", body = wire::ProducedBatch),
        (status = 400, body = str, content_type = "text/plain"), (status = 409, body = str, content_type = "text/plain"),
        (status = 413, body = str, content_type = "text/plain"), (status = 429, body = str, content_type = "text/plain"),
        (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn several(
    State(receiver): State<ReceiverState>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::ProducedBatch>, Text> {
    let asked = parameters(asked)?;
    let bytes = read(&receiver, &headers, body, BATCH_BODY_BYTES).await?;
    let key = asked.key.clone();
    // Megabytes of JSON take milliseconds: not on the threads that answer others.
    let decoding = tokio::task::spawn_blocking(move || messages(&bytes, key.as_deref()));
    let messages = decoding.await.map_err(|error| ApiError::Encode(error.to_string()))??;
    let produced = receiver.queue.keep(batch(asked, messages)?).await?;
    let ids = produced.ids.iter().map(ToString::to_string).collect();
    Ok(Json(wire::ProducedBatch { ids, duplicate: produced.duplicate }))
}

/// A body's turn ends when it is read: what waits for the disk is limited by the queue.
async fn read(
    receiver: &ReceiverState,
    headers: &HeaderMap,
    body: Body,
    limit_bytes: usize,
) -> Result<Bytes, ApiError> {
    let _slot = receiver.common.body_slot().await?;
    body::read(headers, body, limit_bytes).await
}

fn batch(asked: Parameters, messages: Vec<NewMessage>) -> Result<Produce, ApiError> {
    let partition = asked.partition()?;
    Ok(Produce { topic: asked.topic, partition, id: asked.id, messages })
}

/// The string `payload` of a JSON object, or the body as it is.
fn payload(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let text = str::from_utf8(body).map_err(|error| {
        ApiError::Invalid(format!("the body is no UTF-8 ({error}), and a consumer is sent text"))
    })?;
    let whole = text.trim();
    if whole.starts_with('{')
        && let Ok(message) = serde_json::from_str::<wire::NewMessage<'_>>(whole)
    {
        return Ok(message.payload.into_owned().into_bytes());
    }
    Ok(whole.as_bytes().to_vec())
}

fn messages(body: &[u8], key: Option<&str>) -> Result<Vec<NewMessage>, ApiError> {
    let batch: wire::NewBatch<'_> = serde_json::from_slice(body).map_err(|error| {
        ApiError::Invalid(format!("the body is no {{\"messages\":[{{\"payload\":\"...\"}}]}}: {error}"))
    })?;
    let of = |message: wire::NewMessage<'_>| NewMessage {
        key: message.key.map(std::borrow::Cow::into_owned).or_else(|| key.map(str::to_owned)),
        payload: message.payload.into_owned().into_bytes(),
    };
    Ok(batch.messages.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_the_reference_reads_it() {
        let read = |body: &str| String::from_utf8(payload(body.as_bytes()).expect("text")).expect("text");
        assert_eq!(read(r#"{"payload":"a \"b\" é"}"#), "a \"b\" é");
        assert_eq!(read(r#" {"payload":"","other":1} "#), "");
        for whole in ["plain", r#"{"payload":5}"#, r#"{"payloads":"x"}"#, "[1]", "{", r#""text""#, ""] {
            assert_eq!(read(&format!(" \n{whole}\t")), whole);
        }
        assert!(payload(b"\xff").is_err());
    }
}
