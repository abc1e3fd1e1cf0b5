//! `GET /consume`: a stream, or with `max` an answer; and `DELETE /consume`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::{Duration, timeout};

use super::{Asked, Door, ReceiverState, number, parameters, shown, stream};
use crate::api::queue as wire;
use crate::http::ApiError;
use crate::http::error::Text;
use crate::http::stream::LAST_EVENT_ID;
use crate::queue::{MAX_PULL, MessageId, Parcel, Pull};

/// Longest wait of a pull: half of what a request may take.
const MAX_WAIT_MS: u64 = 5_000;

/// Bytes of a pull's records; a single larger one is given alone.
const PULL_BYTES: usize = 1 << 20;

/// Records that a stream's client may hold without a word, unless it says how many.
const CREDIT: usize = 100;

/// A group's records, as a stream or as an answer.
#[utoipa::path(get, path = "/consume", tag = "queue",
    params(("topic" = String, Query), ("group" = String, Query, description = "every group sees every record"),
        ("partition" = Option<u32>, Query, description = "without one they come from all partitions"),
        ("max" = Option<usize>, Query, description = "answer with so many as JSON (`Messages`), 1 to 1000, instead of a stream"),
        ("wait_ms" = Option<u64>, Query, description = "with `max`: wait for the first one, up to 5000"),
        ("credit" = Option<usize>, Query, description = "of a stream: records sent and not acknowledged, 1 to 1000; 100"),
        ("Last-Event-ID" = Option<String>, Header,
            description = "the last record that arrived: what was sent after it and got lost is sent again at once")),
    responses((status = 200, content_type = "text/event-stream", body = wire::Message,
            description = "`id:` and `data:` as in other streams, and a line `partition: N`"),
        (status = 400, body = str, content_type = "text/plain"), (status = 409, body = str, content_type = "text/plain"),
        (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn consume(
    State(receiver): State<ReceiverState>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Text> {
    let asked = parameters(asked)?;
    let max: Option<usize> = number("max", asked.max.as_deref())?;
    let wait_ms: u64 = number("wait_ms", asked.wait_ms.as_deref())?.unwrap_or(0);
    if wait_ms > MAX_WAIT_MS {
        return Err(ApiError::Query { name: "wait_ms", why: format!("at most {MAX_WAIT_MS}") }.into());
    }
    let credit: usize = number("credit", asked.credit.as_deref())?.unwrap_or(CREDIT);
    let after = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.trim().parse::<MessageId>().ok());
    let mut pull = Pull {
        partition: asked.partition()?,
        topic: asked.topic,
        group: asked.group,
        max_messages: max.unwrap_or(stream::PAGE),
        max_bytes: if max.is_some() { PULL_BYTES } else { stream::PAGE_BYTES },
        wait: max.is_some() && wait_ms > 0,
        make: true,
        consumer: 0,
        credit: if max.is_some() { MAX_PULL } else { credit },
        after,
    };
    let door = &receiver.queue;
    if max.is_some() {
        return answer(door, pull, Duration::from_millis(wait_ms)).await;
    }
    let Ok(slot) = Arc::clone(&door.streams).try_acquire_owned() else {
        receiver.common.metrics.streams_refused.inc();
        let (limit, setting) = (door.max_streams, "[queue] max_streams");
        return Err(ApiError::TooManyStreams { limit, setting }.into());
    };
    let consumer = door.queue.consumer(&pull.topic, &pull.group);
    pull.consumer = consumer.number();
    // A first look, so that what cannot be is refused in words and not by a stream that ends.
    let first = door.queue.pull(pull.clone()).await?;
    (pull.wait, pull.make, pull.after) = (true, false, None);
    Ok(stream::respond(&receiver, pull, first, consumer, slot))
}

/// What there is, or the first that comes within `patience`.
async fn answer(door: &Door, pull: Pull, patience: Duration) -> Result<Response, Text> {
    let _slot = door.pulls.try_acquire().map_err(|_| ApiError::Busy { retry_after_s: 1 })?;
    let topic = pull.topic.clone();
    let pulled = if pull.wait {
        timeout(patience, door.queue.pull(pull)).await.ok().transpose()?
    } else {
        Some(door.queue.pull(pull).await?)
    };
    let messages = pulled.map(Parcel::take_all).unwrap_or_default();
    let messages = messages.into_iter().map(|message| shown(&topic, message)).collect();
    Ok(Json(wire::Messages { messages }).into_response())
}

/// Forgets a group: what it has not acknowledged holds nothing back any more.
#[utoipa::path(delete, path = "/consume", tag = "queue",
    params(("topic" = String, Query), ("group" = String, Query)),
    responses((status = 204, description = "it is forgotten"),
        (status = 404, body = str, content_type = "text/plain"), (status = 503, body = str, content_type = "text/plain")))]
pub(in super::super) async fn forget(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<StatusCode, Text> {
    let asked = parameters(asked)?;
    receiver.queue.queue.forget_group(&asked.topic, &asked.group).await?;
    Ok(StatusCode::NO_CONTENT)
}
