//! `GET /api/v1/statistics`: what series are like, each on its own or grouped by labels (`by=node`, `by=namespace,pod`).

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;

use super::{Asked, HOUR_MS, MAX_SAMPLES, MAX_SERIES, ReceiverState, json, parameters};
use crate::api::envelope::Failure;
use crate::api::series::{self as wire, Float};
use crate::domain::series::{SeriesSamples, Statistics};
use crate::http::ApiError;
use crate::series;

/// Labels to group by: more than this is each series on its own.
const MAX_BY: usize = 8;

/// A row and its labels, about.
const ROW_BYTES: usize = 2_048;

/// Minimum, maximum, mean, percentiles, the newest value and the rate.
#[utoipa::path(get, path = "/api/v1/statistics", tag = "series",
    params(("match" = String, Query, description = "PromQL's selector: `name{label=\"value\"}`"),
        ("by" = Option<String>, Query, description = "labels whose values make a group: `node`, `namespace,pod`; every series on its own without it"),
        ("start" = Option<String>, Query, description = "RFC 3339 or seconds since the epoch; an hour before the end"),
        ("end" = Option<String>, Query, description = "the same; now")),
    responses((status = 200, body = wire::StatisticsList), (status = 400, body = Failure), (status = 413, body = Failure),
        (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(in super::super) async fn statistics(
    State(receiver): State<ReceiverState>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let asked = parameters(asked)?;
    let by: Vec<_> = asked.by.as_deref().unwrap_or_default().split(',').map(str::trim).collect();
    let by: Vec<String> = by.into_iter().filter(|label| !label.is_empty()).map(str::to_owned).collect();
    if by.len() > MAX_BY {
        return Err(ApiError::Query { name: "by", why: format!("at most {MAX_BY} labels") });
    }
    let query = series::Query {
        selection: asked.selection(true)?,
        range: asked.range((receiver.common.clock)(), HOUR_MS)?,
        buckets: None,
        max_series: MAX_SERIES,
        max_samples: MAX_SAMPLES,
    };
    let (turn, found) = receiver.series.read(&query).await?;
    // A million values are sorted in a tenth of a second.
    let computing = tokio::task::spawn_blocking(move || rows(found, &by));
    let statistics = computing.await.map_err(|error| ApiError::Encode(error.to_string()))?;
    let head = format!(r#"{{"count":{},"statistics":["#, statistics.len());
    Ok(json::list(turn, statistics.len() * ROW_BYTES, head, statistics))
}

fn rows(found: Vec<SeriesSamples>, by: &[String]) -> Vec<wire::StatisticsRow> {
    let mut groups: BTreeMap<Vec<(String, String)>, Vec<SeriesSamples>> = BTreeMap::new();
    for series in found {
        let labels = if by.is_empty() {
            wire::labels(&series.labels).into_iter().collect()
        } else {
            by.iter()
                .map(|label| (label.clone(), series.labels.get(label).unwrap_or_default().to_owned()))
                .collect()
        };
        groups.entry(labels).or_default().push(series);
    }
    let row = |(labels, of): (Vec<_>, Vec<SeriesSamples>)| {
        let all = Statistics::of(&of)?;
        Some(wire::StatisticsRow {
            labels: labels.into_iter().collect(),
            series: of.len(),
            samples: all.samples,
            min: Float(all.min),
            max: Float(all.max),
            avg: Float(all.avg),
            p50: Float(all.p50),
            p90: Float(all.p90),
            p99: Float(all.p99),
            last: Float(all.last),
            rate: all.rate.map(Float),
        })
    };
    groups.into_iter().filter_map(row).collect()
}
