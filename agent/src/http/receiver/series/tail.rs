//! `GET /api/v1/samples/stream`: samples of some series as they come, as server-sent events.
//!
//! Each event has what came since the one before, `{"series":[{"labels","samples"}]}`, and as its id a time, ms, up to which
//! no series lacks a sample. A client that comes back with `Last-Event-ID` gets what is newer than that, as far back as an
//! hour: nothing is missing then, and of series that were ahead some samples come again. One that comes first gets what
//! comes from then on. The store is asked once a second, and a series may lag behind the others by a minute ([`cursor`]).
//! What comes later than a newer sample of its own series is in the store, and not here.

mod cursor;

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::cursor::Cursor;
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

/// Samples of one reading, two minutes at most: of so many series two a second.
const MAX_SAMPLES: usize = 240_000;

/// Samples of some series as they come.
#[utoipa::path(get, path = "/api/v1/samples/stream", tag = "series",
    params(("match" = String, Query, description = "PromQL's selector: `name{label=\"value\"}`; 1000 series at most"),
        ("Last-Event-ID" = Option<i64>, Header, description = "the last event that the client has: newer samples follow, an hour back at most; some may come again")),
    responses((status = 200, content_type = "text/event-stream", body = SamplesList,
            description = "`event: samples`, its `id` a time up to which no series lacks a sample, ms"),
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
        cursor: Cursor::new(after_ms.max(last.from_ms)),
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
    cursor: Cursor,
    ticks: tokio::time::Interval,
}

impl Feed for Tail {
    async fn next(&mut self) -> Option<Message> {
        loop {
            if !self.cursor.behind(self.now_ms()) {
                self.ticks.tick().await;
            }
            let range = self.cursor.range(self.now_ms());
            let query = series::Query {
                selection: self.selection.clone(),
                range,
                buckets: None,
                max_series: MAX_SERIES,
                max_samples: MAX_SAMPLES,
            };
            let read = match self.door.series.read(&query).await {
                Ok(read) => read,
                Err(series::Error::TooMuch { .. } | series::Error::Closed) => return None,
                // A disk that says no now is asked again in a second; more than fits ends the stream.
                Err(_) => {
                    tokio::time::sleep(EVERY).await;
                    continue;
                }
            };
            let unsent = self.cursor.unsent(range, read);
            if unsent.is_empty() {
                continue;
            }
            let series: Vec<_> = unsent.into_iter().map(Into::into).collect();
            let data = serde_json::to_string(&SamplesList { count: series.len(), series }).ok()?;
            return Some(Message { id: self.cursor.id(), kind: "samples", data, skipped: 0 });
        }
    }
}

impl Tail {
    fn now_ms(&self) -> i64 {
        (self.clock)().div_euclid(1_000_000)
    }
}
