//! EIO from the disk: refused and counted, nothing that was accepted is lost, and it goes on when the disk does.

use super::*;
use crate::disk::faulty::{Broken, Random};

/// Longer than the spool leaves a disk alone that failed.
const PAUSE: Duration = Duration::from_millis(1_100);

/// A spool that reads what it is asked for from the disk.
fn uncached(disk: &Disk) -> Spool {
    let config = Config { max_size_bytes: 64 << 20, cache_bytes: 0 };
    Spool::open_on(disk.connect(), &config, SpoolMetrics::default(), || NOW_NS).unwrap()
}

#[tokio::test]
async fn a_disk_that_fails_is_said_counted_and_left_behind() {
    for broken in [Broken::Reads, Broken::Writes, Broken::Syncs, Broken::All] {
        let disk = Disk::default();
        let spool = uncached(&disk);
        let records: Vec<_> = (0..30_u8).map(|fill| vec![fill; 5_000]).collect();
        spool.append_many(records.clone()).await.unwrap();
        disk.break_io(Some(broken));
        let refused = spool.append(b"no".to_vec()).await;
        assert!(matches!(refused, Err(Error::Disk(_))), "{broken:?}: {refused:?}");
        if matches!(broken, Broken::Reads | Broken::All) {
            let read = spool.read_page(0, ALL).await;
            assert!(matches!(read, Err(Error::Disk(_))), "{broken:?}: {read:?}");
        }
        assert!(spool.status().borrow().degraded.is_some(), "{broken:?}");
        assert!(matches!(spool.append(b"no".to_vec()).await, Err(Error::Disk(_))));
        assert_adds_up(&spool.accounts());
        assert_eq!(spool.accounts().dropped["disk_error"], 2);
        assert!(disk.io_errors() > 0, "{broken:?}");

        disk.break_io(None);
        tokio::time::sleep(PAUSE).await;
        spool.append(b"yes".to_vec()).await.unwrap();
        assert_eq!(spool.status().borrow().degraded, None);
        let found = all(&spool).await;
        assert!(found.iter().take(30).map(|(_, record)| record).eq(&records), "{broken:?}");
        assert_eq!(found.last().unwrap().1, b"yes", "{broken:?}");
        assert_adds_up(&spool.accounts());
        assert_eq!(disk.set_asides(), 0, "{broken:?}: nothing is damaged");
    }
}

/// One operation of a few fails while records come and go; then the power goes too.
async fn flaky(seed: u64) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let disk = Disk::default();
    let mut spool = open(&disk, 64 << 20);
    let id = spool.read_page(0, ALL).await.unwrap().spool_id;
    let (mut accepted, mut confirmed) = (Vec::new(), 0);
    for _ in 0..8 {
        disk.break_io(Some(Broken::OneIn(20 + random.below(60) as u64)));
        for _ in 0..12 {
            let record = vec![u8::try_from(random.below(256)).unwrap(); random.below(9_000)];
            if let Ok(seq) = spool.append(record.clone()).await {
                accepted.push((seq, record));
            }
        }
        if let Some((seq, _)) = accepted.get(random.below(accepted.len().max(1))) {
            // Refused, it may be done all the same: nobody was told.
            let _told = spool.acknowledge(&id, *seq, "r").await;
            confirmed = confirmed.max(*seq);
        }
        disk.break_io(None);
        if random.below(3) == 0 {
            // Ended and begun again meanwhile, at once after a failure.
            spool.close().await;
            spool = open(&disk, 64 << 20);
        }
        tokio::time::sleep(PAUSE).await;
    }
    spool.append(b"last".to_vec()).await.map_err(|error| error.to_string())?;
    assert_adds_up(&spool.accounts());
    drop(spool);
    disk.crash(|end| random.below(end));
    let spool = open(&disk, 64 << 20);
    let found = all(&spool).await;
    assert_adds_up(&spool.accounts());
    if disk.set_asides() > 0 {
        return Err("set aside".to_owned());
    }
    for (seq, record) in accepted.iter().filter(|(seq, _)| *seq > confirmed) {
        let held: Vec<_> = found.iter().filter(|(other, _)| other == seq).collect();
        if held.len() != 1 || held[0].1 != *record {
            return Err(format!("record {seq} is there {} times", held.len()));
        }
    }
    Ok(disk.io_errors())
}

#[tokio::test]
async fn no_accepted_record_is_lost_to_io_errors() {
    let mut runs = tokio::task::JoinSet::new();
    for seed in 0..12 {
        runs.spawn(async move { (seed, flaky(seed).await) });
    }
    let mut errors = 0;
    for (seed, run) in runs.join_all().await {
        errors += run.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    assert!(errors > 50, "only {errors} operations failed");
}
