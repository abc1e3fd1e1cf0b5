//! `GET /api/v1/stream` of both roles: samples as server-sent events (the WHATWG's `text/event-stream`).
//!
//! ```text
//! retry: 5000
//!
//! event: scheduler
//! id: 1750329000000000000
//! data: {"at_ns":1750329000000000000,...}
//! ```
//!
//! # What a stream keeps
//!
//! - **The latest value wins.** A stream asks for a sample when its client has taken the one before. What came meanwhile
//!   is skipped, counted, and told by an event `skipped` before the next. There is no queue, so nothing grows.
//! - **It begins with the present**: the latest of everything that was asked for. `Last-Event-ID` replays nothing, since
//!   samples are not kept; it spares the client what it already has. How far, the role's own part says.
//! - **Their number is bounded** ([`super::Config::max_streams`]); one more is 503 with `Retry-After`.
//! - **A client that has gone or stands still** loses its connection after [`super::Config::stalled_ms`], by the kernel's
//!   own timeout; a comment every [`KEEP_ALIVE`] makes that certain where there is nothing to say. Clients of the unix
//!   socket are processes of this machine and may stand still for as long as they live.
//! - **It ends when the process begins to stop**, so that no stream holds up the drain; clients come back by themselves.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;

use super::metrics::{KindLabel, Metrics};
use super::{ApiError, Common};
use crate::api::stream::Skipped;

/// Between two comments where there is nothing to say: half of what proxies wait for at least.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What clients wait before they come back, ms: a role is restarted in less.
const RETRY: Duration = Duration::from_secs(5);

/// The header with which a client comes back.
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Ascending.
    pub(super) id: i64,
    /// The event's name.
    pub(super) kind: &'static str,
    /// JSON in one line.
    pub(super) data: String,
    /// Samples of this kind since the last one that this stream carried.
    pub(super) skipped: u64,
}

/// Where a stream's samples come from.
pub(super) trait Feed: Send + 'static {
    /// Waits for the next one; `None` when there will be none.
    fn next(&mut self) -> impl Future<Output = Option<Message>> + Send;
}

/// The answer that carries a feed.
///
/// # Errors
/// Too many streams are open, or the process is stopping.
pub(super) fn respond<F: Feed>(common: &Common, feed: F) -> Result<Response, ApiError> {
    if common.draining.is_cancelled() {
        return Err(ApiError::NotReady("not ready: stopping".to_owned()));
    }
    let Ok(slot) = Arc::clone(&common.streams).try_acquire_owned() else {
        common.metrics.streams_refused.inc();
        let (limit, setting) = (common.config.max_streams, "[http] max_streams");
        return Err(ApiError::TooManyStreams { limit, setting });
    };
    let open = Open::new(slot, common);
    let draining = common.draining.clone();
    // Headers alone would wait in a buffer until the first sample.
    let greeting = stream::iter([vec![Event::default().retry(RETRY)]]);
    let samples = stream::unfold((feed, open), move |(mut feed, open)| {
        let draining = draining.clone();
        async move {
            let message = tokio::select! {
                biased;
                () = draining.cancelled() => None,
                message = feed.next() => message,
            }?;
            Some((open.carry(message), (feed, open)))
        }
    });
    let events = greeting.chain(samples).flat_map(stream::iter).map(Ok::<_, Infallible>);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("nothing new");
    // Proxies of nginx's kind hold an answer back until it is long enough.
    Ok(([("x-accel-buffering", "no")], Sse::new(events).keep_alive(keep_alive)).into_response())
}

/// A stream that is open: counted from its beginning to whatever end it has.
struct Open {
    _slot: OwnedSemaphorePermit,
    metrics: Metrics,
}

impl Open {
    fn new(slot: OwnedSemaphorePermit, common: &Common) -> Self {
        common.metrics.streams.inc();
        Self { _slot: slot, metrics: common.metrics.clone() }
    }

    fn carry(&self, message: Message) -> Vec<Event> {
        let Message { id, kind, data, skipped } = message;
        let label = KindLabel { kind };
        let mut events = Vec::with_capacity(2);
        if skipped > 0 {
            self.metrics.stream_skipped.get_or_create(&label).inc_by(skipped);
            // A number in braces: there is nothing that could fail.
            let data = serde_json::to_string(&Skipped { samples: skipped }).unwrap_or_default();
            events.push(Event::default().event("skipped").data(data));
        }
        self.metrics.stream_events.get_or_create(&label).inc();
        events.push(Event::default().event(kind).id(id.to_string()).data(data));
        events
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.streams.dec();
    }
}

/// The kinds that a query names, all of them if it names none.
///
/// # Errors
/// A kind that there is not.
pub(super) fn kinds(query: Option<&str>, all: &[&'static str]) -> Result<BTreeSet<&'static str>, ApiError> {
    let Some(query) = query.filter(|query| !query.is_empty()) else {
        return Ok(all.iter().copied().collect());
    };
    let known = |word: &str| all.iter().copied().find(|kind| *kind == word.trim());
    let unknown =
        || ApiError::Query { name: "kind", why: format!("any of {}, separated by commas", all.join(", ")) };
    query.split(',').map(|word| known(word).ok_or_else(unknown)).collect()
}

/// The id of the last event that the client has; none if it is none of ours.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
pub(super) mod tests;
