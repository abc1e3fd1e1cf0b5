//! `POST /api/v2/write` and `POST /write`: InfluxDB's line protocol, plain or packed with gzip.
//!
//! A field of a line is a series named `measurement_field`; the database of the first version becomes the label `db`, the
//! organisation and the bucket of the second are read past. One bad line, and nothing is stored: it is named. Errors have
//! the form of InfluxDB's own of the same version.

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::super::ReceiverState;
use super::{in_time, not_stored, source, store, turn};
use crate::api::influx::{Failed, FailedV1};
use crate::http::error::Influx;
use crate::http::keys::Caller;
use crate::http::serve::Connection;
use crate::http::{ApiError, body};
use crate::series::remote::line::{Precision, parse};

/// 5,000 lines of 400 bytes are what clients send at once by default, 2 MB.
const BODY_BYTES: usize = 8 << 20;

/// The parameters that are read; any other is somebody else's.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct Parameters {
    #[serde(default)]
    precision: String,
    #[serde(default)]
    db: String,
}

/// Takes samples as lines, as InfluxDB 2 does.
#[utoipa::path(post, path = "/api/v2/write", tag = "series",
    params(("org" = Option<String>, Query, description = "of no matter here"),
        ("bucket" = Option<String>, Query, description = "of no matter here"),
        ("precision" = Option<String>, Query, description = "unit of the lines' times: `ns` (the default), `us`, `ms`, `s`")),
    request_body(content = str, content_type = "text/plain", description = "`measurement,tag=value field=1.5 1700000000000`"),
    responses((status = 204, description = "all stored"), (status = 400, body = Failed), (status = 413, body = Failed),
        (status = 415, body = Failed), (status = 503, description = "come again after `Retry-After`", body = Failed)))]
pub(in super::super) async fn write(
    State(receiver): State<ReceiverState>,
    request: Request,
) -> Result<StatusCode, Influx> {
    receive(&receiver, request, false).await.map_err(Influx::Two)
}

/// Takes samples as lines, as InfluxDB 1 does.
#[utoipa::path(post, path = "/write", tag = "series",
    params(("db" = Option<String>, Query, description = "becomes the label `db`"),
        ("precision" = Option<String>, Query, description = "unit of the lines' times: `ns` (the default), `u`, `ms`, `s`, `m`, `h`")),
    request_body(content = str, content_type = "text/plain", description = "`measurement,tag=value field=1.5 1700000000000`"),
    responses((status = 204, description = "all stored"), (status = 400, body = FailedV1), (status = 413, body = FailedV1),
        (status = 415, body = FailedV1), (status = 503, description = "come again after `Retry-After`", body = FailedV1)))]
pub(in super::super) async fn write_v1(
    State(receiver): State<ReceiverState>,
    request: Request,
) -> Result<StatusCode, Influx> {
    receive(&receiver, request, true).await.map_err(Influx::One)
}

/// What both versions do; they differ in the database, and in how errors look.
async fn receive(
    receiver: &ReceiverState,
    request: Request,
    first_version: bool,
) -> Result<StatusCode, ApiError> {
    let (parts, body) = request.into_parts();
    let caller = parts.extensions.get::<Caller>().cloned().unwrap_or_default();
    let source = source(&caller, parts.extensions.get::<Connection>());
    let asked = Query::try_from_uri(&parts.uri);
    in_time(receiver, take(receiver, &source, asked, first_version, &parts.headers, body)).await
}

async fn take(
    receiver: &ReceiverState,
    source: &str,
    asked: Result<Query<Parameters>, QueryRejection>,
    first_version: bool,
    headers: &HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let Query(asked) = asked.map_err(|error| ApiError::Invalid(error.body_text()))?;
    let precision = Precision::of(&asked.precision).ok_or_else(|| ApiError::Query {
        name: "precision",
        why: format!("{:?} is none of ns, us, ms, s", asked.precision.chars().take(16).collect::<String>()),
    })?;
    let now_ms = (receiver.common.clock)().div_euclid(1_000_000);
    let _turn = turn(receiver).await?;
    let bytes = body::unpacked(headers, body, BODY_BYTES).await?;
    let database = if first_version { asked.db } else { String::new() };
    // Megabytes take tens of milliseconds.
    let decoding = tokio::task::spawn_blocking(move || decode(&bytes, precision, now_ms, &database));
    let batch = decoding.await.map_err(|error| ApiError::Encode(error.to_string()))??;
    let appended = store(receiver, source, batch).await?;
    match not_stored(&appended, 0, None) {
        None => Ok(StatusCode::NO_CONTENT),
        Some(words) => Err(ApiError::Invalid(format!("partial write: {words}"))),
    }
}

fn decode(
    bytes: &Bytes,
    precision: Precision,
    now_ms: i64,
    database: &str,
) -> Result<Vec<crate::domain::series::SeriesSamples>, ApiError> {
    let text = str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n').count();
        ApiError::Invalid(format!("line {line}: no UTF-8"))
    })?;
    let given = parse::Given { precision, now_ms, database };
    parse::decode(text, given).map_err(|error| ApiError::Invalid(error.to_string()))
}
