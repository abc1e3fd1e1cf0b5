//! Samples as CSV (RFC 4180): `timestamp,metric,labels,value`, a line a sample, labels as in an exposition.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::json::{SAMPLES, pieces};
use super::room::{Turn, size_bytes};
use crate::api::time::rfc3339;
use crate::domain::series::SeriesSamples;

const HEAD: &str = "timestamp,metric,labels,value\r\n";

/// Written out piece by piece.
pub(super) fn samples(turn: Turn, found: Vec<SeriesSamples>) -> Response {
    let size_bytes = size_bytes(&found);
    let texts = found.into_iter().flat_map(|series| {
        let (text, samples) = (series.labels.to_string(), series.samples);
        let metric = series.labels.metric().to_owned();
        let labels = text.strip_prefix(&metric).unwrap_or_default().to_owned();
        let labels = format!("\"{}\"", labels.trim_matches(['{', '}']).replace('"', "\"\""));
        (0..samples.len().div_ceil(SAMPLES)).map(move |part| {
            let some = samples.iter().skip(part * SAMPLES).take(SAMPLES);
            let lines = some.filter(|sample| !sample.is_stale()).map(|sample| {
                let at = rfc3339(sample.at_ms.saturating_mul(1_000_000));
                format!("{at},{metric},{labels},{}\r\n", sample.value)
            });
            Ok(lines.collect::<String>().into_bytes())
        })
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"samples.csv\""),
    ];
    let texts = std::iter::once(Ok(HEAD.into())).chain(texts);
    (headers, turn.answer(size_bytes, pieces(texts))).into_response()
}
