//! Many nodes as their receiver sees them: a batch each second, packed as nodes pack them, with accounts that add up.

#![expect(clippy::disallowed_methods, reason = "sends in real time")]

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::keep_alive::{Connection, request};

/// They share the machine with the receiver: a few threads send for all nodes, in turns.
const THREADS: usize = 20;

/// So many nodes, `node-0` and so on, each of which sends what `records` says (which node, which second) once a second while
/// it goes on; how long each answer took.
///
/// # Errors
/// The first refusal, or a batch that was not stored whole.
pub fn every_second(
    address: &str,
    nodes: usize,
    goes_on: impl Fn() -> bool + Sync,
    records: impl Fn(usize, u64) -> Result<Vec<Value>> + Sync,
) -> Result<Vec<Duration>> {
    let began = Instant::now();
    let some = |thread: usize| {
        let numbers = (thread..nodes).step_by(THREADS);
        let nodes = numbers.map(|number| anyhow::Ok((number, Node::new(number, address)?)));
        let mut nodes: Vec<_> = nodes.collect::<Result<_>>()?;
        let mut took = Vec::new();
        for second in 0.. {
            if !goes_on() {
                break;
            }
            for (number, node) in &mut nodes {
                took.push(node.send(&records(*number, second)?)?);
            }
            let next = began + Duration::from_secs(second + 1);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(took)
    };
    let took: Vec<Result<Vec<Duration>>> = thread::scope(|scope| {
        let some = &some;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || some(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a node panicked"))).collect()
    });
    Ok(took.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

struct Node {
    name: String,
    next_seq: u64,
    connection: Connection,
}

impl Node {
    fn new(number: usize, address: &str) -> Result<Self> {
        Ok(Self { name: format!("node-{number}"), next_seq: 1, connection: Connection::open(address)? })
    }

    /// Sends records as one batch; how long the answer took.
    fn send(&mut self, records: &[Value]) -> Result<Duration> {
        let (before, count) = (self.next_seq - 1, records.len() as u64);
        let body = json!({
            "version": 1, "node": self.name, "boot_id": "b", "spool_id": "s", "first_seq": self.next_seq,
            "accounts": {
                "produced": before + count, "acknowledged": before, "acknowledged_here": before, "spooled": count,
                "spooled_bytes": 1, "dropped": {}, "oldest_at_ns": records[0]["at_ns"],
            },
            "records": records,
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
