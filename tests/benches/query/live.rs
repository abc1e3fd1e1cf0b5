//! A hundred nodes of ten GPUs, ten metrics of each, a batch a second: 10,000 samples a second.
//!
//! They go on while a hundred tails are opened and closed again, and while records are produced one by one; that takes long
//! enough for the store to pack what it holds in memory once.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sextant::api::gpu::{GpuRow, NodeGpu};
use sextant::api::time::rfc3339;
use sextant::domain::series::SeriesSamples;
use sextant_tests::gpu_load::Load;
use sextant_tests::keep_alive::{Connection, question, request};
use sextant_tests::many_nodes::every_second;
use sextant_tests::process::{cpu_s, mib, peak_rss_bytes, rss_bytes};
use sextant_tests::remote_write::{count, seconds};
use sextant_tests::role::{Role, eventually};

use super::{SCALE, now_ns, receiver, words};

const NODES: usize = 100;
const GPUS: usize = 10;
const TAILS: usize = 100;

/// More streams than are open by default.
const CONFIG: &str = "[http]\nmax_streams = 128\n";

/// Between two records that are produced, no part of the second in which nodes send.
const PAUSE: Duration = Duration::from_millis(37);

/// A record that is not there by then is lost.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(dir: &Path) -> Result<()> {
    let receiver = receiver(dir, CONFIG)?;
    let empty_bytes = rss_bytes(receiver.pid())?;
    let begin_ms = now_ns() / 1_000_000_000 * 1_000;
    let loads: Vec<_> = (0..NODES).map(|_| Mutex::new(Load::new(GPUS))).collect();
    let of_second = |node: usize, second: u64| {
        let mut load = loads[node].lock().unwrap_or_else(PoisonError::into_inner);
        Ok(vec![record(&mut load, node, begin_ms + i64::try_from(second)? * 1_000)?])
    };
    println!("{NODES} nodes of {GPUS} GPUs, {} samples a second:", NODES * GPUS * 10);
    let ended = AtomicBool::new(false);
    let goes_on = || !ended.load(Ordering::Relaxed);
    let (parts, sent) = thread::scope(|scope| {
        let nodes = scope.spawn(|| every_second(receiver.address(), NODES, goes_on, of_second));
        let parts = parts(&receiver);
        ended.store(true, Ordering::Relaxed);
        (parts, nodes.join())
    });
    let took = sent.ok().context("the nodes panicked")??;
    parts?;
    let samples = (took.len() * GPUS * 10) as u64;
    println!(
        "  {samples} samples in {} batches, each answered in {}; {:.0} MiB RSS, {:.0} at most (goal: 150), {:.0} before",
        took.len(),
        words(&took),
        mib(rss_bytes(receiver.pid())?),
        mib(peak_rss_bytes(receiver.pid())?),
        mib(empty_bytes)
    );
    eventually(PATIENCE, "everything is queryable", || {
        let found = count(receiver.address(), begin_ms, now_ns() / 1_000_000)?;
        ensure!(found == samples, "{found} of {samples} samples");
        Ok(())
    })?;
    ensure!(receiver.stop()? == Some(0), "the receiver failed");
    Ok(())
}

/// What is looked at while nodes write.
fn parts(receiver: &Role) -> Result<()> {
    // The first seconds make the series.
    thread::sleep(SCALE.window / 3);
    let before = busy(receiver)?;
    let tails: Vec<_> = (0..TAILS).map(|node| Tail::open(receiver.address(), node)).collect::<Result<_>>()?;
    thread::sleep(Duration::from_secs(2));
    let with = busy(receiver)?;
    let mut seen = 0;
    for tail in tails {
        seen += tail.close()?;
    }
    let after = busy(receiver)?;
    println!(
        "  receiver                            {before:.1} % of a core, {with:.1} with {TAILS} tails, {after:.1} after them: \
         {:.1} more   (goal: 5); {seen} samples came through them, none is missing",
        with - (before + after) / 2.0
    );
    let waits = produced_to_queryable(receiver.address())?;
    println!("  from produced to queryable          {}   (goal: p99 1000 ms)", words(&waits));
    Ok(())
}

