//! `kill -9` of a process that produces and acknowledges: this test's executable starts itself, and is killed at a
//! random point.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::disk::faulty::Random;

const CHILD: &str = "queue::embedded::tests::kill::child_works_until_it_is_killed";
const DIRECTORY: &str = "SEXTANT_TEST_QUEUE";

fn open_in(directory: &Path) -> Queue {
    let config = Config { queue_size: 1_000_000, retention_records: 1_000_000, ..Config::default() };
    Queue::open(directory, &config, Metrics::default(), clock).unwrap()
}

/// Without its variable it does nothing; with it, it is the process that is killed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the parent tells the child where its queue is")]
async fn child_works_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let queue = open_in(Path::new(&directory));
    let say = |word: &str, ids: &[MessageId]| {
        let mut out = std::io::stdout().lock();
        for id in ids {
            writeln!(out, "{word} {id}").unwrap();
        }
        out.flush().unwrap();
    };
    loop {
        let produced = queue.produce(batch(0, &["a", "b", "c"])).await.unwrap();
        say("kept", &produced.ids);
        let got = take(&queue, "g", 4).await;
        let some: Vec<_> = ids(&got).into_iter().step_by(2).collect();
        if !some.is_empty() {
            queue.settle(settle("g", Verdict::Ack, some.clone())).await.unwrap();
            say("acked", &some);
        }
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a process is what is killed here")]
async fn thirty_kills_lose_nothing_and_bring_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = Random::new(1);
    let (mut kept, mut acked) = (BTreeSet::new(), BTreeSet::new());
    for kill in 0..30 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut left = 1 + random.below(100);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // What was printed before the kill counts, so it is read to its end.
            let line = line.unwrap();
            match line.split_once(' ').and_then(|(word, id)| Some((word, id.parse::<MessageId>().ok()?))) {
                Some(("kept", id)) => {
                    assert!(kept.insert(id), "{id} was given twice");
                    left = left.saturating_sub(1);
                }
                Some(("acked", id)) => _ = acked.insert(id),
                _ => {}
            }
            if left == 0 {
                child.kill().unwrap();
                left = usize::MAX;
            }
        }
        child.wait().unwrap();
        let queue = open_in(directory.path());
        let all = everything(&queue, &format!("check-{kill}")).await;
        let missing: Vec<_> = kept.difference(&all).collect();
        assert!(missing.is_empty(), "kill {kill}: {missing:?} are gone");
        queue.forget_group("t", &format!("check-{kill}")).await.unwrap();
        queue.close().await;
    }
    // What the group acknowledged never comes again; everything else is still its.
    let queue = open_in(directory.path());
    CLOCK.set(NOW_NS + 60_000_000_000);
    queue.close().await;
    let queue = open_in(directory.path());
    queue.tick().await.unwrap();
    let left = everything(&queue, "g").await;
    assert!(left.is_disjoint(&acked), "acknowledged records came again");
    // The last acks before a kill may have no word.
    let silent = kept.iter().filter(|id| !left.contains(id) && !acked.contains(id)).count();
    assert!(silent <= 30 * 2, "{silent} records are neither there nor acknowledged");
    assert!(kept.len() > 600 && acked.len() > 200, "only {} and {}", kept.len(), acked.len());
}

/// All that a group has to see, in flight to it for ever after.
async fn everything(queue: &Queue, group: &str) -> BTreeSet<MessageId> {
    let mut all = BTreeSet::new();
    loop {
        let got = take(queue, group, 1_000).await;
        if got.is_empty() {
            return all;
        }
        queue.settle(settle(group, Verdict::Ack, ids(&got))).await.unwrap();
        all.extend(ids(&got));
    }
}
