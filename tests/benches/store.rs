//! `cargo xtask bench store`: what the store of series takes, what that costs, and what a sample costs on disk, beside
//! VictoriaMetrics with the same bytes in the same run. The data are those of the reference's file
//! ([`sextant_tests::gpu_load`]).
//!
//! First the store in process, a sync behind every append; then a receiver and VictoriaMetrics, each alone, by remote write
//! over HTTP. The receiver's answer says that a body is on disk; VictoriaMetrics answers from memory and syncs seconds
//! later. All samples are asked for before a figure is printed. `-- --quick` only shows that everything runs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock and prints ratios"
)]

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use sextant::domain::series::{Aggregation, Range, Selection};
use sextant::series::{Config, Metrics, Query, Series};
use sextant_tests::gpu_load::{GPUS, Load};
use sextant_tests::process::{cpu_s, mib, peak_rss_bytes};
use sextant_tests::remote_write::{count, count_of_peer, requests, send};
use sextant_tests::role::{Role, eventually};
use sextant_tests::victoria_metrics::VictoriaMetrics;
use tokio::sync::{Mutex, mpsc};

const DAY_MS: i64 = 86_400_000;

/// Seconds of all GPUs in one append: as many samples as a body of remote write has.
const STEP_S: i64 = 4;

/// Senders, in process and over HTTP: commits are shared by those who wait.
const SENDERS: usize = 4;

/// Until a peer shows what it took.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    // `cargo test` builds benchmarks too, and runs them with this.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let seconds = if std::env::args().any(|argument| argument == "--quick") { 60 } else { 3_600 };
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(in_process(&directory.path().join("library"), seconds))?;
    beside(directory.path(), seconds, &runtime)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Where an hour of today fits, which may end an hour from now at most: before the first hour of a day is over it is that.
fn begin_ms() -> i64 {
    let now_ms = now_ns() / 1_000_000;
    (now_ms - 3_600_000).max(now_ms - now_ms.rem_euclid(DAY_MS)) / 1_000 * 1_000
}

async fn open(directory: &Path) -> Result<Series> {
    Ok(Series::open(directory, &Config::default(), Metrics::default(), now_ns).await?)
}

/// The store alone, as fast as it takes what a thread of ours makes.
async fn in_process(directory: &Path, seconds: i64) -> Result<()> {
    let (series, begin_ms) = (open(directory).await?, begin_ms());
    let (batches, waiting) = mpsc::channel(SENDERS);
    let waiting = Arc::new(Mutex::new(waiting));
    let (began, before_s) = (Instant::now(), cpu_of_ours_s(ClockId::ProcessCPUTime));
    let maker = thread::spawn(move || {
        let mut load = Load::new(GPUS);
        for step in 0..seconds / STEP_S {
            let batch = load.seconds(begin_ms + step * STEP_S * 1_000, STEP_S);
            if batches.blocking_send(batch).is_err() {
                break;
            }
        }
        (load.len(), cpu_of_ours_s(ClockId::ThreadCPUTime))
    });
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (series, waiting) = (series.clone(), Arc::clone(&waiting));
            tokio::spawn(async move {
                let mut stored = 0;
                loop {
                    let batch = waiting.lock().await.recv().await;
                    let Some(batch) = batch else { return Ok(stored) };
                    let appended = series.append("fleet", batch).await?;
                    ensure!(appended.refused.is_empty(), "{appended:?}");
                    stored += appended.stored;
                }
            })
        })
        .collect();
    let mut samples = 0;
    for sender in senders {
        samples += sender.await??;
    }
    let wall = began.elapsed();
    let (count_of_series, maker_s) = maker.join().ok().context("the maker panicked")?;
    let busy_s = cpu_of_ours_s(ClockId::ProcessCPUTime) - before_s - maker_s;
    println!(
        "the store in process (built without LTO), {count_of_series} series, {samples} samples, {STEP_S} s of all of them in \
         each append, {SENDERS} at once, each synced:"
    );
    println!("  rate    {:>9.0} samples/s   (goal: 500,000)", samples as f64 / wall.as_secs_f64());
    println!("  CPU     {:>9.2} us a sample", busy_s * 1e6 / samples as f64);
    let found = in_store(&series, Range { from_ms: begin_ms, to_ms: begin_ms + seconds * 1_000 }).await?;
    ensure!(found == samples as f64, "{found} samples are queryable, {samples} were stored");
    let before = size_bytes(&directory.join("series"))?;
    series.pack_all().await;
    let after = size_bytes(&directory.join("series"))?;
    let each = |bytes: u64| bytes as f64 / samples as f64;
    println!(
        "  disk    {:>9.2} B a sample, {:.2} when the day is packed   (goal: 1.5)",
        each(before),
        each(after)
    );
    series.close().await;
    Ok(())
}

/// How many samples a question finds.
async fn in_store(series: &Series, range: Range) -> Result<f64> {
    let count = Query {
        selection: Selection::default(),
        range,
        buckets: Some((DAY_MS, Aggregation::Count)),
        max_series: 10_000,
        max_samples: 1_000_000,
    };
    let read = series.read(&count).await?;
    Ok(read.iter().flat_map(|series| &series.samples).map(|sample| sample.value).sum())
}

