//! GPU telemetry by remote write 1.0, which a receiver of ours and its peers take alike: the same bytes to each.

#![expect(clippy::disallowed_methods, reason = "times in real time")]

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sextant::domain::series::SeriesSamples;
use sextant::series::remote::wire::{Version, encode};

use crate::gpu_load::Load;
use crate::keep_alive::{Connection, question, request};

/// Samples of one body: what vmagent sends at once at most.
const BODY_SAMPLES: usize = 10_000;

/// All series of [`Load`].
const ALL: &str = "{__name__=~\"DCGM_.+\"}";

/// Requests of so many senders, each of which has some of the series, for these seconds.
pub fn requests(load: &mut Load, from_ms: i64, seconds: i64, senders: usize) -> Vec<Vec<Vec<u8>>> {
    let part = load.len().div_ceil(senders).clamp(1, BODY_SAMPLES);
    let step_s = i64::try_from(BODY_SAMPLES / part).unwrap_or(1);
    let mut requests = vec![Vec::new(); senders];
    let mut at_s = 0;
    while at_s < seconds {
        let batch = load.seconds(from_ms + at_s * 1_000, step_s.min(seconds - at_s));
        for (at, part) in batch.chunks(part).enumerate() {
            requests[at % senders].push(body(part));
        }
        at_s += step_s;
    }
    requests
}

fn body(batch: &[SeriesSamples]) -> Vec<u8> {
    let headers = format!(
        "content-encoding: snappy\r\ncontent-type: {}\r\nx-prometheus-remote-write-version: {}\r\n",
        Version::One.content_type(),
        Version::One.number()
    );
    request("POST", "/api/v1/write", &headers, &encode(Version::One, batch))
}

/// Sends them, each sender on a connection of its own; how long it took until the last one was answered.
///
/// # Errors
/// The first refusal.
pub fn send(address: &str, requests: &[Vec<Vec<u8>>]) -> Result<Duration> {
    let one = |requests: &[Vec<u8>]| -> Result<()> {
        let mut connection = Connection::open(address)?;
        requests.iter().try_for_each(|request| connection.ask(request).map(drop))
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let one = &one;
        let senders: Vec<_> = requests.iter().map(|requests| scope.spawn(move || one(requests))).collect();
        senders
            .into_iter()
            .try_for_each(|sender| sender.join().unwrap_or_else(|_| bail!("a sender panicked")))
    })?;
    Ok(began.elapsed())
}

/// How many samples of the load a receiver of ours has from one time to another, both included.
///
/// # Errors
/// When it does not answer.
pub fn count(address: &str, from_ms: i64, to_ms: i64) -> Result<u64> {
    let (start, end) = (seconds(from_ms), seconds(to_ms));
    let ask = question(
        "/api/v1/samples",
        &[("match", ALL), ("start", &start), ("end", &end), ("step", "1d"), ("agg", "count")],
    );
    let answer: Value = serde_json::from_str(Connection::open(address)?.ask(&ask)?)?;
    let series = answer["series"].as_array().context("no series")?;
    let buckets = series.iter().filter_map(|one| one["samples"].as_array()).flatten();
    buckets.map(|pair| whole(&pair[1])).sum()
}

/// The same of VictoriaMetrics.
///
/// # Errors
/// When it does not answer.
pub fn count_of_peer(address: &str, from_ms: i64, to_ms: i64) -> Result<u64> {
    // From behind the moment that begins its window.
    let query = format!("sum(count_over_time({ALL}[{}ms]))", to_ms - from_ms + 1);
    let ask = question(
        "/api/v1/query",
        &[("query", &query), ("time", &seconds(to_ms)), ("nocache", "1"), ("latency_offset", "1ms")],
    );
    let answer: Value = serde_json::from_str(Connection::open(address)?.ask(&ask)?)?;
    whole(&answer["data"]["result"][0]["value"][1])
}

/// Seconds since the epoch, with their fraction.
#[must_use]
pub fn seconds(at_ms: i64) -> String {
    format!("{}.{:03}", at_ms.div_euclid(1_000), at_ms.rem_euclid(1_000))
}

/// A count, as a number or as text.
fn whole(value: &Value) -> Result<u64> {
    let number =
        value.as_f64().or_else(|| value.as_str()?.parse().ok()).with_context(|| value.to_string())?;
    ensure!(number >= 0.0 && number.fract() == 0.0, "{number} is no count");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number")]
    Ok(number as u64)
}
