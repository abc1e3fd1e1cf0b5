//! `POST /ack`, `/nak`, `/extend`.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tokio::time::Duration;

use super::{Asked, ReceiverState, parameters};
use crate::api::queue as wire;
use crate::http::error::Text;
use crate::http::{ApiError, body};
use crate::queue::{MAX_BATCH, MessageId, Settle, Verdict};

/// [`MAX_BATCH`] ids of 40 characters.
const BODY_BYTES: usize = 1 << 20;

/// The reference's words.
const FAILED: &str = "ack failed (unknown id or wrong group)";

/// Done with one record, or several.
#[utoipa::path(post, path = "/ack", tag = "queue",
    params(("topic" = String, Query), ("group" = String, Query),
        ("partition" = Option<u32>, Query, description = "an id of another partition is unknown then")),
    request_body(content = wire::Settle),
    responses((status = 200, description = "on disk: `ok`; for `ids` a `Settled`", body = str, content_type = "text/plain"),
        (status = 400, body = str, content_type = "text/plain"), (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn ack(
    State(receiver): State<ReceiverState>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Text> {
    settle(&receiver, asked, &headers, body, |_| Verdict::Ack).await
}

/// Not done with: deliver it again.
#[utoipa::path(post, path = "/nak", tag = "queue",
    params(("topic" = String, Query), ("group" = String, Query),
        ("partition" = Option<u32>, Query, description = "an id of another partition is unknown then")),
    request_body(content = wire::Settle),
    responses((status = 200, description = "`ok`; for `ids` a `Settled`", body = str, content_type = "text/plain"),
        (status = 400, body = str, content_type = "text/plain"), (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn nak(
    State(receiver): State<ReceiverState>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Text> {
    let verdict = |body: &wire::Settle| Verdict::Nak(Duration::from_millis(body.delay_ms.unwrap_or(0)));
    settle(&receiver, asked, &headers, body, verdict).await
}

/// Still at it: deliver it to nobody else yet.
#[utoipa::path(post, path = "/extend", tag = "queue",
    params(("topic" = String, Query), ("group" = String, Query),
        ("partition" = Option<u32>, Query, description = "an id of another partition is unknown then")),
    request_body(content = wire::Settle),
    responses((status = 200, description = "`ok`; for `ids` a `Settled`", body = str, content_type = "text/plain"),
        (status = 400, body = str, content_type = "text/plain"), (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn extend(
    State(receiver): State<ReceiverState>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Text> {
    let verdict = |body: &wire::Settle| Verdict::Extend(body.for_ms.map(Duration::from_millis));
    settle(&receiver, asked, &headers, body, verdict).await
}

async fn settle(
    receiver: &ReceiverState,
    asked: Asked,
    headers: &HeaderMap,
    body: Body,
    verdict: impl FnOnce(&wire::Settle) -> Verdict,
) -> Result<Response, Text> {
    let asked = parameters(asked)?;
    let partition = asked.partition()?;
    let bytes = {
        let _slot = receiver.common.body_slot().await?;
        body::read(headers, body, BODY_BYTES).await?
    };
    let body: wire::Settle = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::Invalid(format!("the body is no {{\"id\":\"...\"}}: {error}")))?;
    let verdict = verdict(&body);
    let (names, single) = match (body.id, body.ids) {
        (Some(id), None) => (vec![id], true),
        (None, Some(ids)) if ids.len() <= MAX_BATCH => (ids, false),
        (None, Some(ids)) => {
            let words = format!("{} ids, at most {MAX_BATCH} are taken", ids.len());
            return Err(ApiError::Oversized(words).into());
        }
        _ => return Err(ApiError::Invalid("the body needs either id or ids".to_owned()).into()),
    };
    // What is no id of ours names nothing: unknown, not malformed.
    let known: Vec<Option<MessageId>> = names.iter().map(|name| name.parse().ok()).collect();
    let ids: Vec<MessageId> = known.iter().flatten().copied().collect();
    let settle = Settle { topic: asked.topic, group: asked.group, partition, verdict, ids };
    let mut done = receiver.queue.queue.settle(settle).await?.into_iter();
    let count = names.len();
    let failed: Vec<String> = names
        .into_iter()
        .zip(known)
        .filter(|(_, id)| id.is_none() || !done.next().unwrap_or(false))
        .map(|(name, _)| name)
        .collect();
    if single {
        if failed.is_empty() {
            return Ok("ok".into_response());
        }
        return Err(ApiError::Invalid(FAILED.to_owned()).into());
    }
    Ok(Json(wire::Settled { settled: count - failed.len(), failed }).into_response())
}
