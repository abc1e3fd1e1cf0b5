//! Power loss, torn and reordered writes, a lying disk, a full disk, a damaged file.

use super::*;
use crate::disk::faulty::Random;

/// Appends and confirms until the power goes at a random write, then opens what is left. Returns what is wrong.
async fn power_loss(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let disk = Disk::default();
    let spool = open(&disk, MIN_SIZE_BYTES);
    let id = spool.read_page(0, ALL).await.unwrap().spool_id;
    if lying {
        disk.lie_about_sync();
    }
    disk.die_after(random.below(400) as u64);
    let (mut acked, mut deleted) = (Vec::new(), 0);
    for round in 0_u64.. {
        let record = vec![u8::try_from(round % 251).unwrap(); random.below(20_000)];
        let Ok(seq) = spool.append(record.clone()).await else { break };
        acked.push((seq, record));
        if round % 7 == 6 {
            let up_to = acked[random.below(acked.len())].0;
            match spool.acknowledge(&id, up_to, "r").await {
                // From here on these may be there or not: nobody was told.
                Err(_) => {
                    deleted = deleted.max(up_to);
                    break;
                }
                Ok(()) => deleted = deleted.max(up_to),
            }
        }
    }
    drop(spool);
    disk.crash(|end| random.below(end));

    let spool = open(&disk, MIN_SIZE_BYTES);
    let now = spool.read_page(0, ALL).await.map_err(|error| error.to_string())?;
    if now.spool_id != id {
        return Err(format!("{} set aside", disk.set_asides()));
    }
    let found = all(&spool).await;
    assert_adds_up(&spool.accounts());
    if !found.is_sorted_by(|one, other| one.0 < other.0) {
        return Err("doubled".to_owned());
    }
    for (seq, record) in acked.iter().filter(|(seq, _)| *seq > deleted) {
        let held =
            found.iter().filter(|(other, _)| other == seq).map(|(_, record)| record).collect::<Vec<_>>();
        if held != [record] {
            return Err(format!("record {seq} is there {} times", held.len()));
        }
    }
    // It goes on, and a number that was given is not given again.
    let next = spool.append(b"after".to_vec()).await.map_err(|error| error.to_string())?;
    let last = acked.last().map_or(0, |(seq, _)| *seq);
    if next > last { Ok(()) } else { Err(format!("{next} after {last}")) }
}

