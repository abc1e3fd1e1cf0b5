//! GPU telemetry as the reference's API has it.
//!
//! - `POST /telemetry` a record, or an array of them, into the queue's topic `telemetry`
//! - `GET /api/v1/gpus`, `/api/v1/hosts`, `/api/v1/namespaces` who was seen within a time
//! - `GET /api/v1/gpus/{id}/telemetry` one GPU's records, by UUID or device id
//!
//! Errors are `{"error","message"}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;

use super::ReceiverState;
use super::series::{MAX_SAMPLES, MAX_SERIES, ask, json};
use crate::api::telemetry as wire;
use crate::api::time::rfc3339;
use crate::domain::series::{Labels, Operator, Range, Selection};
use crate::http::error::Telemetry;
use crate::http::{ApiError, body};
use crate::queue::{NewMessage, Produce};
use crate::receiver::collector::topic::TOPIC;
use crate::receiver::telemetry::{UUID, Unfit, key, to_series};
use crate::series::MAX_AHEAD_MS;

pub(super) mod history;

/// Records in one body: half of what a partition of the default size takes, should all be of one device.
const MAX_RECORDS: usize = 1_000;

/// So many records of some kilobytes each.
const BODY_BYTES: usize = 4 << 20;

/// Where nothing else is said, who was seen in a day.
const DAY_MS: i64 = 86_400_000;

/// Takes a record, or an array of them: all of them or none.
#[utoipa::path(post, path = "/telemetry", tag = "telemetry",
    request_body(content = wire::TelemetryRecord, description = "a record, or an array of at most 1,000"),
    responses((status = 200, description = "on disk; queryable within a second", body = wire::Accepted),
        (status = 400, body = wire::TelemetryFailure), (status = 413, body = wire::TelemetryFailure),
        (status = 429, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(super) async fn post(
    State(receiver): State<ReceiverState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Accepted>, Telemetry> {
    let bytes = {
        let _slot = receiver.common.body_slot().await?;
        body::unpacked(&headers, body, BODY_BYTES).await?
    };
    let now_ms = (receiver.common.clock)().div_euclid(1_000_000);
    let reading = tokio::task::spawn_blocking(move || messages(&bytes, now_ms));
    let messages = reading.await.map_err(|error| ApiError::Encode(error.to_string()))??;
    let count = messages.len();
    if count > 0 {
        let batch = Produce { topic: TOPIC.to_owned(), partition: None, id: None, messages };
        receiver.queue.keep(batch).await?;
    }
    Ok(Json(wire::Accepted { status: "accepted".to_owned(), count }))
}

/// Each record as a message, checked; keyed by its device, so that a device's records keep their order.
fn messages(bytes: &Bytes, now_ms: i64) -> Result<Vec<NewMessage>, ApiError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Posted {
        Several(Vec<wire::TelemetryRecord>),
        One(Box<wire::TelemetryRecord>),
    }
    let invalid = |words: String| ApiError::Invalid(words);
    // The words of an untagged choice say nothing: a single record is read for its own.
    let records = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => serde_json::from_slice(bytes).map(Posted::Several),
        _ => serde_json::from_slice(bytes).map(|one| Posted::One(Box::new(one))),
    };
    let records = match records.map_err(|error| invalid(format!("invalid JSON: {error}")))? {
        Posted::Several(records) => records,
        Posted::One(record) => vec![*record],
    };
    if records.len() > MAX_RECORDS {
        return Err(ApiError::Oversized(format!("{} records, at most {MAX_RECORDS}", records.len())));
    }
    let stored = Range { from_ms: 0, to_ms: now_ms.saturating_add(MAX_AHEAD_MS) };
    let message = |(at, record): (usize, wire::TelemetryRecord)| {
        let wrong = |words: &str| invalid(format!("record {at}: {words}"));
        // Said now, since nobody can be told when it comes out of the queue.
        match to_series(&record) {
            Ok(series) if series.samples.iter().all(|sample| stored.contains(sample.at_ms)) => {}
            Ok(_) => return Err(wrong("its time is before 1970 or more than an hour ahead")),
            Err(Unfit::Blank) => {}
            Err(Unfit::Wrong(words)) => return Err(wrong(&words)),
        }
        let key = key(&record).ok_or_else(|| wrong("it names no device"))?;
        let payload = serde_json::to_vec(&record).map_err(|error| invalid(error.to_string()))?;
        Ok(NewMessage { key: Some(key), payload })
    };
    records.into_iter().enumerate().map(message).collect()
}

/// The parameters of what is read here; the older names of start and end are read too.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Parameters {
    start: Option<String>,
    start_time: Option<String>,
    end: Option<String>,
    end_time: Option<String>,
    limit: Option<String>,
    step: Option<String>,
    agg: Option<String>,
    metric: Option<String>,
}

type Asked = Result<Query<Parameters>, QueryRejection>;

