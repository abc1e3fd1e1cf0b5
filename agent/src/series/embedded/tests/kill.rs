//! `kill -9` of a process that appends: this test's executable starts itself, and is killed at a random point.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::disk::faulty::Random;

const CHILD: &str = "series::embedded::tests::kill::child_appends_until_it_is_killed";
const DIRECTORY: &str = "SEXTANT_TEST_SERIES";

/// Without its variable it does nothing; with it, it is the process that is killed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the parent tells the child where its files are")]
async fn child_appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let engine = open(Path::new(&directory)).await;
    let all = engine.read(&question(Selection::metric("odd"), ALWAYS)).await.unwrap();
    let mut next = all.first().map_or(0, |series| series.samples.len() as i64);
    loop {
        let samples =
            (next..next + 30).map(|n| Sample { at_ms: NOW_MS - 3_600_000 + n, value: n as f64 }).collect();
        engine.append_of("s", vec![SeriesSamples { labels: labels(1), samples }]).await.unwrap();
        next += 30;
        let mut out = std::io::stdout().lock();
        writeln!(out, "stored {next}").unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a process is what is killed here")]
async fn thirty_kills_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(1);
    let mut stored = 0;
    for kill in 0..30 {
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
            if let Some(count) = line.unwrap().strip_prefix("stored ").and_then(|count| count.parse().ok()) {
                stored = stored.max(count);
                left = left.saturating_sub(1);
            }
            if left == 0 {
                child.kill().unwrap();
                left = usize::MAX;
            }
        }
        child.wait().unwrap();
        let engine = open(directory.path()).await;
        let all = engine.read(&question(Selection::metric("odd"), ALWAYS)).await.unwrap();
        let samples = all.first().map_or(&[][..], |series| &series.samples);
        assert!(samples.len() >= stored, "kill {kill}: {} of {stored}", samples.len());
        assert!(samples.iter().enumerate().all(|(n, sample)| sample.value == n as f64), "kill {kill}");
        engine.close().await;
    }
    assert!(stored > 1_000, "only {stored} samples came that far");
}