#[tokio::test]
async fn no_accepted_record_is_lost_when_the_power_goes() {
    for seed in 0..60 {
        power_loss(seed, false).await.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

/// The control: with a disk that does not sync the same test finds losses.
#[tokio::test]
async fn a_lying_disk_loses_records() {
    let mut losses = 0;
    for seed in 0..40 {
        losses += usize::from(power_loss(seed, true).await.is_err());
    }
    assert!(losses > 20, "{losses} of 40 runs lost something");
}

#[tokio::test]
async fn a_full_disk_is_said_counted_and_left_behind() {
    let disk = Disk::default();
    let spool = open(&disk, 64 << 20);
    spool.append(vec![1; 1_000]).await.unwrap();
    disk.set_capacity(Some(disk.len()));
    let (mut kept, mut refused) = (1, 0);
    while refused == 0 {
        match spool.append(vec![2; 100_000]).await {
            Ok(_) => kept += 1,
            Err(Error::Disk(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(kept < 1_000, "the disk never fills");
    }
    let degraded = spool.status().borrow().degraded.clone().unwrap();
    assert!(!degraded.is_empty());
    assert!(matches!(spool.append(b"no".to_vec()).await, Err(Error::Disk(_))));
    assert_adds_up(&spool.accounts());
    assert_eq!(spool.accounts().dropped["disk_error"], 2);
    // What is there can still be read.
    assert_eq!(all(&spool).await.len(), kept);

    disk.set_capacity(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    spool.append(b"yes".to_vec()).await.unwrap();
    assert_eq!(spool.status().borrow().degraded, None);
    let found = all(&spool).await;
    assert_eq!((found.len(), &found[kept].1), (kept + 1, &b"yes".to_vec()));
    let accounts = spool.accounts();
    assert_adds_up(&accounts);
    assert_eq!(accounts.produced, kept as u64 + 3);
    assert_eq!(disk.set_asides(), 0);
}

#[tokio::test]
async fn a_disk_full_from_the_start_is_waited_for() {
    let disk = Disk::default();
    disk.set_capacity(Some(0));
    let spool = open(&disk, MIN_SIZE_BYTES);
    assert!(matches!(spool.append(b"no".to_vec()).await, Err(Error::Disk(_))));
    assert!(spool.status().borrow().degraded.is_some());
    disk.set_capacity(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(spool.append(b"yes".to_vec()).await.unwrap(), 2);
    assert_adds_up(&spool.accounts());
}

#[tokio::test]
async fn any_flipped_bit_is_noticed_or_harmless() {
    let mut replaced = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        let spool = open(&disk, MIN_SIZE_BYTES);
        let records: Vec<_> = (0..40_u8).map(|fill| vec![fill; 3_000]).collect();
        spool.append_many(records.clone()).await.unwrap();
        let id = spool.read_page(0, ALL).await.unwrap().spool_id;
        spool.close().await;
        disk.flip(random.below(disk.len()), u8::try_from(seed % 8).unwrap());

        let spool = open(&disk, MIN_SIZE_BYTES);
        let page = spool.read_page(0, ALL).await.unwrap();
        if page.spool_id == id {
            assert_eq!(page.records, records, "seed {seed}");
        } else {
            replaced += 1;
            assert!(page.records.is_empty());
            assert!(spool.status().borrow().damage.is_some());
            assert_eq!(spool.metrics.damaged_files.get(), 1);
        }
        spool.append(b"on".to_vec()).await.unwrap();
    }
    assert!(replaced > 0, "no flip hit anything");
}

/// As above while the spool is open: nothing verifies pages then, only each record's own checksum.
#[tokio::test]
async fn damage_under_a_running_spool_is_counted() {
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        // No cache, so that reads see the damage.
        let config = Config { max_size_bytes: MIN_SIZE_BYTES, cache_bytes: 0 };
        let spool = Spool::open_on(disk.connect(), &config, SpoolMetrics::default(), || NOW_NS).unwrap();
        let records: Vec<_> = (0..40_u8).map(|fill| vec![fill; 3_000]).collect();
        spool.append_many(records.clone()).await.unwrap();
        for _ in 0..20 {
            disk.flip(random.below(disk.len()), u8::try_from(seed % 8).unwrap());
        }
        let mut found = Vec::new();
        for _ in 0..100 {
            match spool.read_page(found.last().map_or(0, |(seq, _)| *seq), ALL).await {
                Ok(page) if page.records.is_empty() => break,
                Ok(page) => found.extend((page.first_seq..).zip(page.records)),
                Err(_) => found.clear(),
            }
        }
        for (seq, record) in &found {
            assert_eq!(record, &records[usize::try_from(seq - 1).unwrap()], "seed {seed}");
        }
        assert_adds_up(&spool.accounts());
    }
}

#[tokio::test]
async fn a_file_that_is_no_spool_is_set_aside() {
    for content in
        [b"rubbish".to_vec(), vec![0; 100], vec![0xff; 1 << 20], b"redb\x1a\x0a\xa9\x0d\x0a".to_vec()]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        for _ in 0..2 {
            std::fs::write(&path, &content).unwrap();
            let spool = Spool::open(directory.path(), &Config::default(), SpoolMetrics::default(), || NOW_NS)
                .unwrap();
            assert!(spool.status().borrow().damage.as_ref().unwrap().contains("spool.damaged"));
            assert_eq!(spool.append(b"on".to_vec()).await.unwrap(), 1);
            spool.close().await;
        }
        // One is kept, not one a start.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        assert_eq!(std::fs::read(directory.path().join("spool.damaged")).unwrap(), content);
    }
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Spool::open(&file, &Config::default(), SpoolMetrics::default(), || NOW_NS).unwrap_err();
    assert!(matches!(error, Error::Open(disk::Error::Unavailable { permanent: true, .. })), "{error}");
}
