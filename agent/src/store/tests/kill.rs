//! `kill -9` of a process that stores: this test's executable starts itself, and is killed at a random point.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const CHILD: &str = "store::tests::kill::child_stores_until_it_is_killed";
const DIRECTORY: &str = "SEXTANT_TEST_STORE";

/// Without its variable it does nothing; with it, it is the process that is killed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the parent tells the child where its store is")]
async fn child_stores_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let store = Store::open(Path::new(&directory), &Config::default(), Metrics::default()).unwrap();
    let stream = store.streams().await.unwrap().pop();
    let mut next = stream.map_or(1, |row| row.stream.next_seq);
    loop {
        // Every batch comes twice and overlaps the last, as after a lost answer.
        let first = next.saturating_sub(3).max(1);
        for _ in 0..2 {
            let stored = store.append_batch(batch("a", first, 8)).await.unwrap();
            next = stored.ack.acked_seq + 1;
            let mut out = std::io::stdout().lock();
            writeln!(out, "acked {}", stored.ack.acked_seq).unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process is what is killed here")]
fn fifty_kills_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = Random::new(1);
    let mut acked = 0;
    for kill in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut left = 1 + random.below(40);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // What was printed before the kill counts, so it is read to its end.
            let line = line.unwrap();
            if let Some(seq) = line.strip_prefix("acked ").and_then(|seq| seq.parse().ok()) {
                acked = acked.max(seq);
                left = left.saturating_sub(1);
            }
            if left == 0 {
                child.kill().unwrap();
                left = usize::MAX;
            }
        }
        child.wait().unwrap();
        runtime.block_on(async {
            let store = Store::open(directory.path(), &Config::default(), Metrics::default()).unwrap();
            let records = all(&store).await;
            assert!(records.len() as u64 >= acked, "kill {kill}: {} of {acked}", records.len());
            // One stream in order: each number once and none left out.
            assert!(records.iter().map(|record| record.seq).eq(1..=records.len() as u64), "kill {kill}");
            assert!(records.iter().all(|record| record.bytes == format!("a {}", record.seq).as_bytes()));
            store.close().await;
        });
    }
    assert!(acked > 1_000, "only {acked} records came that far");
}
