//! `GET /api/v1/gpus/{id}/telemetry`: one GPU's records.
//!
//! The GPU is looked for among the newest days first, and what it said is read [`backwards`] from there: neither the time that
//! is kept, nor the pods that it had in it, nor how long it is gone makes a question too large.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;

use super::{Asked, MAX_SERIES, ReceiverState, ask, id, json, parameters, wire};
use crate::domain::gpu::DeviceId;
use crate::domain::series::{NAME, Operator, Range, Selection};
use crate::http::ApiError;
use crate::http::error::Telemetry;
use crate::http::receiver::series::room::Turn;
use crate::receiver::telemetry::UUID;
use crate::series::{Error, Series};

mod backwards;

/// As the reference documents it.
const DEFAULT_LIMIT: usize = 100;

/// Some megabytes of JSON.
const MAX_LIMIT: usize = 10_000;

/// A record and its texts, about.
const RECORD_BYTES: usize = 1_024;

const DAY_MS: i64 = 86_400_000;

/// How far before the range's last day a GPU is looked for, each time only where it was not before: most said something
/// today. Whole days, since the store opens whole days.
const LOOK_BACK_MS: [i64; 3] = [0, 7 * DAY_MS, i64::MAX];

/// The newest records of a GPU within a range, by time; with `step`, the newest of its buckets.
#[utoipa::path(get, path = "/api/v1/gpus/{id}/telemetry", tag = "telemetry",
    params(("id" = String, Path, description = "the GPU's UUID; or a device id, of whatever host"),
        ("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch (also `start_time`); as far back as it is kept"),
        ("end" = Option<String>, Query, description = "the same (also `end_time`); now"),
        ("limit" = Option<usize>, Query, description = "the newest so many records: 100 by default, 10000 at most"),
        ("metric" = Option<String>, Query, description = "only of this metric"),
        ("step" = Option<String>, Query, description = "by time bucket: `15s`, `5m`, `1h`"),
        ("agg" = Option<String>, Query, description = "what a bucket's samples become: last (default), min, max, avg, sum, count")),
    responses((status = 200, body = wire::GpuTelemetry), (status = 400, body = wire::TelemetryFailure),
        (status = 404, body = wire::TelemetryFailure), (status = 413, body = wire::TelemetryFailure),
        (status = 503, body = wire::TelemetryFailure)))]
pub(in super::super) async fn telemetry(
    State(receiver): State<ReceiverState>,
    path: Result<Path<String>, PathRejection>,
    asked: Asked,
) -> Result<Response, Telemetry> {
    let (gpu_id, asked) = (id(path)?, parameters(asked)?);
    let limit = ask::limit(asked.limit.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let buckets = ask::buckets(asked.step.as_deref(), asked.agg.as_deref())?;
    let range = ask::range(asked.start(), asked.end(), (receiver.common.clock)(), i64::MAX)?;
    let range = Range { from_ms: range.from_ms.max(0), ..range };
    let turn = receiver.series.room.turn().await?;
    let series = &receiver.series.series;
    let Some(seen) = seen(series, &gpu_id, range).await? else {
        let is_asked_for_all = asked.start().is_none() && asked.end().is_none();
        if is_asked_for_all || !is_there(series, &gpu_id).await? {
            let words = format!("no telemetry of a GPU {gpu_id:?} (GET /api/v1/gpus lists them)");
            return Err(ApiError::NoGpu(words).into());
        }
        return Ok(answer(turn, &gpu_id, Vec::new()));
    };
    let selection = match asked.metric.as_deref().filter(|metric| !metric.is_empty()) {
        Some(metric) => seen.selection.and(NAME, Operator::Equal, metric),
        None => seen.selection,
    };
    let range = Range { from_ms: range.from_ms, to_ms: seen.to_ms };
    let question =
        backwards::Question { selection, range, last_ms: seen.last_ms, buckets, limit, ..Default::default() };
    Ok(answer(turn, &gpu_id, backwards::read(series, question).await?))
}

fn answer(turn: Turn, gpu_id: &str, records: Vec<wire::TelemetryRecord>) -> Response {
    let gpu_id = serde_json::Value::from(gpu_id);
    let head = format!(r#"{{"gpu_id":{gpu_id},"count":{},"data":["#, records.len());
    json::list(turn, records.len() * RECORD_BYTES, head, records)
}

/// A GPU's series, as they were found.
struct Seen {
    selection: Selection,
    /// None of its samples in the range is newer than this.
    to_ms: i64,
    /// Its newest sample is here, as far as the store knows.
    last_ms: i64,
}

/// Where in the range a GPU was last.
async fn seen(series: &Series, gpu_id: &str, range: Range) -> Result<Option<Seen>, ApiError> {
    let mut to_ms = range.to_ms;
    for back_ms in LOOK_BACK_MS {
        let from_ms = range.to_ms.saturating_sub(back_ms).div_euclid(DAY_MS).saturating_mul(DAY_MS);
        let from_ms = from_ms.max(range.from_ms);
        for selection in selections(gpu_id) {
            let last_ms = match series.find(&selection, Range { from_ms, to_ms }, MAX_SERIES).await {
                Ok(found) => found.iter().map(|series| series.last_ms.min(to_ms)).max(),
                // More than can be told one by one are there.
                Err(Error::TooMuch { .. }) => Some(to_ms),
                Err(error) => return Err(error.into()),
            };
            if let Some(last_ms) = last_ms {
                return Ok(Some(Seen { selection, to_ms, last_ms }));
            }
        }
        if from_ms <= range.from_ms {
            break;
        }
        to_ms = from_ms - 1;
    }
    Ok(None)
}

/// Whether anything of a GPU is kept.
async fn is_there(series: &Series, gpu_id: &str) -> Result<bool, ApiError> {
    for selection in selections(gpu_id) {
        match series.find(&selection, Range { from_ms: 0, to_ms: i64::MAX }, 0).await {
            Ok(none) if none.is_empty() => {}
            Ok(_) | Err(Error::TooMuch { .. }) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// What an id can mean, the likelier first: series of the GPU with this UUID, or of GPUs with this device id. Who has no
/// UUID goes by its device id, so that what looks like one is found whole by it.
fn selections(gpu_id: &str) -> Vec<Selection> {
    if gpu_id.is_empty() {
        return Vec::new();
    }
    let by_uuid = Selection::default().and(UUID, Operator::Equal, gpu_id);
    let by_device =
        Selection::default().and("device", Operator::Equal, gpu_id).and(UUID, Operator::NotEqual, "");
    match DeviceId::parse(gpu_id) {
        Some(DeviceId::Name { .. }) => vec![by_device, by_uuid],
        _ => vec![by_uuid, by_device],
    }
}