fn cpu_of_ours_s(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Everything below a directory.
fn size_bytes(directory: &Path) -> Result<u64> {
    let mut size_bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let is_directory = entry.file_type()?.is_dir();
        size_bytes += if is_directory { self::size_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(size_bytes)
}

/// What a server did with the hour.
struct Taken {
    wall: Duration,
    busy_s: f64,
    peak_bytes: u64,
    disk_bytes: u64,
}

fn beside(directory: &Path, seconds: i64, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let mut load = Load::new(GPUS);
    let begin_ms = begin_ms();
    let range = (begin_ms, begin_ms + seconds * 1_000);
    let samples = load.len() as u64 * u64::try_from(seconds)?;
    let requests = requests(&mut load, begin_ms, seconds, SENDERS);
    let bodies: usize = requests.iter().map(Vec::len).sum();
    println!("by remote write, {samples} samples in {bodies} bodies on {SENDERS} connections:");
    let receiver = directory.join("receiver");
    let ours = ours(&receiver, &requests, range, samples)?;
    let packed_bytes = runtime.block_on(async {
        let series = open(&receiver.join("data")).await?;
        series.pack_all().await;
        series.close().await;
        size_bytes(&receiver.join("data/series"))
    })?;
    ours.print("sextant, each body synced", samples);
    println!(
        "    {:.2} B a sample when the day is packed   (goal: 1.5)",
        packed_bytes as f64 / samples as f64
    );
    match theirs(&directory.join("peer"), &requests, range, samples) {
        Ok(theirs) => {
            theirs.print("VictoriaMetrics, synced later", samples);
            let of = |ours: f64, theirs: f64| ours / theirs;
            println!(
                "  sextant / VictoriaMetrics: rate {:.2}, CPU {:.2}, RSS {:.2}, disk {:.2}",
                of(theirs.wall.as_secs_f64(), ours.wall.as_secs_f64()),
                of(ours.busy_s, theirs.busy_s),
                of(ours.peak_bytes as f64, theirs.peak_bytes as f64),
                of(packed_bytes as f64, theirs.disk_bytes as f64)
            );
        }
        Err(error) => println!("  VictoriaMetrics: not measured: {error:#}"),
    }
    Ok(())
}

impl Taken {
    fn print(&self, name: &str, samples: u64) {
        println!(
            "  {name:<30} {:>9.0} samples/s, {:.2} us of CPU a sample, {:.0} MiB RSS at most, {:.2} B a sample on disk",
            samples as f64 / self.wall.as_secs_f64(),
            self.busy_s * 1e6 / samples as f64,
            mib(self.peak_bytes),
            self.disk_bytes as f64 / samples as f64
        );
    }
}

fn ours(dir: &Path, requests: &[Vec<Vec<u8>>], range: (i64, i64), samples: u64) -> Result<Taken> {
    let receiver = Role::start("receiver", dir, &[])?;
    let before_s = cpu_s(receiver.pid())?;
    let wall = send(receiver.address(), requests)?;
    let busy_s = idle_again(receiver.pid())? - before_s;
    let peak_bytes = peak_rss_bytes(receiver.pid())?;
    let found = count(receiver.address(), range.0, range.1)?;
    ensure!(found == samples, "{found} samples are queryable, {samples} were acknowledged");
    ensure!(receiver.stop()? == Some(0), "the receiver failed");
    Ok(Taken { wall, busy_s, peak_bytes, disk_bytes: size_bytes(&dir.join("data/series"))? })
}

fn theirs(dir: &Path, requests: &[Vec<Vec<u8>>], range: (i64, i64), samples: u64) -> Result<Taken> {
    let mut peer = VictoriaMetrics::start(dir)?;
    let before_s = cpu_s(peer.pid())?;
    let wall = send(peer.address(), requests)?;
    peer.flush()?;
    let busy_s = idle_again(peer.pid())? - before_s;
    let peak_bytes = peak_rss_bytes(peer.pid())?;
    eventually(PATIENCE, "it shows all samples", || {
        let found = count_of_peer(peer.address(), range.0, range.1)?;
        ensure!(found == samples, "{found} of {samples}");
        Ok(())
    })?;
    peer.stop()?;
    // Its caches are no samples.
    let data = dir.join("data");
    let kept = ["data", "indexdb", "metadata"].map(|part| data.join(part)).into_iter();
    let sizes = kept.filter(|part| part.is_dir()).map(|part| size_bytes(&part));
    Ok(Taken { wall, busy_s, peak_bytes, disk_bytes: sizes.sum::<Result<u64>>()? })
}

/// Waits until a process does nothing more of what it was given, half a minute at most; its CPU time, s.
fn idle_again(pid: u32) -> Result<f64> {
    let mut busy_s = cpu_s(pid)?;
    for _ in 0..30 {
        thread::sleep(Duration::from_secs(1));
        let before_s = std::mem::replace(&mut busy_s, cpu_s(pid)?);
        if busy_s - before_s < 0.05 {
            break;
        }
    }
    Ok(busy_s)
}