/// CPU that the receiver takes in a while, % of a core.
fn busy(receiver: &Role) -> Result<f64> {
    let (before_s, began) = (cpu_s(receiver.pid())?, Instant::now());
    thread::sleep(SCALE.window);
    Ok((cpu_s(receiver.pid())? - before_s) / began.elapsed().as_secs_f64() * 100.0)
}

fn uuid(node: usize, gpu: usize) -> String {
    format!("GPU-{node:04x}{gpu:04x}-1111-2222-3333-444455556666")
}

/// What a node says of its GPUs in a second.
fn record(load: &mut Load, node: usize, at_ms: i64) -> Result<Value> {
    let second = load.seconds(at_ms, 1);
    let per_gpu = second.len() / GPUS;
    let fields = second[..per_gpu].iter().map(|series| series.labels.metric().to_owned()).collect();
    let row = |(gpu, series): (usize, &[SeriesSamples])| GpuRow {
        gpu: gpu.to_string(),
        uuid: uuid(node, gpu),
        device: format!("nvidia{gpu}"),
        model_name: "NVIDIA H100 80GB HBM3".to_owned(),
        hostname: format!("node-{node}"),
        values: series.iter().map(|one| one.samples.first().map(|sample| sample.value)).collect(),
        ..GpuRow::default()
    };
    let at_ns = at_ms * 1_000_000;
    let devices = second.chunks(per_gpu).enumerate().map(row).collect();
    let body = serde_json::to_value(NodeGpu { at_ns, fields, devices })?;
    Ok(json!({ "at_ns": at_ns, "boot_id": "b", "kind": "gpu", "body": body }))
}

/// Somebody who looks at one series of one node as it comes.
struct Tail {
    stream: TcpStream,
    reader: JoinHandle<Result<Vec<i64>>>,
}

impl Tail {
    fn open(address: &str, node: usize) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        let selector = format!("DCGM_FI_DEV_GPU_UTIL{{UUID=\"{}\"}}", uuid(node, 0));
        stream.write_all(&question("/api/v1/samples/stream", &[("match", &selector)]))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader: thread::spawn(move || times(reader)) })
    }

    /// How many samples it saw, a second from each to the next.
    fn close(self) -> Result<usize> {
        self.stream.shutdown(Shutdown::Both)?;
        let times = self.reader.join().ok().context("a tail panicked")??;
        let whole = times.array_windows().all(|[one, next]| next - one == 1_000);
        ensure!(whole && !times.is_empty(), "a tail saw samples at {times:?}");
        Ok(times.len())
    }
}

/// The times of all samples of a stream, until it is closed.
fn times(mut stream: BufReader<TcpStream>) -> Result<Vec<i64>> {
    let (mut line, mut times) = (String::new(), Vec::new());
    stream.read_line(&mut line)?;
    ensure!(line.contains(" 200 "), "{line}");
    loop {
        line.clear();
        // Where it was closed there may be half a line.
        if stream.read_line(&mut line).is_err() || !line.ends_with('\n') {
            return Ok(times);
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data)?;
            let samples = data["series"][0]["samples"].as_array().context("no samples")?;
            times.extend(samples.iter().filter_map(|pair| pair[0].as_i64()));
        }
    }
}

/// From before a record is produced to when it is in an answer, which is asked for all the time.
fn produced_to_queryable(address: &str) -> Result<Vec<Duration>> {
    let (mut producer, mut asker) = (Connection::open(address)?, Connection::open(address)?);
    let mut waits = Vec::with_capacity(SCALE.records);
    for n in 0..SCALE.records {
        let at_ms = now_ns() / 1_000_000;
        let record = json!({
            "device_id": "nvidia0", "uuid": "GPU-probe", "metric": "bench_probe", "value": n,
            "time": rfc3339(at_ms * 1_000_000),
        });
        let produce = request(
            "POST",
            "/telemetry",
            "content-type: application/json\r\n",
            record.to_string().as_bytes(),
        );
        let at = seconds(at_ms);
        let ask = question("/api/v1/samples", &[("match", "bench_probe"), ("start", &at), ("end", &at)]);
        let began = Instant::now();
        producer.ask(&produce)?;
        while !asker.ask(&ask)?.starts_with("{\"count\":1,") {
            ensure!(began.elapsed() < PATIENCE, "the record of {at} is not there after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(1));
        }
        waits.push(began.elapsed());
        thread::sleep(PAUSE);
    }
    Ok(waits)
}
