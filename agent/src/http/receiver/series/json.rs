//! Lists as JSON, written in pieces: neither the text of all of it nor that of one long series is ever in memory.

use std::io;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::room::{Turn, size_bytes};
use crate::api::series::{Pair, labels};
use crate::domain::series::SeriesSamples;

/// A piece has at least so many bytes, so that many short texts are no pieces of their own.
const PIECE_BYTES: usize = 64 << 10;

/// Most items are no longer.
const ITEM_BYTES: usize = 512;

/// Samples of one text, some 100 KiB.
pub(super) const SAMPLES: usize = 4_096;

type Text = serde_json::Result<Vec<u8>>;

/// The series and their samples.
pub(super) fn samples(turn: Turn, found: Vec<SeriesSamples>) -> Response {
    let (size_bytes, head) = (size_bytes(&found), format!(r#"{{"count":{},"series":["#, found.len()));
    response(turn, size_bytes, head, found.into_iter().enumerate().flat_map(|(at, one)| one_series(at, one)))
}

/// Items behind a head that ends with the bracket that they are in; what they are made of takes so many bytes.
pub(in super::super) fn list<T: Serialize>(
    turn: Turn,
    size_bytes: usize,
    head: String,
    items: impl IntoIterator<Item = T, IntoIter: Send + 'static>,
) -> Response {
    let text = |(at, item): (usize, T)| {
        let mut text = behind(at);
        serde_json::to_writer(&mut text, &item)?;
        Ok(text)
    };
    response(turn, size_bytes, head, items.into_iter().enumerate().map(text))
}

fn response(
    turn: Turn,
    size_bytes: usize,
    head: String,
    texts: impl Iterator<Item = Text> + Send + 'static,
) -> Response {
    let texts = std::iter::once(Ok(head.into_bytes())).chain(texts).chain([Ok(b"]}".to_vec())]);
    let body = turn.answer(size_bytes, pieces(texts));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Texts together, up to a piece's size.
pub(super) fn pieces(texts: impl Iterator<Item = Text>) -> impl Iterator<Item = io::Result<Bytes>> {
    let mut texts = texts.fuse();
    std::iter::from_fn(move || {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES {
            match texts.next() {
                Some(Ok(text)) => piece.extend_from_slice(&text),
                Some(Err(error)) => return Some(Err(error.into())),
                None => break,
            }
        }
        (!piece.is_empty()).then(|| Ok(Bytes::from(piece)))
    })
}

/// The beginning of an item's text: what comes between it and the one before it.
fn behind(at: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(ITEM_BYTES);
    text.extend((at > 0).then_some(b','));
    text
}

/// As [`OneSeries`](crate::api::series::OneSeries): the first text has its labels, the last one its end.
fn one_series(at: usize, series: SeriesSamples) -> impl Iterator<Item = Text> {
    let (labels, mut samples) = (labels(&series.labels), series.samples);
    samples.retain(|sample| !sample.is_stale());
    let parts = samples.len().div_ceil(SAMPLES).max(1);
    (0..parts).map(move |part| -> Text {
        let some = samples.iter().skip(part * SAMPLES).take(SAMPLES);
        let pairs = serde_json::to_vec(&some.map(|sample| Pair::from(*sample)).collect::<Vec<_>>())?;
        // Of a list in several parts, each is between the brackets of the whole.
        let pairs = pairs.strip_prefix(b"[").and_then(|pairs| pairs.strip_suffix(b"]")).unwrap_or_default();
        let mut text = behind(if part == 0 { at } else { part });
        if part == 0 {
            text.extend_from_slice(br#"{"labels":"#);
            serde_json::to_writer(&mut text, &labels)?;
            text.extend_from_slice(br#","samples":["#);
        }
        text.extend_from_slice(pairs);
        if part + 1 == parts {
            text.extend_from_slice(b"]}");
        }
        Ok(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::series::{OneSeries, SamplesList};
    use crate::domain::series::{Labels, Sample};
    use crate::http::receiver::series::room::Room;

    async fn body(response: Response) -> Vec<Bytes> {
        use futures_util::TryStreamExt as _;
        response.into_body().into_data_stream().try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn pieces_together_are_the_list_that_they_are_of() {
        let series = |n: usize, samples: usize| SeriesSamples {
            labels: Labels::new("m", [("n", n.to_string()), ("quoted", "a\"b]".to_owned())]).unwrap(),
            samples: (0..samples)
                .map(|at| match at {
                    3 => Sample::stale(3),
                    at => {
                        Sample { at_ms: at as i64, value: if at == 5 { f64::NAN } else { at as f64 / 8.0 } }
                    }
                })
                .collect(),
        };
        for lengths in [vec![], vec![0], vec![1, 0, 5], vec![SAMPLES, SAMPLES + 1, SAMPLES + 2, 3 * SAMPLES]]
        {
            let found: Vec<_> = lengths.iter().enumerate().map(|(n, samples)| series(n, *samples)).collect();
            let list: Vec<_> = found.iter().cloned().map(OneSeries::from).collect();
            let expected = serde_json::to_string(&SamplesList { count: list.len(), series: list }).unwrap();
            let turn = Room::new().turn().await.unwrap();
            let written = body(samples(turn, found)).await;
            assert!(written.iter().all(|piece| piece.len() < 4 * PIECE_BYTES), "{lengths:?}");
            assert_eq!(String::from_utf8(written.concat()).unwrap(), expected, "{lengths:?}");
        }
        let turn = Room::new().turn().await.unwrap();
        let written = body(list(turn, 0, r#"{"values":["#.to_owned(), vec!["a"; 50_000])).await;
        assert!((2..10).contains(&written.len()), "short ones go together: {}", written.len());
        let read: serde_json::Value = serde_json::from_slice(&written.concat()).unwrap();
        assert_eq!(read["values"].as_array().unwrap().len(), 50_000);
    }
}
