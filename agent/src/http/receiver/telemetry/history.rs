//! `GET /api/v1/gpus/{id}/telemetry`: one GPU's records.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use super::{Asked, ReceiverState, ask, id, parameters, wire};
use crate::domain::series::{NAME, Operator, Range, Sample, Selection, SeriesSamples};
use crate::http::ApiError;
use crate::http::error::Telemetry;
use crate::receiver::telemetry::{UUID, to_record};
use crate::series;

/// As the reference documents it.
const DEFAULT_LIMIT: usize = 100;

/// Some megabytes of JSON.
const MAX_LIMIT: usize = 10_000;

/// Metrics of one GPU, with all labels that they ever had within a range.
const MAX_SERIES: usize = 2_000;

/// Samples read for one answer: a GPU's day of 20 metrics a second.
const MAX_SAMPLES: usize = 2_000_000;

/// How far back the newest records are looked for where no start is given: most GPUs said something lately.
const LOOK_BACK_MS: [i64; 4] = [600_000, 6 * 3_600_000, 3 * 86_400_000, i64::MAX];

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
) -> Result<Json<wire::GpuTelemetry>, Telemetry> {
    let (gpu_id, asked) = (id(path)?, parameters(asked)?);
    let limit = ask::limit(asked.limit.as_deref(), DEFAULT_LIMIT, MAX_LIMIT)?;
    let buckets = ask::buckets(asked.step.as_deref(), asked.agg.as_deref())?;
    let range = ask::range(asked.start(), asked.end(), (receiver.common.clock)(), i64::MAX)?;
    let range = Range { from_ms: range.from_ms.max(0), ..range };
    let selection = of(&receiver, &gpu_id, range).await?.ok_or_else(|| {
        ApiError::NoGpu(format!("no telemetry of a GPU {gpu_id:?} (GET /api/v1/gpus lists them)"))
    })?;
    let selection = match asked.metric.as_deref().filter(|metric| !metric.is_empty()) {
        Some(metric) => selection.and(NAME, Operator::Equal, metric),
        None => selection,
    };
    let steps = if asked.start().is_some() { &LOOK_BACK_MS[3..] } else { &LOOK_BACK_MS[..] };
    let mut records = Vec::new();
    for back_ms in steps {
        let from_ms = range.to_ms.saturating_sub(*back_ms).max(range.from_ms);
        let query = series::Query {
            selection: selection.clone(),
            range: Range { from_ms, ..range },
            buckets,
            max_series: MAX_SERIES,
            max_samples: MAX_SAMPLES,
        };
        let found = receiver.series.read(&query).await?;
        records = newest(&found, limit);
        if records.len() >= limit || from_ms == range.from_ms {
            break;
        }
    }
    Ok(Json(wire::GpuTelemetry { gpu_id, count: records.len(), data: records }))
}

/// The series of a GPU: those with its UUID, else those of GPUs with this device id.
async fn of(receiver: &ReceiverState, gpu_id: &str, range: Range) -> Result<Option<Selection>, ApiError> {
    let by_uuid = Selection::default().and(UUID, Operator::Equal, gpu_id);
    let by_device =
        Selection::default().and("device", Operator::Equal, gpu_id).and(UUID, Operator::NotEqual, "");
    if gpu_id.is_empty() {
        return Ok(None);
    }
    for selection in [by_uuid, by_device] {
        for range in [range, Range { from_ms: 0, to_ms: i64::MAX }] {
            if !receiver.series.series.find(&selection, range, MAX_SERIES).await?.is_empty() {
                return Ok(Some(selection));
            }
        }
    }
    Ok(None)
}

/// The newest samples as records, by time, then metric. What JSON has no number for is left out: the reference's clients
/// read numbers.
fn newest(found: &[SeriesSamples], limit: usize) -> Vec<wire::TelemetryRecord> {
    let finite = |sample: &&Sample| sample.value.is_finite();
    let mut all: Vec<_> = found
        .iter()
        .flat_map(|series| {
            series.samples.iter().rev().filter(finite).take(limit).map(move |sample| (sample, &series.labels))
        })
        .collect();
    all.sort_by(|(one, of_one), (other, of_other)| (other.at_ms, of_other).cmp(&(one.at_ms, of_one)));
    all.truncate(limit);
    all.into_iter().rev().map(|(sample, labels)| to_record(labels, *sample)).collect()
}
