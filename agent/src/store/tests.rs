//! The store against repeated, reordered and interrupted batches, and disks that misbehave.

mod kill;

use std::collections::BTreeSet;

use super::*;
use crate::disk::faulty::{Disk, Random};

fn open(disk: &Disk) -> Store {
    Store::open_on(disk.connect(), &Config::default(), Metrics::default()).unwrap()
}

fn batch(node: &str, first_seq: u64, count: u64) -> NewBatch {
    let record = |seq| Incoming { kind: "k", keep: 1, bytes: format!("{node} {seq}").into_bytes() };
    NewBatch {
        node: node.to_owned(),
        spool_id: "s".to_owned(),
        first_seq: Some(first_seq),
        at_ns: 5,
        note: format!("note {first_seq}"),
        records: (first_seq..first_seq + count).map(record).collect(),
    }
}

async fn all(store: &Store) -> Vec<Record> {
    let (mut records, mut after) = (Vec::new(), 0);
    loop {
        let page = store.read(after, 100, usize::MAX).await.unwrap();
        let Some(last) = page.last() else { return records };
        after = last.id;
        records.extend(page);
    }
}

#[tokio::test]
async fn each_record_is_stored_once_whatever_comes() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Store::open(directory.path(), &Config::default(), Metrics::default()).unwrap();
    let store = open();
    let first = store.append_batch(batch("a", 1, 10)).await.unwrap();
    assert_eq!(first.ack, Ack { acked_seq: 10, stored: 10, duplicates: 0 });
    let again = store.append_batch(batch("a", 1, 10)).await.unwrap();
    assert_eq!(again.ack, Ack { acked_seq: 10, stored: 0, duplicates: 10 });
    let half = store.append_batch(batch("a", 6, 10)).await.unwrap();
    assert_eq!((half.ack, half.new), (Ack { acked_seq: 15, stored: 5, duplicates: 5 }, vec![11..=15]));
    let gap = store.append_batch(batch("a", 21, 2)).await.unwrap();
    assert_eq!(gap.stream.missing(), 5);
    store.close().await;
    assert!(matches!(store.append_batch(batch("a", 1, 1)).await, Err(Error::Closed)));

    let store = open();
    let late = store.append_batch(batch("a", 16, 5)).await.unwrap();
    assert_eq!((late.ack.stored, late.stream.missing()), (5, 0));
    let records = all(&store).await;
    let seqs: BTreeSet<_> = records.iter().map(|record| record.seq).collect();
    assert_eq!((records.len(), seqs), (22, (1..=22).collect()));
    assert!(records.iter().all(|record| record.bytes == format!("a {}", record.seq).as_bytes()));
    let streams = store.streams().await.unwrap();
    assert_eq!((streams.len(), streams[0].note.as_str(), streams[0].stream.stored), (1, "note 16", 22));
    assert_eq!(store.latest("a").await.unwrap(), [Latest { kind: "k".to_owned(), bytes: b"a 20".to_vec() }]);
    assert_eq!(store.latest("b").await.unwrap(), []);
}

#[tokio::test]
async fn numbers_without_a_spool_are_given_here() {
    let store = open(&Disk::default());
    for expected in [2, 4, 6] {
        let posted = NewBatch { first_seq: None, ..batch("p", 1, 2) };
        assert_eq!(store.append_batch(posted).await.unwrap().ack.acked_seq, expected);
    }
    assert_eq!(all(&store).await.len(), 6);
}

#[tokio::test]
async fn the_oldest_expire_and_are_counted() {
    let config = Config { max_size_bytes: MIN_SIZE_BYTES, ..Config::default() };
    let store = Store::open_on(Disk::default().connect(), &config, Metrics::default()).unwrap();
    for seq in 1..=100 {
        let record = Incoming { kind: "k", keep: 1, bytes: vec![0; 100_000] };
        store.append_batch(NewBatch { records: vec![record], ..batch("a", seq, 0) }).await.unwrap();
    }
    let totals = store.status().borrow().totals.clone();
    assert!(totals.size_bytes <= MIN_SIZE_BYTES);
    assert_eq!((totals.records + totals.expired, totals.records), (100, 41));
    assert_eq!(all(&store).await[0].seq, 60);
    // Expired is not forgotten: it would be stored twice.
    assert_eq!(store.append_batch(batch("a", 1, 5)).await.unwrap().ack.duplicates, 5);
}

