//! Random requests, the same in every run.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};

use super::send;
use crate::telemetry;

/// splitmix64: the same bodies in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).expect("small")).expect("small")
    }

    /// Noise, JSON-like noise, or a good body with a few bytes changed.
    fn body(&mut self, good: &str) -> Vec<u8> {
        const TOKENS: [&str; 16] = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"nr_queued\"",
            "\"metrics\"",
            "1",
            "-1",
            "null",
            "\"",
            "\\u0000",
            "1e9",
            " ",
            "x",
        ];
        match self.below(3) {
            0 => (0..self.below(64)).map(|_| self.next().to_le_bytes()[0]).collect(),
            1 => (0..self.below(24)).map(|_| TOKENS[self.below(16)]).collect::<String>().into_bytes(),
            _ => {
                let mut body = good.as_bytes().to_vec();
                for _ in 0..self.below(4) {
                    let at = self.below(body.len());
                    body[at] = self.next().to_le_bytes()[0];
                }
                body
            }
        }
    }
}

#[derive(Clone, Default)]
struct CountedLines(Arc<AtomicU64>);

impl Write for CountedLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        self.0.fetch_add(u64::try_from(lines).expect("small"), Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Random bodies to one endpoint, some of them almost `good`; returns how many lines were logged.
pub(in crate::http) async fn bombard(
    router: &Router,
    method: &str,
    path: &str,
    good: &str,
    bodies: u32,
    allowed: &[u16],
) -> u64 {
    let lines = CountedLines::default();
    let writer = lines.clone();
    let config = telemetry::Config { filter: "warn,sextant=info".into(), ..Default::default() };
    let subscriber = telemetry::subscriber(&config, move || writer.clone()).expect("a valid filter");
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut random = Random(20_261_122);
    for round in 0..bodies {
        let body = Bytes::from(random.body(good));
        let request =
            Request::builder().method(method).uri(path).body(Body::from(body.clone())).expect("a request");
        let answer = send(router, request).await;
        assert!(
            allowed.contains(&answer.status.as_u16()),
            "{method} {path} {}: {round} {body:?}",
            answer.status
        );
        if answer.status == StatusCode::BAD_REQUEST && answer.header("content-type").starts_with("text/plain")
        {
            assert!(!answer.text().is_empty(), "{method} {path}");
        } else if answer.status == StatusCode::BAD_REQUEST {
            let json = answer.json();
            let families = [&json["detail"], &json["message"]];
            assert!(json["success"] == false || families.iter().any(|words| words.is_string()), "{json}");
        }
    }
    lines.0.load(Ordering::Relaxed)
}
