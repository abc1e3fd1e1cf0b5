//! Answers that both roles give in the reference's words.

use axum::Json;
use axum::response::{IntoResponse, Response};

use crate::api::bss::{CompatRecord, Record, Retrieved};
use crate::api::envelope::{Enveloped, Message};
use crate::api::time::rfc3339_seconds;

/// `GET /api/v1/metrics`: a record with its wall time (ns since the epoch) and source, or none yet. Both are 200.
pub(super) fn retrieved(latest: Option<(&Record, i64, &str)>, now_ns: i64) -> Response {
    let Some((record, at_ns, source)) = latest else {
        return Json(Message::new(false, "No metrics data available yet", now_ns)).into_response();
    };
    let head = Message::new(true, "Metrics retrieved successfully", now_ns);
    let metrics_timestamp = rfc3339_seconds(at_ns);
    let body = Retrieved { data: CompatRecord::from(record), metrics_timestamp, source: source.to_owned() };
    Json(Enveloped { head, body }).into_response()
}