#[tokio::test]
async fn latest_are_as_many_as_asked_and_bounded_in_bytes() {
    let config = Config { max_latest_bytes: 1_000, ..Config::default() };
    let store = Store::open_on(Disk::default().connect(), &config, Metrics::default()).unwrap();
    let append = |seq, keep, size| {
        let record = Incoming { kind: "k", keep, bytes: vec![u8::try_from(seq).unwrap(); size] };
        store.append_batch(NewBatch { records: vec![record], ..batch("a", seq, 0) })
    };
    for seq in 1..=10 {
        append(seq, 3, 100).await.unwrap();
    }
    let latest = store.latest("a").await.unwrap();
    assert_eq!(latest.iter().map(|latest| latest.bytes[0]).collect::<Vec<_>>(), [8, 9, 10]);
    append(11, 1, 2_000).await.unwrap();
    assert_eq!(store.latest("a").await.unwrap(), []);
    let totals = store.status().borrow().totals.clone();
    assert_eq!((totals.latest_bytes, totals.latest_left_out, totals.records), (0, 1, 11));
}

#[tokio::test]
async fn streams_of_a_node_are_bounded() {
    let store = open(&Disk::default());
    for index in 0..40_i64 {
        let spool_id = format!("s{index}");
        store.append_batch(NewBatch { spool_id, at_ns: index, ..batch("a", 1, 1) }).await.unwrap();
    }
    let streams = store.streams().await.unwrap();
    assert_eq!(streams.len(), MAX_STREAMS_PER_NODE);
    assert!(streams.iter().all(|row| row.last_at_ns >= 24));
    assert_eq!(store.status().borrow().totals.nodes, 1);
}

#[tokio::test]
async fn one_node_too_many_is_refused_alone() {
    let store = open(&Disk::default());
    let mut waiting = tokio::task::JoinSet::new();
    for index in 0..MAX_NODES + 5 {
        let store = store.clone();
        waiting.spawn(async move {
            loop {
                match store.append_batch(batch(&format!("n{index}"), 1, 1)).await {
                    Err(Error::Busy) => tokio::task::yield_now().await,
                    other => return other,
                }
            }
        });
    }
    let answers = waiting.join_all().await;
    let refused = answers.iter().filter(|answer| matches!(answer, Err(Error::TooManyNodes { .. }))).count();
    assert_eq!((refused, answers.iter().filter(|answer| answer.is_ok()).count() as u64), (5, MAX_NODES));
    assert!(store.metrics.commits.get() < MAX_NODES / 2, "batches do not share syncs");
}

/// Batches until the power goes, then opens what is left and sends everything unconfirmed again.
async fn power_loss(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let disk = Disk::default();
    let store = open(&disk);
    store.append_batch(batch("a", 1, 1)).await.unwrap();
    if lying {
        disk.lie_about_sync();
    }
    disk.die_after(random.below(300) as u64);
    let mut confirmed = 1;
    let sent = loop {
        let count = 1 + random.below(20) as u64;
        match store.append_batch(batch("a", confirmed + 1, count)).await {
            Ok(stored) => confirmed = stored.ack.acked_seq,
            Err(_) => break confirmed + count,
        }
    };
    drop(store);
    disk.crash(|end| random.below(end));

    let store = open(&disk);
    let count = |records: &[Record], seq| records.iter().filter(|record| record.seq == seq).count();
    let found = all(&store).await;
    if let Some(seq) = (1..=confirmed).find(|seq| count(&found, *seq) != 1) {
        return Err(format!("record {seq} is there {} times", count(&found, seq)));
    }
    store
        .append_batch(batch("a", confirmed + 1, sent - confirmed))
        .await
        .map_err(|error| error.to_string())?;
    let found = all(&store).await;
    let whole = (1..=sent).all(|seq| count(&found, seq) == 1) && found.len() as u64 == sent;
    if whole { Ok(()) } else { Err("lost or doubled after sending again".to_owned()) }
}

#[tokio::test]
async fn no_confirmed_record_is_lost_or_doubled_when_the_power_goes() {
    for seed in 0..60 {
        power_loss(seed, false).await.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

/// The control: with a disk that does not sync the same test finds losses.
#[tokio::test]
async fn a_lying_disk_loses_records() {
    let mut losses = 0;
    for seed in 0..20 {
        losses += usize::from(power_loss(seed, true).await.is_err());
    }
    assert!(losses > 10, "{losses} of 20 runs lost something");
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let disk = Disk::default();
    let store = open(&disk);
    store.append_batch(batch("a", 1, 1)).await.unwrap();
    disk.set_capacity(Some(disk.len()));
    let big = |seq| NewBatch {
        records: vec![Incoming { kind: "k", keep: 0, bytes: vec![0; 1 << 20] }],
        ..batch("a", seq, 0)
    };
    let mut seq = 2;
    while store.append_batch(big(seq)).await.is_ok() {
        seq += 1;
        assert!(seq < 100, "the disk never fills");
    }
    assert!(store.status().borrow().degraded.is_some());
    disk.set_capacity(None);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(store.append_batch(big(seq)).await.unwrap().ack.stored, 1);
    assert_eq!(store.status().borrow().degraded, None);
    assert_eq!(all(&store).await.len() as u64, seq);
    assert_eq!(disk.set_asides(), 0);
}