fn parameters(asked: Asked) -> Result<Parameters, ApiError> {
    asked.map(|Query(query)| query).map_err(|error| ApiError::Invalid(error.body_text()))
}

impl Parameters {
    fn start(&self) -> Option<&str> {
        self.start.as_deref().or(self.start_time.as_deref()).filter(|text| !text.is_empty())
    }

    fn end(&self) -> Option<&str> {
        self.end.as_deref().or(self.end_time.as_deref()).filter(|text| !text.is_empty())
    }
}

/// GPUs that were seen.
#[utoipa::path(get, path = "/api/v1/gpus", tag = "telemetry",
    params(("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch (also `start_time`): whole days; the last day, and if nobody was seen then, all that is kept"),
        ("end" = Option<String>, Query, description = "the same (also `end_time`); now")),
    responses((status = 200, body = wire::Gpus), (status = 400, body = wire::TelemetryFailure),
        (status = 413, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(super) async fn gpus(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Json<wire::Gpus>, Telemetry> {
    let gpus = seen(&receiver, asked).await?;
    Ok(Json(wire::Gpus { count: gpus.len(), gpus }))
}

/// Hosts of the GPUs that were seen.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "telemetry",
    params(("start" = Option<String>, Query, description = "as of `/api/v1/gpus`"),
        ("end" = Option<String>, Query, description = "as of `/api/v1/gpus`")),
    responses((status = 200, body = wire::Hosts), (status = 400, body = wire::TelemetryFailure),
        (status = 413, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(super) async fn hosts(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Json<wire::Hosts>, Telemetry> {
    let counts = counted(seen(&receiver, asked).await?, |gpu| &gpu.hostname);
    let hosts = counts.into_iter().map(|(hostname, gpu_count)| wire::HostGpus { hostname, gpu_count });
    let hosts: Vec<_> = hosts.collect();
    Ok(Json(wire::Hosts { count: hosts.len(), hosts }))
}

/// Namespaces whose pods used GPUs.
#[utoipa::path(get, path = "/api/v1/namespaces", tag = "telemetry",
    params(("start" = Option<String>, Query, description = "as of `/api/v1/gpus`"),
        ("end" = Option<String>, Query, description = "as of `/api/v1/gpus`")),
    responses((status = 200, body = wire::Namespaces), (status = 400, body = wire::TelemetryFailure),
        (status = 413, body = wire::TelemetryFailure), (status = 503, body = wire::TelemetryFailure)))]
pub(super) async fn namespaces(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Json<wire::Namespaces>, Telemetry> {
    let counts = counted(seen(&receiver, asked).await?, |gpu| &gpu.namespace);
    let namespaces = counts.into_iter().filter(|(namespace, _)| !namespace.is_empty());
    let namespaces = namespaces.map(|(namespace, gpu_count)| wire::NamespaceGpus { namespace, gpu_count });
    let namespaces: Vec<_> = namespaces.collect();
    Ok(Json(wire::Namespaces { count: namespaces.len(), namespaces }))
}

fn counted(gpus: Vec<wire::Gpu>, of: impl Fn(&wire::Gpu) -> &String) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for gpu in gpus {
        *counts.entry(of(&gpu).clone()).or_default() += 1;
    }
    counts
}

/// Every GPU once, as the series that was seen last describes it.
async fn seen(receiver: &ReceiverState, asked: Asked) -> Result<Vec<wire::Gpu>, ApiError> {
    let asked = parameters(asked)?;
    let range = ask::range(asked.start(), asked.end(), (receiver.common.clock)(), DAY_MS)?;
    let selection = Selection::default().and(UUID, Operator::NotEqual, "");
    let _turn = receiver.series.room.turn().await?;
    // A GPU has a series for each metric, and one more for each pod that used it.
    let by = ["Hostname", UUID];
    let mut found = receiver.series.series.newest(&selection, range, &by, MAX_SERIES * 10).await?;
    if found.is_empty() && asked.start().is_none() {
        let always = Range { from_ms: 0, ..range };
        found = receiver.series.series.newest(&selection, always, &by, MAX_SERIES * 10).await?;
    }
    let mut gpus: Vec<_> = found.into_iter().map(|one| gpu(&one.labels, one.last_ms)).collect();
    gpus.sort_unstable();
    Ok(gpus)
}

fn gpu(labels: &Labels, last_ms: i64) -> wire::Gpu {
    let label = |name| labels.get(name).unwrap_or_default().to_owned();
    wire::Gpu {
        hostname: label("Hostname"),
        device_id: label("device"),
        uuid: label(UUID),
        gpu_id: label("gpu"),
        model_name: label("modelName"),
        container: label("container"),
        pod: label("pod"),
        namespace: label("namespace"),
        last_seen: rfc3339(last_ms.saturating_mul(1_000_000)),
    }
}

/// The id of a path.
fn id(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(id)| id).map_err(|error| ApiError::Invalid(error.body_text()))
}
