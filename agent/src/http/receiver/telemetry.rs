//! GPU telemetry as the reference's API has it.
//!
//! - `POST /telemetry` a record, or an array of them, into the queue's topic `telemetry`
//! - `GET /api/v1/gpus`, `/api/v1/hosts`, `/api/v1/namespaces` who was seen within a time
//! - `GET /api/v1/gpus/{id}/telemetry` one GPU's records, by UUID or device id
//!
//! Errors are `{"error","message"}`.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::Deserialize;

use super::ReceiverState;
use super::series::{MAX_SAMPLES, MAX_SERIES, ask, json};
use crate::api::telemetry as wire;
use crate::domain::series::Range;
use crate::http::error::Telemetry;
use crate::http::{ApiError, body};
use crate::queue::{NewMessage, Produce};
use crate::receiver::collector::topic::TOPIC;
use crate::receiver::telemetry::{Unfit, key, to_series};
use crate::series::MAX_AHEAD_MS;

pub(super) mod history;
pub(super) mod seen;

/// Records in one body: half of what a partition of the default size takes, should all be of one device.
const MAX_RECORDS: usize = 1_000;

/// So many records of some kilobytes each.
const BODY_BYTES: usize = 4 << 20;

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

/// The id of a path.
fn id(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    path.map(|Path(id)| id).map_err(|error| ApiError::Invalid(error.body_text()))
}
