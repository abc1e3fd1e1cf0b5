//! The spool against a plain list, and against disks that misbehave.

mod faults;
mod io_errors;
mod kill;
mod model;

use std::time::Duration;

use super::*;
use crate::disk::faulty::Disk;

const ALL: PageLimits = PageLimits { until: None, max_records: usize::MAX, max_bytes: usize::MAX };
const NOW_NS: i64 = 1_750_000_000_000_000_000;

fn open(disk: &Disk, max_size_bytes: u64) -> Spool {
    let config = Config { max_size_bytes, ..Config::default() };
    Spool::open_on(disk.connect(), &config, SpoolMetrics::default(), || NOW_NS).unwrap()
}

/// `produced = acknowledged + spooled + dropped`.
fn assert_adds_up(accounts: &Accounts) {
    let dropped = accounts.dropped.values().sum::<u64>();
    assert_eq!(accounts.produced, accounts.acknowledged + accounts.spooled + dropped, "{accounts:?}");
}

/// All spooled records with their numbers.
async fn all(spool: &Spool) -> Vec<(Seq, Vec<u8>)> {
    let (mut records, mut after) = (Vec::new(), 0);
    loop {
        let page = spool.read_page(after, ALL).await.unwrap();
        if page.records.is_empty() {
            return records;
        }
        records.extend((page.first_seq..).zip(page.records));
        after = records.last().unwrap().0;
    }
}

#[tokio::test]
async fn a_record_goes_in_and_out() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Spool::open(directory.path(), &Config::default(), SpoolMetrics::default(), || NOW_NS);
    let spool = open().unwrap();
    assert_eq!(spool.append(b"1".to_vec()).await.unwrap(), 1);
    assert_eq!(spool.append_many(vec![b"2".to_vec(), b"3".to_vec()]).await.unwrap(), 2..4);
    spool.try_append(b"4".to_vec());
    let page = spool.read_page(1, PageLimits { max_records: 2, ..ALL }).await.unwrap();
    assert_eq!((page.first_seq, page.records), (2, vec![b"2".to_vec(), b"3".to_vec()]));
    spool.acknowledge(&page.spool_id, 3, "r").await.unwrap();
    spool.acknowledge("another file", 4, "r").await.unwrap();
    spool.close().await;
    assert!(matches!(spool.append(b"5".to_vec()).await, Err(Error::Closed)));

    let again = open().unwrap();
    assert_eq!(all(&again).await, [(4, b"4".to_vec())]);
    assert_eq!(again.read_page(0, ALL).await.unwrap().spool_id, page.spool_id);
    let accounts = again.accounts();
    assert_eq!((accounts.produced, accounts.acknowledged, accounts.spooled), (4, 3, 1));
    assert_eq!(accounts.oldest_at_ns, Some(NOW_NS));
    assert_adds_up(&accounts);
    assert_adds_up(&spool.accounts());
}

#[tokio::test]
async fn a_second_process_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Spool::open(directory.path(), &Config::default(), SpoolMetrics::default(), || NOW_NS);
    let _first = open().unwrap();
    let error = open().unwrap_err();
    assert!(matches!(error, Error::Open(disk::Error::Locked { .. })), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn too_large_and_too_many_are_refused_and_counted() {
    let spool = open(&Disk::default(), MIN_SIZE_BYTES);
    assert!(matches!(spool.append(vec![0; (1 << 18) + 1]).await, Err(Error::TooLarge { .. })));
    // Nobody awaits in between, so the queue fills before the thread gets far.
    let count = 200_u64;
    for _ in 0..count {
        spool.try_append(vec![0; 1 << 18]);
    }
    // Waits for the queue, as a source's next sample would.
    spool.read_page(0, ALL).await.unwrap();
    spool.append(vec![1]).await.unwrap();
    let accounts = spool.accounts();
    assert_adds_up(&accounts);
    assert_eq!(accounts.produced, count + 2);
    assert_eq!(accounts.dropped["too_large"], 1);
    assert!(accounts.dropped["backpressure"] > 0, "{accounts:?}");
    assert!(accounts.spooled_bytes <= MIN_SIZE_BYTES);
}

#[tokio::test]
async fn callers_share_a_sync() {
    let spool = open(&Disk::default(), MIN_SIZE_BYTES);
    let before = spool.metrics.commits.get();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let spool = spool.clone();
        waiting.spawn(async move { spool.append(b"{}".to_vec()).await.unwrap() });
    }
    let mut seqs = waiting.join_all().await;
    seqs.sort_unstable();
    assert!(seqs.into_iter().eq(1..=1_000));
    let commits = spool.metrics.commits.get() - before;
    assert!(commits < 500, "{commits} commits for 1000 callers");
}

#[test]
fn settings_that_cannot_be_are_named() {
    for config in [
        Config { max_size_bytes: 1, ..Config::default() },
        Config { cache_bytes: 1 << 30, ..Config::default() },
    ] {
        let opened = Spool::open_on(Disk::default().connect(), &config, SpoolMetrics::default(), || NOW_NS);
        assert!(matches!(opened, Err(Error::Config(_))));
    }
}

#[test]
fn accounts_notice_what_does_not_add_up() {
    let ledger = Ledger { next_seq: 10, acknowledged: 5, spooled: 4, ..Ledger::default() };
    assert!(ledger.adds_up());
    assert!(!Ledger { spooled: 3, ..ledger.clone() }.adds_up());
    assert!(!Ledger { next_seq: 0, ..ledger }.adds_up());
}
