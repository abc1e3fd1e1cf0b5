//! `GET /api/v1/samples/stream`: samples of some series as they come, as server-sent events.
//!
//! Each event has what came since the one before, `{"series":[{"labels","samples"}]}`, and as its id the time of the newest
//! sample in it, ms. A client that comes back with `Last-Event-ID` gets what is newer than that, as far back as an hour; one
//! that comes first gets what comes from then on. The store is asked once a second: a sample that comes later than others of
//! its time is in the store, and not here.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Asked, Door, HOUR_MS, ReceiverState, parameters};
use crate::api::envelope::Failure;
use crate::api::series::SamplesList;
use crate::domain::series::{Range, Selection};
use crate::http::ApiError;
use crate::http::stream::{Feed, Message, last_event_id, respond};
use crate::series;

/// How often the store is asked: samples of most things come once a second or less.
const EVERY: Duration = Duration::from_secs(1);

/// Series of one tail: a person looks at fewer, a machine reads ranges.
const MAX_SERIES: usize = 1_000;

/// Samples of one event: what comes of so many series in a minute.
const MAX_SAMPLES: usize = 60_000;

/// Samples of some series as they come.
#[utoipa::path(get, path = "/api/v1/samples/stream", tag = "series",
    params(("match" = String, Query, description = "PromQL's selector: `name{label=\"value\"}`; 1000 series at most"),
        ("Last-Event-ID" = Option<i64>, Header, description = "the last event that the client has: newer samples follow, an hour back at most")),
    responses((status = 200, content_type = "text/event-stream", body = SamplesList,
            description = "`event: samples`, its `id` the time of the newest sample, ms"),
        (status = 400, body = Failure), (status = 413, body = Failure), (status = 503, body = Failure)))]
pub(in super::super) async fn stream(
    State(receiver): State<ReceiverState>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, ApiError> {
    let selection = parameters(asked)?.selection(true)?;
    let now_ms = (receiver.common.clock)().div_euclid(1_000_000);
    let last = Range { from_ms: now_ms - HOUR_MS, to_ms: now_ms };
    // What is too much is said before the stream begins.
    receiver.series.series.find(&selection, last, MAX_SERIES).await?;
    let after_ms = last_event_id(&headers).filter(|id| *id <= now_ms).unwrap_or(now_ms);
    let feed = Tail {
        door: receiver.series.clone(),
        clock: receiver.common.clock,
        selection,
        after_ms: after_ms.max(last.from_ms),
        ticks: {
            let mut ticks = interval_at(Instant::now(), EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        },
    };
    respond(&receiver.common, feed)
}

struct Tail {
    door: Door,
    clock: fn() -> i64,
    selection: Selection,
    after_ms: i64,
    ticks: tokio::time::Interval,
}

impl Feed for Tail {
    async fn next(&mut self) -> Option<Message> {
        loop {
            self.ticks.tick().await;
            let to_ms = (self.clock)().div_euclid(1_000_000);
            let query = series::Query {
                selection: self.selection.clone(),
                range: Range { from_ms: self.after_ms + 1, to_ms },
                buckets: None,
                max_series: MAX_SERIES,
                max_samples: MAX_SAMPLES,
            };
            // A disk that says no now is asked again in a second; more than fits ends the stream.
            let found = match self.door.series.read(&query).await {
                Ok(found) => found,
                Err(series::Error::TooMuch { .. } | series::Error::Closed) => return None,
                Err(_) => continue,
            };
            let newest_ms =
                found.iter().filter_map(|series| series.samples.last()).map(|last| last.at_ms).max();
            let Some(newest_ms) = newest_ms else { continue };
            self.after_ms = newest_ms;
            let series: Vec<_> = found.into_iter().map(Into::into).collect();
            let data = serde_json::to_string(&SamplesList { count: series.len(), series }).ok()?;
            return Some(Message { id: newest_ms, kind: "samples", data, skipped: 0 });
        }
    }
}
