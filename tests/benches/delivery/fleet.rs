//! A hundred nodes as their receiver sees them: batches every second, and twice a minute everything about their pods. All
//! begin at once, as after a receiver's restart.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sextant_tests::keep_alive::{Connection, request};
use sextant_tests::many_nodes::every_second;
use sextant_tests::process::{mib, peak_rss_bytes, rss_bytes};
use sextant_tests::role::Role;

use super::{SCALE, records};

const NODES: usize = 100;

/// Between two times that a node tells all of its pods.
const PODS_EVERY: u64 = 30;

/// What each node sends in a second.
fn of_second(second: u64) -> Result<Vec<Value>> {
    let at_ns = i64::try_from(second * 1_000_000_000)?;
    let mut batch = vec![records::scheduler(at_ns)];
    if second.is_multiple_of(PODS_EVERY) {
        batch.extend([records::pods(at_ns), records::usage(at_ns), records::runqueue(at_ns)]);
    }
    Ok(batch)
}

pub(super) fn run(dir: &Path) -> Result<()> {
    let receiver = Role::start("receiver", dir, &[])?;
    let empty = rss_bytes(receiver.pid())?;
    let (address, began) = (receiver.address(), Instant::now());
    let mut took =
        every_second(address, NODES, || began.elapsed() < SCALE.fleet, |_, second| of_second(second))?;
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
        mib(rss_bytes(receiver.pid())?),
        mib(peak_rss_bytes(receiver.pid())?),
        mib(empty),
        p99.as_secs_f64() * 1e3
    );
    ensure!(receiver.stop()? == Some(0), "the receiver failed");
    Ok(())
}
