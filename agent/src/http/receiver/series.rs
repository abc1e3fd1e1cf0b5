//! Time series of everything that nodes sent and others wrote.
//!
//! - `GET /api/v1/series?match=SELECTOR` which there are
//! - `GET /api/v1/labels`, `GET /api/v1/labels/{name}/values?match=SELECTOR`
//! - `GET /api/v1/samples?match=SELECTOR&start=&end=&step=&agg=&format=json|csv` their samples, raw or by time bucket
//! - `GET /api/v1/samples/stream?match=SELECTOR` what comes, as server-sent events ([`tail`])
//! - `GET /api/v1/statistics?match=SELECTOR&by=LABEL,...` what they are like
//!
//! A selector is PromQL's: `name{label="value",other=~"a|b"}`. Times are RFC 3339 or seconds since the epoch, steps `15s`,
//! `5m`, `1h` or seconds.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;
use tokio::sync::Semaphore;

use self::room::{Room, Turn};
use super::ReceiverState;
use super::write::WRITES;
use crate::api::envelope::Failure;
use crate::api::series as wire;
use crate::domain::series::{Range, Selection, SeriesSamples};
use crate::http::ApiError;
use crate::series::{self, Error, Series};

pub(super) mod ask;
mod csv;
pub(super) mod json;
pub(super) mod room;
pub(super) mod selector;
pub mod statistics;
pub mod tail;

/// Series of one answer.
pub(super) const MAX_SERIES: usize = 20_000;

/// Samples of one answer: 16 MB in memory, some 30 MB as JSON, which is written out piece by piece.
pub(super) const MAX_SAMPLES: usize = 1_000_000;

/// A question is answered within seconds.
const BUSY_RETRY_S: u64 = 1;

/// The store of series, and room for those who ask ([`room`]).
#[derive(Clone, Debug)]
pub struct Door {
    pub(super) series: Series,
    pub(super) room: Arc<Room>,
    /// Room for those who write ([`super::write`]).
    pub(super) writes: Arc<Semaphore>,
}

impl Door {
    /// To this store.
    pub fn new(series: Series) -> Self {
        Self { series, room: Room::new(), writes: Arc::new(Semaphore::new(WRITES)) }
    }

    /// Samples, and the turn that they are held in.
    async fn read(&self, query: &series::Query) -> Result<(Turn, Vec<SeriesSamples>), ApiError> {
        let turn = self.room.turn().await?;
        Ok((turn, self.series.read(query).await?))
    }
}

/// Of those who read; who writes is told otherwise ([`super::write`]).
impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(words) => Self::Invalid(words),
            Error::TooMuch { .. } => Self::Oversized(error.to_string()),
            Error::Busy => Self::Crowded { retry_after_s: BUSY_RETRY_S },
            Error::Disk(why) | Error::Remote(why) => Self::NotRead { why, retry_after_s: BUSY_RETRY_S },
            Error::Config(_) | Error::Open(_) | Error::Thread(_) | Error::Closed => {
                Self::NotReady("not ready: stopping".to_owned())
            }
        }
    }
}

/// The parameters of all these routes.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Parameters {
    #[serde(rename = "match")]
    selector: Option<String>,
    start: Option<String>,
    end: Option<String>,
    step: Option<String>,
    agg: Option<String>,
    format: Option<String>,
    limit: Option<String>,
    by: Option<String>,
}

type Asked = Result<Query<Parameters>, QueryRejection>;

fn parameters(asked: Asked) -> Result<Parameters, ApiError> {
    asked.map(|Query(query)| query).map_err(|error| ApiError::Invalid(error.body_text()))
}

impl Parameters {
    /// Which series; all of them only where a selector is not needed.
    fn selection(&self, needed: bool) -> Result<Selection, ApiError> {
        match self.selector.as_deref().filter(|text| !text.trim().is_empty()) {
            Some(text) => selector::parse(text).map_err(|why| ApiError::Query { name: "match", why }),
            None if needed => {
                let why = r#"a selector such as name{label="value"} says which series"#.to_owned();
                Err(ApiError::Query { name: "match", why })
            }
            None => Ok(Selection::default()),
        }
    }

    fn range(&self, now_ns: i64, default_ms: i64) -> Result<Range, ApiError> {
        ask::range(self.start.as_deref(), self.end.as_deref(), now_ns, default_ms)
    }
}

