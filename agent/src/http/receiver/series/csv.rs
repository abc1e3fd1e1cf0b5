//! Samples as CSV (RFC 4180): `timestamp,metric,labels,value`, a line a sample, labels as in an exposition.

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::api::time::rfc3339;
use crate::domain::series::SeriesSamples;

/// Samples in one piece of the answer.
const PIECE: usize = 4_096;

const HEAD: &[u8] = b"timestamp,metric,labels,value\r\n";

/// Written out piece by piece.
pub(super) fn response(found: Vec<SeriesSamples>) -> Response {
    let pieces = found.into_iter().flat_map(|series| {
        let text = series.labels.to_string();
        let metric = series.labels.metric().to_owned();
        let labels = text.strip_prefix(&metric).unwrap_or_default().to_owned();
        let labels = format!("\"{}\"", labels.trim_matches(['{', '}']).replace('"', "\"\""));
        let pieces: Vec<_> = series.samples.chunks(PIECE).map(<[_]>::to_vec).collect();
        pieces.into_iter().map(move |samples| {
            let lines = samples.iter().filter(|sample| !sample.is_stale()).map(|sample| {
                let at = rfc3339(sample.at_ms.saturating_mul(1_000_000));
                format!("{at},{metric},{labels},{}\r\n", sample.value)
            });
            Bytes::from(lines.collect::<String>())
        })
    });
    let parts =
        std::iter::once(Bytes::from_static(HEAD)).chain(pieces).map(Ok::<_, std::convert::Infallible>);
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"samples.csv\""),
    ];
    (headers, Body::from_stream(stream::iter(parts))).into_response()
}
