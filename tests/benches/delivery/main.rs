//! `cargo xtask bench delivery`: from a node to its receiver, both as processes with the settings that they ship with.
//!
//! - how soon a record that a node acknowledged is seen at the receiver, at rest and beside 1,000 others a second;
//! - what a receiver needs for a hundred nodes of thirty pods each, which send every second ([`fleet`]);
//! - how a node starts on a backlog of 2 GB, after an orderly end and after SIGKILL, and how it is drained ([`backlog`]);
//! - what one batch in flight costs when the receiver is 50 ms away ([`backlog`]).
//!
//! Goals are those of two cores that both processes and the clients share. `-- --quick` only shows that everything runs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts processes, reads the clock and prints"
)]

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sextant_tests::keep_alive::{Connection, request};
use sextant_tests::role::Role;

mod backlog;
mod fleet;
mod records;

/// How much of each thing is done.
struct Scale {
    posts: usize,
    fleet: Duration,
    backlog_bytes: usize,
    far_records: usize,
}

static SCALE: LazyLock<Scale> = LazyLock::new(|| {
    if std::env::args().any(|arg| arg == "--quick") {
        Scale { posts: 20, fleet: Duration::from_secs(3), backlog_bytes: 20_000_000, far_records: 3_000 }
    } else {
        Scale {
            posts: 1_000,
            fleet: Duration::from_secs(45),
            backlog_bytes: 2_000_000_000,
            far_records: 100_000,
        }
    }
});

fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    latency(&dir.path().join("latency"))?;
    fleet::run(&dir.path().join("fleet"))?;
    backlog::long(&dir.path().join("backlog"))?;
    backlog::far(&dir.path().join("far"))
}

/// A node that forwards to `receiver`.
fn node(dir: &Path, receiver: &str, config: &str) -> Result<Role> {
    std::fs::create_dir_all(dir)?;
    let (file, socket) = (dir.join("node.toml"), dir.join("node.sock"));
    std::fs::write(&file, config)?;
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of plain letters");
    let (file, socket) = (text(&file)?, text(&socket)?);
    Role::start("node", dir, &["--config", &file, "--unix-socket", &socket, "--receiver", receiver])
}

/// From before a record is sent to the node to when the receiver shows it, which is asked all the time.
fn latency(dir: &Path) -> Result<()> {
    let receiver = Role::start("receiver", &dir.join("receiver"), &[])?;
    let node = node(&dir.join("node"), &receiver.url, "")?;
    println!("from a node's client to the receiver (goal: p99 1000 ms):");
    let cases = [
        ("at rest, 40 posts/s", 1, Duration::from_millis(25)),
        ("1,000 records/s", 10, Duration::from_millis(10)),
    ];
    for (name, records, pause) in cases {
        let mut took = seen_after(node.address(), receiver.address(), records, pause)?;
        took.sort_unstable();
        let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
        println!("  {name:<24} p50 {:6.2} ms, p99 {:6.2} ms, longest {:6.2} ms", at(500), at(990), at(1000));
    }
    ensure!(node.stop()? == Some(0) && receiver.stop()? == Some(0), "a role failed");
    Ok(())
}

/// Posts so many records at a time under a number that grows, and sees when the receiver's last one is as large.
fn seen_after(node: &str, receiver: &str, records: usize, pause: Duration) -> Result<Vec<Duration>> {
    // Numbers of another case, and none, are smaller.
    let base = records as u64 * 1_000_000;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let sent = scope.spawn(|| -> Result<Vec<Instant>> {
            let mut connection = Connection::open(node)?;
            let mut sent = Vec::with_capacity(SCALE.posts);
            for n in 0..SCALE.posts as u64 {
                let record = format!("{{\"nr_queued\":{}}}", base + n);
                let body = format!("{{\"metrics\":[{}]}}", vec![record; records].join(","));
                sent.push(Instant::now());
                connection.ask(&request("POST", "/api/v1/metrics", "", body.as_bytes()))?;
                thread::sleep(pause);
            }
            thread::sleep(Duration::from_secs(1));
            ended.store(true, Ordering::Relaxed);
            Ok(sent)
        });
        let mut connection = Connection::open(receiver)?;
        let ask = request("GET", "/api/v1/metrics", "", b"");
        let mut seen = Vec::with_capacity(SCALE.posts);
        while seen.len() < SCALE.posts && !ended.load(Ordering::Relaxed) {
            let answer: serde_json::Value = serde_json::from_str(connection.ask(&ask)?)?;
            let now = Instant::now();
            let last = answer["data"]["nr_queued"].as_u64().and_then(|number| number.checked_sub(base));
            if let Some(last) = last {
                seen.resize(usize::try_from(last)? + 1, now);
            }
            thread::sleep(Duration::from_micros(500));
        }
        let sent = sent.join().ok().context("the client panicked")??;
        ensure!(seen.len() == sent.len(), "{} of {} were seen", seen.len(), sent.len());
        Ok(seen.into_iter().zip(sent).map(|(seen, sent)| seen - sent).collect())
    })
}
