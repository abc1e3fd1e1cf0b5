//! `cargo xtask bench queue`: what the receiver's queue takes and gives, each record synced before it is confirmed,
//! beside Redis Streams with `appendfsync always` and NATS JetStream with `sync_interval: always` on the same disk in the
//! same run.
//!
//! Records are of 400 bytes. The clients share the machine with the server, so they are as plain as they can be:
//! threads on keep-alive connections. Before anything is timed, what is produced is read back. `-- --quick` only shows that
//! everything runs.
//!
//! The row of the queue in process is built without LTO, unlike the receiver that the others are of.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts servers, reads the clock and prints"
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sextant::queue::{self, NewMessage, Produce, Queue};
use sextant_tests::keep_alive::{self, Connection};
use sextant_tests::process::{mega, rss_bytes};
use sextant_tests::role::Role;

use self::nats::JetStream;
use self::redis::{Redis, xadd};

mod nats;
mod redis;

const RECORD_BYTES: usize = 400;
const BATCH: usize = 512;
const PRODUCERS: usize = 4;
const CONNECTIONS: usize = 32;

/// How long each thing is done, and how often.
struct Scale {
    time: Duration,
    latencies: usize,
    backlog: usize,
}

static SCALE: LazyLock<Scale> = LazyLock::new(|| {
    if std::env::args().any(|arg| arg == "--quick") {
        Scale { time: Duration::from_millis(300), latencies: 20, backlog: 2_000 }
    } else {
        Scale { time: Duration::from_secs(8), latencies: 2_000, backlog: 1_000_000 }
    }
});

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    println!("batches of {BATCH} x {RECORD_BYTES} B, {PRODUCERS} producers:");
    let library = library(&dir.path().join("library"))?;
    println!("  queue, in process, without LTO {library:>10.0} records/s   (goal: 100,000)");

    let config = dir.path().join("receiver.toml");
    std::fs::write(&config, "[queue]\nqueue_size = 100000000\nmax_size_bytes = 17179869184\n")?;
    let config = config.to_str().context("a path of plain letters")?;
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &["--config", config])?;
    round_trip(receiver.address())?;
    let body = batch_body(BATCH);
    let request = request("POST", "/produce/batch?topic=batched", &body);
    let batched = many(PRODUCERS, |_| http(receiver.address(), &request, BATCH))?;
    println!("  queue, over HTTP               {batched:>10.0} records/s");
    let redis = measured("Redis Streams", Redis::start(&dir.path().join("redis")));
    let nats = measured("NATS JetStream", JetStream::start(&dir.path().join("nats")));
    if let Some(redis) = &redis {
        let pipeline = xadd().repeat(BATCH);
        let rate = many(PRODUCERS, |_| redis.load(&pipeline, BATCH))?;
        println!("  Redis Streams, pipelined       {rate:>10.0} records/s = 1 / {:.1}", batched / rate);
    }
    if let Some(nats) = &nats {
        let rate = many(PRODUCERS, |n| nats.pipelined(n, BATCH))?;
        println!("  NATS JetStream, pipelined      {rate:>10.0} records/s = 1 / {:.1}", batched / rate);
        let rate = many(PRODUCERS, |n| nats.atomic(n, BATCH))?;
        println!("  NATS JetStream, atomic batches {rate:>10.0} records/s = 1 / {:.1}", batched / rate);
    }

    println!("single records, {CONNECTIONS} connections:");
    let payload = format!("{{\"payload\":\"{}\"}}", "x".repeat(RECORD_BYTES));
    let single = |receiver: &Role| {
        many(CONNECTIONS, |n| {
            let one = self::request("POST", &format!("/produce?topic=single&partition={}", n % 4), &payload);
            http(receiver.address(), &one, 1)
        })
    };
    // A queue that is kept up with holds little; this one holds every batch, and more than a start after a crash reads.
    let fresh = Role::start("receiver", &dir.path().join("fresh"), &["--config", config])?;
    let rate = single(&fresh)?;
    println!("  queue, over HTTP               {rate:>10.0} requests/s  (goal: 12,000)");
    ensure!(fresh.stop()? == Some(0), "the receiver failed");
    println!("  the same behind the batches    {:>10.0} requests/s", single(&receiver)?);
    if let Some(redis) = &redis {
        let single = xadd();
        let theirs = many(CONNECTIONS, |_| redis.load(&single, 1))?;
        println!("  Redis Streams                  {theirs:>10.0} requests/s = 1 / {:.1}", rate / theirs);
    }
    if let Some(nats) = &nats {
        let theirs = many(CONNECTIONS, |n| nats.pipelined(n, 1))?;
        println!("  NATS JetStream                 {theirs:>10.0} requests/s = 1 / {:.1}", rate / theirs);
    }
    drop((redis, nats));

    latency(receiver.address())?;
    backlog(&receiver)
}

