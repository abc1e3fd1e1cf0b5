//! A hundred nodes as their receiver sees them: batches every second, packed as nodes pack them, and twice a minute
//! everything about their pods. All begin at once, as after a receiver's restart.

use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sextant_tests::keep_alive::{Connection, request};
use sextant_tests::role::Role;

use super::{SCALE, mib, peak_rss_bytes, records, rss_bytes};

const NODES: usize = 100;
const THREADS: usize = 20;

/// Between two times that a node tells all of its pods.
const PODS_EVERY: u64 = 30;

struct Node {
    name: String,
    next_seq: u64,
    connection: Connection,
}

impl Node {
    /// Sends what a node sends in this second; how long the answer took.
    fn send(&mut self, second: u64) -> Result<Duration> {
        let at_ns = i64::try_from(second * 1_000_000_000)?;
        let mut batch = vec![records::scheduler(at_ns)];
        if second.is_multiple_of(PODS_EVERY) {
            batch.extend([records::pods(at_ns), records::usage(at_ns), records::runqueue(at_ns)]);
        }
        let (before, count) = (self.next_seq - 1, batch.len() as u64);
        let body = json!({
            "version": 1, "node": self.name, "boot_id": "b", "spool_id": "s", "first_seq": self.next_seq,
            "accounts": {
                "produced": before + count, "acknowledged": before, "acknowledged_here": before, "spooled": count,
                "spooled_bytes": 1, "dropped": {}, "oldest_at_ns": at_ns,
            },
            "records": batch,
        });
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&serde_json::to_vec(&body)?)?;
        let request = request("POST", "/api/v1/ingest", "content-encoding: gzip\r\n", &packed.finish()?);
        let began = Instant::now();
        let ack: Value = serde_json::from_str(self.connection.ask(&request)?)?;
        ensure!(ack["stored"] == count, "{ack}");
        self.next_seq += count;
        Ok(began.elapsed())
    }
}

pub(super) fn run(dir: &Path) -> Result<()> {
    let receiver = Role::start("receiver", dir, &[])?;
    let empty = rss_bytes(&receiver)?;
    let (address, began) = (receiver.address(), Instant::now());
    let took: Vec<Result<Vec<Duration>>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || some_nodes(thread, address, began))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a node panicked"))).collect()
    });
    let mut took: Vec<_> = took.into_iter().collect::<Result<Vec<_>>>()?.concat();
    took.sort_unstable();
    let mut connection = Connection::open(address)?;
    let fleet: Value = serde_json::from_str(connection.ask(&request("GET", "/api/v1/nodes", "", b""))?)?;
    let nodes = fleet["nodes"].as_array().context("no nodes")?;
    let right = nodes.iter().filter(|node| node["adds_up"] == true && node["missing"] == 0).count();
    ensure!(right == NODES, "the sums of {right} of {NODES} nodes hold");
    let p99 = took[(took.len() - 1) * 99 / 100];
    println!(
        "{NODES} nodes for {} s, {} batches: RSS {:.0} MiB, {:.0} at most (goal: 100), {:.0} before; answered in {:.1} ms p99",
        SCALE.fleet.as_secs(),
        took.len(),
        mib(rss_bytes(&receiver)?),
        mib(peak_rss_bytes(&receiver)?),
        mib(empty),
        p99.as_secs_f64() * 1e3
    );
    ensure!(receiver.stop()? == Some(0), "the receiver failed");
    Ok(())
}

/// A thread's share of the nodes, each once a second.
fn some_nodes(thread: usize, address: &str, began: Instant) -> Result<Vec<Duration>> {
    let nodes = (0..NODES / THREADS).map(|n| {
        let name = format!("node-{}", thread * (NODES / THREADS) + n);
        anyhow::Ok(Node { name, next_seq: 1, connection: Connection::open(address)? })
    });
    let mut nodes: Vec<_> = nodes.collect::<Result<_>>()?;
    let mut took = Vec::new();
    for second in 0.. {
        if began.elapsed() >= SCALE.fleet {
            break;
        }
        for node in &mut nodes {
            took.push(node.send(second)?);
        }
        thread::sleep((began + Duration::from_secs(second + 1)).saturating_duration_since(Instant::now()));
    }
    Ok(took)
}