/// An hour of samples, a day of names: what a person who says no time means.
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Series that were there on the days of the range.
#[utoipa::path(get, path = "/api/v1/series", tag = "series",
    params(("match" = Option<String>, Query, description = "PromQL's selector; all series without it"),
        ("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch; a day before the end"),
        ("end" = Option<String>, Query, description = "the same; now"),
        ("limit" = Option<usize>, Query, description = "more series than this are an error; 20000 at most")),
    responses((status = 200, body = wire::SeriesList), (status = 400, body = Failure), (status = 413, body = Failure),
        (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn list(State(receiver): State<ReceiverState>, asked: Asked) -> Result<Response, ApiError> {
    let asked = parameters(asked)?;
    let range = asked.range((receiver.common.clock)(), DAY_MS)?;
    let limit = ask::limit(asked.limit.as_deref(), MAX_SERIES, MAX_SERIES)?;
    let turn = receiver.series.room.turn().await?;
    let found = receiver.series.series.find(&asked.selection(false)?, range, limit).await?;
    let size_bytes = found.iter().map(|found| room::labels_bytes(&found.labels)).sum();
    let head = format!(r#"{{"count":{},"series":["#, found.len());
    let series = found
        .into_iter()
        .map(|found| wire::FoundSeries { labels: wire::labels(&found.labels), last_ms: found.last_ms });
    Ok(json::list(turn, size_bytes, head, series))
}

/// Words in their order.
fn words(turn: Turn, words: BTreeSet<String>) -> Response {
    let size_bytes = words.iter().map(|word| size_of::<String>() + word.len()).sum();
    let head = format!(r#"{{"count":{},"values":["#, words.len());
    json::list(turn, size_bytes, head, words)
}

/// Names of labels.
#[utoipa::path(get, path = "/api/v1/labels", tag = "series",
    params(("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch; a day before the end"),
        ("end" = Option<String>, Query, description = "the same; now")),
    responses((status = 200, body = wire::Words), (status = 400, body = Failure), (status = 429, body = Failure),
        (status = 503, body = Failure)))]
pub(super) async fn labels(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let range = parameters(asked)?.range((receiver.common.clock)(), DAY_MS)?;
    let turn = receiver.series.room.turn().await?;
    Ok(words(turn, receiver.series.series.label_names(range).await?))
}

/// Values of a label.
#[utoipa::path(get, path = "/api/v1/labels/{name}/values", tag = "series",
    params(("name" = String, Path, description = "the label; `__name__` for the names of metrics"),
        ("match" = Option<String>, Query, description = "only among these series"),
        ("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch; a day before the end"),
        ("end" = Option<String>, Query, description = "the same; now")),
    responses((status = 200, body = wire::Words), (status = 400, body = Failure), (status = 429, body = Failure),
        (status = 503, body = Failure)))]
pub(super) async fn label_values(
    State(receiver): State<ReceiverState>,
    name: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::Invalid(error.body_text()))?;
    let asked = parameters(asked)?;
    let range = asked.range((receiver.common.clock)(), DAY_MS)?;
    let turn = receiver.series.room.turn().await?;
    Ok(words(turn, receiver.series.series.label_values(&name, &asked.selection(false)?, range).await?))
}

/// Samples, raw or by time bucket.
#[utoipa::path(get, path = "/api/v1/samples", tag = "series",
    params(("match" = String, Query, description = "PromQL's selector: `name{label=\"value\"}`"),
        ("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch; an hour before the end"),
        ("end" = Option<String>, Query, description = "the same; now"),
        ("step" = Option<String>, Query, description = "buckets of this width, named by their ends: `15s`, `5m`, `1h`"),
        ("agg" = Option<String>, Query, description = "what a bucket's samples become: last (default), min, max, avg, sum, count"),
        ("format" = Option<String>, Query, description = "`json` (default), or `csv`: a line a sample")),
    responses((status = 200, body = wire::SamplesList), (status = 400, body = Failure), (status = 413, body = Failure),
        (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn samples(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let asked = parameters(asked)?;
    let query = series::Query {
        selection: asked.selection(true)?,
        range: asked.range((receiver.common.clock)(), HOUR_MS)?,
        buckets: ask::buckets(asked.step.as_deref(), asked.agg.as_deref())?,
        max_series: MAX_SERIES,
        max_samples: MAX_SAMPLES,
    };
    let as_csv = match asked.format.as_deref() {
        None | Some("" | "json") => false,
        Some("csv") => true,
        Some(_) => return Err(ApiError::Query { name: "format", why: "json or csv".to_owned() }),
    };
    let (turn, found) = receiver.series.read(&query).await?;
    Ok(if as_csv { csv::samples(turn, found) } else { json::samples(turn, found) })
}

/// The reader of selectors.
///
/// # Errors
/// Why a text is none.
#[cfg(feature = "fixture")]
pub fn selector_for_fuzzing(text: &str) -> Result<Selection, String> {
    selector::parse(text)
}