/// Records per second of `producers` threads that each do `load` for [`Scale::time`].
fn many(producers: usize, load: impl Fn(usize) -> Result<usize> + Sync) -> Result<f64> {
    let began = Instant::now();
    let counts: Vec<Result<usize>> = thread::scope(|scope| {
        let load = &load;
        let threads: Vec<_> = (0..producers).map(|n| scope.spawn(move || load(n))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a producer panicked")))
            .collect()
    });
    let total = counts.into_iter().sum::<Result<usize>>()?;
    Ok(per_second(total, began.elapsed()))
}

fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

/// A peer that cannot be started is not measured, and that is said.
fn measured<T>(name: &str, started: Result<T>) -> Option<T> {
    started.inspect_err(|error| println!("  {name:<30} not measured: {error:#}")).ok()
}

/// The queue without HTTP.
fn library(dir: &Path) -> Result<f64> {
    let config =
        queue::Config { queue_size: 100_000_000, max_size_bytes: 16 << 30, ..queue::Config::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let queue = runtime.block_on(Queue::open(dir, &config, queue::Metrics::default(), || 0))?;
    let total = runtime.block_on(async {
        let began = Instant::now();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|partition| {
                let queue = queue.clone();
                tokio::spawn(async move {
                    let mut count = 0;
                    while began.elapsed() < SCALE.time {
                        let message = NewMessage { key: None, payload: vec![b'x'; RECORD_BYTES] };
                        let batch = Produce {
                            topic: "t".to_owned(),
                            partition: u32::try_from(partition).ok(),
                            id: None,
                            messages: vec![message; BATCH],
                        };
                        count += queue.produce(batch).await?.ids.len();
                    }
                    Ok::<_, queue::Error>(count)
                })
            })
            .collect();
        let mut total = 0;
        for producer in producers {
            total += producer.await??;
        }
        anyhow::Ok(per_second(total, began.elapsed()))
    })?;
    runtime.block_on(queue.close());
    Ok(total)
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    keep_alive::request(method, path, "", body.as_bytes())
}

fn batch_body(count: usize) -> String {
    let message = format!("{{\"payload\":\"{}\"}}", "x".repeat(RECORD_BYTES));
    format!("{{\"messages\":[{}]}}", vec![message; count].join(","))
}

/// The same request again and again; how many records were confirmed.
fn http(address: &str, request: &[u8], records: usize) -> Result<usize> {
    let mut connection = Connection::open(address)?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < SCALE.time {
        connection.ask(request)?;
        count += records;
    }
    Ok(count)
}

/// What is produced comes out.
fn round_trip(address: &str) -> Result<()> {
    let mut connection = Connection::open(address)?;
    connection.ask(&request("POST", "/produce/batch?topic=check&partition=0", &batch_body(3)))?;
    let pulled = connection.ask(&request("GET", "/consume?topic=check&group=g&max=10", ""))?;
    let messages: serde_json::Value = serde_json::from_str(pulled)?;
    let messages = messages["messages"].as_array().context("no messages")?;
    ensure!(messages.len() == 3 && messages[0]["payload"] == "x".repeat(RECORD_BYTES), "{pulled}");
    Ok(())
}

/// From before a record is sent to when a stream's client has it.
fn latency(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(&request("GET", "/consume?topic=latency&partition=0&group=g&credit=1000", ""))?;
    let mut lines = BufReader::new(stream).lines();
    lines.by_ref().find(|line| line.as_ref().is_ok_and(|line| line == ": open")).context("no stream")??;
    let mut producer = Connection::open(address)?;
    let mut acks = Connection::open(address)?;
    let mut latencies = Vec::with_capacity(SCALE.latencies);
    let body = format!("{{\"payload\":\"{}\"}}", "x".repeat(RECORD_BYTES));
    let produce = request("POST", "/produce?topic=latency&partition=0", &body);
    for _ in 0..SCALE.latencies {
        let sent = Instant::now();
        producer.ask(&produce)?;
        let id = loop {
            let line = lines.next().context("the stream ended")??;
            if let Some(id) = line.strip_prefix("id: ") {
                break id.to_owned();
            }
        };
        latencies.push(sent.elapsed());
        acks.ask(&request("POST", "/ack?topic=latency&group=g", &format!("{{\"id\":\"{id}\"}}")))?;
        thread::sleep(Duration::from_millis(1));
    }
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    println!("produced to read from a stream: p50 {:.2} ms, p99 {:.2} ms   (goal: p99 10)", at(500), at(990));
    Ok(())
}

/// A long backlog, produced and drained, and the memory that it takes.
fn backlog(receiver: &Role) -> Result<()> {
    let mut connection = Connection::open(receiver.address())?;
    connection.ask(&request("GET", "/consume?topic=backlog&partition=0&group=g&max=1", ""))?;
    let before = rss_bytes(receiver.pid())?;
    let batch = request("POST", "/produce/batch?topic=backlog&partition=0", &batch_body(1_000));
    for _ in 0..SCALE.backlog / 1_000 {
        connection.ask(&batch)?;
    }
    let filled = rss_bytes(receiver.pid())?;
    let (began, mut drained, mut most) = (Instant::now(), 0, filled);
    let pull = request("GET", "/consume?topic=backlog&partition=0&group=g&max=1000", "");
    while drained < SCALE.backlog {
        let pulled: serde_json::Value = serde_json::from_str(connection.ask(&pull)?)?;
        let messages = pulled["messages"].as_array().context("no messages")?;
        ensure!(!messages.is_empty(), "{drained} of {} came out", SCALE.backlog);
        let mut body = "{\"ids\":[".to_owned();
        for (n, message) in messages.iter().enumerate() {
            write!(body, "{}{}", if n > 0 { "," } else { "" }, message["id"])?;
        }
        connection.ask(&request("POST", "/ack?topic=backlog&group=g", &(body + "]}")))?;
        drained += messages.len();
        most = most.max(rss_bytes(receiver.pid())?);
    }
    println!(
        "a backlog of {}: drained at {:.0} records/s; RSS {:.0} MB before, {:.0} with it, {:.0} at most",
        SCALE.backlog,
        per_second(drained, began.elapsed()),
        mega(before),
        mega(filled),
        mega(most)
    );
    Ok(())
}
