//! `cargo xtask bench store`: what the store of series takes, what a sample costs on disk, how soon questions are answered and
//! how soon a month of files is open. The data are those of the reference's file ([`sextant_tests::gpu_load`]).
//!
//! Everything is synced before it counts as stored. `-- --quick` only shows that everything runs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock and prints ratios"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use sextant::domain::series::{Aggregation, Operator, Range, Selection};
use sextant::series::{Config, Metrics, Query, Series};
use sextant_tests::gpu_load::{GPUS, Load};

/// 2026-11-22 00:00 UTC.
const DAY_MS: i64 = 86_400_000;
const TODAY_MS: i64 = 20_779 * DAY_MS;

/// Seconds of all GPUs that come in one append: what a queue's batch has.
const STEP_S: i64 = 4;

fn clock() -> i64 {
    (TODAY_MS + DAY_MS - 1) * 1_000_000
}

fn main() -> Result<()> {
    // `cargo test` builds benchmarks too, and runs them with this.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let directory = tempfile::tempdir()?;
    runtime.block_on(async {
        ingest(directory.path(), if quick { 60 } else { 3_600 }).await?;
        gpu_day(&directory.path().join("day"), if quick { 600 } else { 86_400 }).await?;
        gpus(&directory.path().join("gpus"), if quick { 100 } else { 10_000 }).await?;
        month(&directory.path().join("month"), if quick { 3 } else { 30 }).await
    })
}

async fn open(directory: &Path) -> Result<Series> {
    Ok(Series::open(directory, &Config::default(), Metrics::default(), clock).await?)
}

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn size_bytes(directory: &Path) -> Result<u64> {
    let sizes = std::fs::read_dir(directory.join("series"))?.map(|entry| Ok(entry?.metadata()?.len()));
    sizes.sum::<Result<u64>>()
}

/// Seconds of the whole fleet, as fast as they are taken.
async fn ingest(directory: &Path, seconds: i64) -> Result<()> {
    let series = open(directory).await?;
    let mut load = Load::new(GPUS);
    let (mut samples, mut wall, mut cpu) = (0, Duration::ZERO, 0.0);
    for step in 0..seconds / STEP_S {
        let batch = load.seconds(TODAY_MS + step * STEP_S * 1_000, STEP_S);
        let (from, before) = (Instant::now(), cpu_s());
        let appended = series.append("fleet", batch).await?;
        (wall, cpu) = (wall + from.elapsed(), cpu + cpu_s() - before);
        ensure!(appended.refused.is_empty(), "{appended:?}");
        samples += appended.stored;
    }
    let rate = samples as f64 / wall.as_secs_f64();
    println!("ingest of {} series, {samples} samples, each append of {STEP_S} s synced:", load.len());
    println!("  rate                 {rate:>12.0} samples/s   (goal: 500,000)");
    println!("  CPU                  {:>12.2} us a sample", cpu * 1e6 / samples as f64);
    let range = Range { from_ms: TODAY_MS, to_ms: TODAY_MS + seconds * 1_000 };
    let count = Query {
        selection: Selection::default(),
        range,
        buckets: Some((DAY_MS, Aggregation::Count)),
        max_series: 10_000,
        max_samples: 1_000_000,
    };
    let read = series.read(&count).await?;
    let found: f64 = read.iter().flat_map(|series| &series.samples).map(|sample| sample.value).sum();
    ensure!(found == samples as f64, "{found} samples are queryable, {samples} were stored");
    let before = size_bytes(directory)?;
    series.pack_all().await;
    let after = size_bytes(directory)?;
    println!(
        "  on disk              {:>12.2} B a sample, {:.2} once the day is packed   (goal: 1.5)",
        before as f64 / samples as f64,
        after as f64 / samples as f64
    );
    series.close().await;
    Ok(())
}

/// One GPU among eight, its whole day, ten metrics, as a dashboard asks for it.
async fn gpu_day(directory: &Path, seconds: i64) -> Result<()> {
    let series = open(directory).await?;
    let mut load = Load::new(8);
    for step in 0..seconds / 600 {
        series.append("fleet", load.seconds(TODAY_MS + step * 600_000, 600)).await?;
    }
    let selection = Selection::default().and("gpu", Operator::Equal, "3");
    let range = Range { from_ms: TODAY_MS, to_ms: TODAY_MS + DAY_MS - 1 };
    let of = |buckets, metric: &str| Query {
        selection: if metric.is_empty() {
            selection.clone()
        } else {
            selection.clone().and("__name__", Operator::Equal, metric)
        },
        range,
        buckets,
        max_series: 100,
        max_samples: 2_000_000,
    };
    let five_minutes = Some((300_000, Aggregation::Avg));
    println!("a GPU's day of {seconds} s:");
    for (what, query) in [
        ("one metric, by 5 minutes", of(five_minutes, "DCGM_FI_DEV_GPU_UTIL")),
        ("one metric, raw", of(None, "DCGM_FI_DEV_GPU_UTIL")),
        ("ten metrics, by 5 minutes", of(five_minutes, "")),
    ] {
        let mut waits = Vec::new();
        for _ in 0..200 {
            let from = Instant::now();
            ensure!(!series.read(&query).await?.is_empty(), "no answer");
            waits.push(from.elapsed());
        }
        print_waits(what, waits, "20 ms");
    }
    series.close().await;
    Ok(())
}

/// Which GPUs there are.
async fn gpus(directory: &Path, count: usize) -> Result<()> {
    let series = open(directory).await?;
    let mut load = Load::new(count);
    series.append("fleet", load.seconds(TODAY_MS, 1)).await?;
    let selection = Selection::metric("DCGM_FI_DEV_GPU_UTIL").and("UUID", Operator::NotEqual, "");
    let range = Range { from_ms: TODAY_MS, to_ms: TODAY_MS + DAY_MS };
    let mut waits = Vec::new();
    for _ in 0..100 {
        let from = Instant::now();
        ensure!(series.find(&selection, range, 200_000).await?.len() == count, "not all are found");
        waits.push(from.elapsed());
    }
    println!("of {} series:", load.len());
    print_waits(&format!("list of {count} GPUs"), waits, "50 ms");
    series.close().await;
    Ok(())
}

/// Files of so many days, opened.
async fn month(directory: &Path, days: i64) -> Result<()> {
    let series = open(directory).await?;
    let mut load = Load::new(GPUS);
    for day in (0..days).rev() {
        series.append("fleet", load.seconds(TODAY_MS - day * DAY_MS, 60)).await?;
    }
    series.close().await;
    let from = Instant::now();
    let series = open(directory).await?;
    println!("start with {days} days           {:>8.1} ms   (goal: 2 s)", from.elapsed().as_secs_f64() * 1e3);
    series.close().await;
    Ok(())
}

fn print_waits(what: &str, mut waits: Vec<Duration>, goal: &str) {
    waits.sort_unstable();
    let at = |percent: usize| {
        waits.get(waits.len() * percent / 100).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3)
    };
    println!("  {what:<28} p50 {:>7.2} ms, p99 {:>7.2} ms   (goal: p99 {goal})", at(50), at(99));
}
