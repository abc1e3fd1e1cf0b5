//! A node with several receivers: what each of them says of it adds up, whatever got lost on the way.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::api::nodes::Node;

/// What happens to one batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Stored and answered.
    Answered,
    /// Stored; the answer is lost.
    Unheard,
    /// It arrives nowhere.
    Lost,
    /// It arrives nowhere now, and behind the next one.
    Late,
    /// The node drops its first record instead, which no receiver has seen yet.
    Refused,
}

/// A node's spool, as far as numbers go.
#[derive(Default)]
struct Spool {
    produced: u64,
    waiting: BTreeSet<u64>,
    sent: BTreeSet<u64>,
    dropped: u64,
    confirmed: BTreeMap<usize, u64>,
}

impl Spool {
    fn produce(&mut self, count: u64) {
        self.waiting.extend(self.produced + 1..=self.produced + count);
        self.produced += count;
    }

    /// The oldest without a gap, for one of the receivers.
    fn batch(&self, most: usize, to: usize) -> Option<(Value, Vec<u64>)> {
        let first = *self.waiting.first()?;
        let seqs: Vec<_> = (first..)
            .zip(&self.waiting)
            .take_while(|(seq, one)| seq == *one)
            .take(most)
            .map(|(seq, _)| seq)
            .collect();
        let records: Vec<_> = seqs.iter().map(|seq| posted(0, *seq)).collect();
        let mut batch = batch(first, &records);
        batch["accounts"] = json!({
            "produced": self.produced, "acknowledged": self.confirmed.values().sum::<u64>(),
            "acknowledged_here": self.confirmed.get(&to).copied().unwrap_or(0), "spooled": self.waiting.len(),
            "spooled_bytes": 1, "dropped": {"refused": self.dropped}, "oldest_at_ns": NOW_NS,
        });
        Some((batch, seqs))
    }

    fn confirm(&mut self, seqs: &[u64], by: usize) {
        seqs.iter().for_each(|seq| _ = self.waiting.remove(seq));
        *self.confirmed.entry(by).or_default() += seqs.len() as u64;
    }
}

async fn take(ingest: &Ingest, batch: &Value) -> Node {
    send(ingest, batch).await.unwrap();
    ingest.fleet().nodes(NOW_NS).nodes.remove(0)
}

fn sum(node: &Node) -> u64 {
    node.stored + node.elsewhere + node.spooled + node.dropped.values().sum::<u64>()
}

/// Plays fates with three receivers.
async fn play(fates: &[(Fate, usize, u64, usize)]) -> Result<(), TestCaseError> {
    let disks = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let mut receivers = Vec::new();
    for disk in &disks {
        receivers.push(receiver(disk).await.0);
    }
    let (mut spool, mut late) = (Spool::default(), Vec::new());
    for &(fate, to, produced, most) in fates {
        spool.produce(produced);
        let Some((batch, seqs)) = spool.batch(most, to) else { continue };
        match fate {
            Fate::Refused if spool.sent.contains(&seqs[0]) => continue,
            Fate::Refused => {
                spool.waiting.remove(&seqs[0]);
                spool.dropped += 1;
                continue;
            }
            Fate::Lost => {}
            Fate::Late => late.push((to, batch)),
            Fate::Answered | Fate::Unheard => {
                let node = take(&receivers[to], &batch).await;
                prop_assert!(node.adds_up, "{node:?}");
                prop_assert_eq!(node.produced, sum(&node));
                if matches!(fate, Fate::Answered) {
                    spool.confirm(&seqs, to);
                }
            }
        }
        spool.sent.extend(seqs);
        if late.len() > 2 {
            let (to, batch) = late.remove(0);
            let node = take(&receivers[to], &batch).await;
            prop_assert!(node.adds_up, "late: {node:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_receivers_sums_hold_after_every_batch(
        fates in prop::collection::vec(
            (
                prop_oneof![
                    4 => Just(Fate::Answered), 2 => Just(Fate::Unheard), 1 => Just(Fate::Lost), 1 => Just(Fate::Late),
                    1 => Just(Fate::Refused)
                ],
                0..3_usize, 0..6_u64, 1..8_usize,
            ),
            1..40,
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(&fates))?;
    }
}

#[tokio::test]
async fn what_went_elsewhere_is_told_and_what_was_lost_here_is_no_excuse() {
    let (disk, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (home, _) = receiver(&disk).await;
    let mut spool = Spool::default();
    spool.produce(30);
    let next = |spool: &Spool, to| spool.batch(10, to).unwrap();
    let (first, seqs) = next(&spool, 0);
    take(&home, &first).await;
    spool.confirm(&seqs, 0);
    // Another receiver takes the second ten.
    let (_, seqs) = next(&spool, 1);
    spool.confirm(&seqs, 1);
    let (third, _) = next(&spool, 0);
    let node = take(&home, &third).await;
    assert_eq!((node.stored, node.elsewhere, node.spooled, node.adds_up), (20, 10, 0, true));
    assert_eq!(node.missing, 10);
    // The control: a receiver whose store was lost has acknowledged what it does not hold.
    let (fresh, _) = receiver(&other).await;
    let node = take(&fresh, &third).await;
    assert_eq!((node.stored, node.elsewhere, node.adds_up), (10, 10, false), "ten are nowhere");
    // And a node that does not say who acknowledged what has one receiver.
    let mut silent = third.clone();
    silent["accounts"].as_object_mut().unwrap().remove("acknowledged_here");
    let node = take(&home, &silent).await;
    assert_eq!((node.elsewhere, node.adds_up), (0, false));
}
