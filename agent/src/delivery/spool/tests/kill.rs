//! `kill -9` of a process that appends: this test's executable starts itself, and is killed at a random point.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::disk::faulty::Random;

const CHILD: &str = "delivery::spool::tests::kill::child_appends_until_it_is_killed";
const DIRECTORY: &str = "SEXTANT_TEST_SPOOL";

/// Without its variable it does nothing; with it, it is the process that is killed.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how the parent tells the child where its spool is")]
async fn child_appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let spool =
        Spool::open(Path::new(&directory), &Config::default(), SpoolMetrics::default(), || NOW_NS).unwrap();
    let id = spool.read_page(0, ALL).await.unwrap().spool_id;
    for round in 0_u64.. {
        let text = format!("{round} of {}", std::process::id());
        let seqs = spool.append_many(vec![text.clone().into_bytes(); 3]).await.unwrap();
        let mut out = std::io::stdout().lock();
        for seq in seqs.clone() {
            writeln!(out, "acked {seq} {text}").unwrap();
        }
        out.flush().unwrap();
        drop(out);
        if round % 10 == 9 {
            spool.acknowledge(&id, seqs.start - 15, "r").await.unwrap();
            println!("deleted {}", seqs.start - 15);
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a process is what is killed here")]
fn fifty_kills_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = Random::new(1);
    let (mut acked, mut deleted) = (std::collections::BTreeMap::new(), 0);
    for kill in 0..50 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = 1 + random.below(150);
        for line in lines {
            // What was printed before the kill counts, so it is read to its end.
            let line = line.unwrap();
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next().and_then(|seq| seq.parse::<Seq>().ok()), words.next()) {
                (Some("acked"), Some(seq), Some(text)) => {
                    assert!(acked.insert(seq, text.to_owned()).is_none(), "{seq} was given twice");
                    left = left.saturating_sub(1);
                }
                (Some("deleted"), Some(up_to), _) => deleted = up_to,
                _ => {}
            }
            if left == 0 {
                child.kill().unwrap();
                left = usize::MAX;
            }
        }
        child.wait().unwrap();
        runtime.block_on(async {
            let spool = Spool::open(directory.path(), &Config::default(), SpoolMetrics::default(), || NOW_NS)
                .unwrap();
            let found = all(&spool).await;
            for (seq, text) in acked.iter().filter(|(seq, _)| **seq > deleted) {
                let held: Vec<_> = found.iter().filter(|(other, _)| other == seq).collect();
                // The last delete may have happened without its word.
                let gone = held.is_empty() && found.first().is_some_and(|(first, _)| first > seq);
                assert!(gone || held.len() == 1 && held[0].1 == text.as_bytes(), "kill {kill}: {seq}");
            }
            assert!(found.is_sorted_by(|one, other| one.0 < other.0));
            assert_adds_up(&spool.accounts());
            spool.close().await;
        });
    }
    assert!(acked.len() > 1_000, "only {} records came that far", acked.len());
}
