//! A node on a long backlog, and one whose receiver is far away.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use sextant::delivery::spool::{Config, Spool, SpoolMetrics};
use sextant_tests::faulty::{Fault, Proxy, Request};
use sextant_tests::keep_alive::{Connection, request};
use sextant_tests::process::{mib, peak_rss_bytes, rss_bytes};
use sextant_tests::role::Role;

use super::{SCALE, node, records};

/// Room for the backlog.
const CONFIG: &str = "[spool]\nmax_size_bytes = 4294967296\n";

/// Where nothing listens: without a receiver a node keeps no spool.
const NOBODY: &str = "http://127.0.0.1:9";

/// Half of the way there and back.
const FAR: Duration = Duration::from_millis(25);

/// A drain that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Puts records into a spool that no node has open, until there are `bytes` of them; how many there are.
fn fill(dir: &Path, record: &[u8], bytes: usize) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = Config { max_size_bytes: 4 << 30, ..Config::default() };
        let spool = Spool::open(&dir.join("data"), &config, SpoolMetrics::default(), || 1)?;
        let per_commit = (1 << 20) / record.len();
        let mut left = bytes / record.len();
        while left > 0 {
            let count = left.min(per_commit);
            spool.append_many(vec![record.to_vec(); count]).await?;
            left -= count;
        }
        let count = spool.accounts().spooled;
        spool.close().await;
        Ok(count)
    })
}

/// Until this node has nothing left; how long it took.
fn drained(node: &Role) -> Result<Duration> {
    let began = Instant::now();
    let mut connection = Connection::open(node.address())?;
    while began.elapsed() < PATIENCE {
        let status: Value =
            serde_json::from_str(connection.ask(&request("GET", "/status?format=json", "", b""))?)?;
        // Its own new records are a few.
        if status["delivery"]["accounts"]["spooled"].as_u64() < Some(10) {
            return Ok(began.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("not drained in {PATIENCE:?}")
}

/// Started on 2 GB, killed, started again, drained.
pub(super) fn long(dir: &Path) -> Result<()> {
    let record = records::pods(1).to_string().into_bytes();
    let count = fill(dir, &record, SCALE.backlog_bytes)?;
    println!("a backlog of {:.2} GB, {count} records of {} bytes:", gigabytes(count, &record), record.len());
    let mut began = Instant::now();
    for after in ["an orderly end", "SIGKILL"] {
        let node = node(dir, NOBODY, CONFIG)?;
        println!(
            "  start after {after:<14} {:5.2} s (goal: 2), RSS {:.0} MiB at most",
            began.elapsed().as_secs_f64(),
            mib(peak_rss_bytes(node.pid())?)
        );
        // It writes of its own meanwhile.
        thread::sleep(Duration::from_secs(3));
        node.kill()?;
        began = Instant::now();
    }
    let receiver = Role::start("receiver", &dir.join("receiver"), &[])?;
    let node = node(dir, &receiver.url, CONFIG)?;
    let begun = rss_bytes(node.pid())?;
    let took = drained(&node)?;
    println!(
        "  drained in {:.0} s, {:.0} records/s, {:.1} MB/s; node RSS {:.0} MiB before, {:.0} at most; receiver {:.0} at most",
        took.as_secs_f64(),
        per_second(count, took),
        gigabytes(count, &record) * 1e3 / took.as_secs_f64(),
        mib(begun),
        mib(peak_rss_bytes(node.pid())?),
        mib(peak_rss_bytes(receiver.pid())?)
    );
    ensure!(node.stop()? == Some(0) && receiver.stop()? == Some(0), "a role failed");
    Ok(())
}

/// Small records to a receiver that is near, and to one that is not: what one batch in flight costs.
pub(super) fn far(dir: &Path) -> Result<()> {
    let record = records::posted(1).to_string().into_bytes();
    println!("{} records of {} bytes, one batch in flight:", SCALE.far_records, record.len());
    for (name, delay) in [("a receiver on the same machine", Duration::ZERO), ("one that is 50 ms away", FAR)]
    {
        let dir = dir.join(delay.as_millis().to_string());
        let count = fill(&dir, &record, SCALE.far_records * record.len())?;
        let receiver = Role::start("receiver", &dir.join("receiver"), &[])?;
        let slow = move |request: &Request| {
            if request.line.starts_with("POST") { Fault::Delay(delay) } else { Fault::None }
        };
        let line = Proxy::start(receiver.address(), slow)?;
        let node = node(&dir, &line.url(), CONFIG)?;
        let took = drained(&node)?;
        println!(
            "  {name:<32} {:.0} records/s, {:.1} MB/s",
            per_second(count, took),
            gigabytes(count, &record) * 1e3 / took.as_secs_f64()
        );
        ensure!(node.stop()? == Some(0) && receiver.stop()? == Some(0), "a role failed");
    }
    Ok(())
}

fn per_second(count: u64, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

fn gigabytes(count: u64, record: &[u8]) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
        * f64::from(u32::try_from(record.len()).unwrap_or(u32::MAX))
        / 1e9
}
