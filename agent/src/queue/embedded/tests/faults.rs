//! Power loss, torn and reordered writes, a lying disk, a full disk, a damaged file.

use std::collections::BTreeMap;

use super::*;
use crate::disk;
use crate::disk::faulty::{Broken, Random};

/// What a group is told again and again until it has all of it, acknowledged.
async fn drain(queue: &Queue, group: &str) -> BTreeMap<u64, Vec<u8>> {
    let mut all = BTreeMap::new();
    loop {
        let got = take(queue, group, 100).await;
        if got.is_empty() {
            return all;
        }
        queue.settle(settle(group, Verdict::Ack, ids(&got))).await.unwrap();
        for message in got {
            assert!(all.insert(message.id.offset, message.payload).is_none(), "twice within its time");
        }
    }
}

/// Produces, delivers and acknowledges until the power goes at a random write, then opens what is left. Returns what
/// is wrong.
async fn power_loss(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let disk = Disk::default();
    // Commits of both kinds, and in some runs first the one and then the other.
    let quick_repair_bytes = [0, 300_000, u64::MAX][random.below(3)];
    let config = Config { quick_repair_bytes, ..Config::default() };
    let queue = open(&disk, &config);
    take(&queue, "g", 1).await;
    if lying {
        disk.lie_about_sync();
    }
    disk.die_after(random.below(500) as u64);
    let (mut kept, mut acked, mut asked) = (BTreeMap::new(), Vec::new(), Vec::new());
    'alive: for round in 0_u64.. {
        let payloads: Vec<Vec<u8>> =
            (0..1 + random.below(3)).map(|_| vec![round.to_le_bytes()[0]; random.below(9_000)]).collect();
        let messages =
            payloads.iter().map(|payload| NewMessage { key: None, payload: payload.clone() }).collect();
        let Ok(produced) = queue.produce(Produce { messages, ..batch(0, &[]) }).await else { break };
        kept.extend(produced.ids.iter().map(|id| id.offset).zip(payloads));
        if round % 3 == 2 {
            let Ok(parcel) = queue.pull(pull("g", 3)).await else { break };
            for message in parcel.take_all() {
                if random.below(4) == 0 {
                    continue;
                }
                asked.push(message.id.offset);
                match queue.settle(settle("g", Verdict::Ack, vec![message.id])).await {
                    Ok(done) if done == [true] => acked.push(message.id.offset),
                    Ok(_) => return Err("an ack was refused".to_owned()),
                    Err(_) => break 'alive,
                }
            }
        }
    }
    drop(queue);
    disk.crash(|end| random.below(end));

    let queue = open(&disk, &config);
    queue.tick().await.map_err(|error| error.to_string())?;
    if disk.set_asides() > 0 {
        return Err("the file was set aside".to_owned());
    }
    // Another group has every record that was accepted, as it was.
    let all = drain(&queue, "other").await;
    for (offset, payload) in &kept {
        if all.get(offset) != Some(payload) {
            return Err(format!("record {offset} is gone or not what it was"));
        }
    }
    // The group itself does not get again what it acknowledged, and gets the rest: at once or at its time.
    let mut seen = drain(&queue, "g").await;
    pass(&queue, Duration::from_secs(31)).await;
    seen.extend(drain(&queue, "g").await);
    if let Some(offset) = acked.iter().find(|offset| seen.contains_key(offset)) {
        return Err(format!("record {offset} was acknowledged and came again"));
    }
    let missing = kept.keys().find(|offset| !seen.contains_key(offset) && !asked.contains(offset));
    missing.map_or(Ok(()), |offset| Err(format!("record {offset} is never delivered")))
}

#[tokio::test(start_paused = true)]
async fn nothing_accepted_is_lost_when_the_power_goes() {
    for seed in 0..30 {
        power_loss(seed, false).await.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

/// The control: with a disk that does not sync the same test finds losses.
#[tokio::test(start_paused = true)]
async fn a_lying_disk_loses_records() {
    let mut losses = 0;
    for seed in 0..12 {
        losses += usize::from(power_loss(seed, true).await.is_err());
    }
    assert!(losses > 5, "{losses} of 12 runs lost something");
}

#[tokio::test]
async fn a_full_disk_refuses_whole_batches_and_recovers() {
    let disk = Disk::default();
    let queue = open(&disk, &Config::default());
    queue.produce(batch(0, &["first"])).await.unwrap();
    let delivered = take(&queue, "g", 1).await;
    disk.set_capacity(Some(disk.len()));
    let large = "x".repeat(100_000);
    let mut kept = 1;
    while queue.produce(batch(0, &[&large, &large])).await.is_ok() {
        kept += 2;
        assert!(kept < 1_000, "the disk never fills");
    }
    assert!(queue.status().borrow().degraded.is_some());
    assert_eq!(queue.metrics.healthy.get(), 0);
    disk.set_capacity(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    queue.produce(batch(0, &["last"])).await.unwrap();
    assert_eq!((queue.status().borrow().degraded.clone(), queue.metrics.healthy.get()), (None, 1));
    assert_eq!(drain(&queue, "other").await.len(), kept + 1, "nothing of what was refused");
    assert_eq!(disk.set_asides(), 0);
    // The delivery was forgotten with the failure at worst: then it comes again.
    let again = take(&queue, "g", 1).await;
    assert!(again.iter().chain(&delivered).any(|message| message.payload == b"first"));
}

/// As above, and the disk says EIO: of reads, of writes, of syncs, of everything.
#[tokio::test]
async fn a_disk_that_fails_refuses_and_recovers() {
    for broken in [Broken::Reads, Broken::Writes, Broken::Syncs, Broken::All] {
        let disk = Disk::default();
        let queue = open(&disk, &Config { cache_bytes: 0, ..Config::default() });
        queue.produce(batch(0, &["a", "b", "c"])).await.unwrap();
        let delivered = take(&queue, "g", 1).await;
        disk.break_io(Some(broken));
        let refused = queue.produce(batch(0, &["no"])).await;
        assert!(matches!(refused, Err(Error::Disk(_))), "{broken:?}: {refused:?}");
        let settled = queue.settle(settle("g", Verdict::Ack, ids(&delivered))).await;
        assert!(matches!(settled, Err(Error::Disk(_))), "{broken:?}: {settled:?}");
        assert!(queue.status().borrow().degraded.is_some() && disk.io_errors() > 0, "{broken:?}");
        assert_eq!(queue.metrics.healthy.get(), 0);
        disk.break_io(None);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        queue.produce(batch(0, &["d"])).await.unwrap();
        assert_eq!((queue.status().borrow().degraded.clone(), queue.metrics.healthy.get()), (None, 1));
        let all: Vec<_> = drain(&queue, "other").await.into_values().collect();
        // A refused one may be there, since a sync that failed may have done its work: its producer was told nothing.
        let kept: Vec<_> = all.iter().filter(|payload| *payload != b"no").collect();
        assert_eq!(kept, [b"a", b"b", b"c", b"d"], "{broken:?}");
        assert_eq!(disk.set_asides(), 0, "{broken:?}: nothing is damaged");
    }
}

/// One operation of a few fails while records are produced; then the power goes too.
#[tokio::test]
async fn nothing_accepted_is_lost_to_io_errors() {
    let mut errors = 0;
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        let queue = open(&disk, &Config::default());
        let mut accepted = Vec::new();
        for round in 0..4 {
            disk.break_io(Some(Broken::OneIn(20 + random.below(60) as u64)));
            for n in 0..12 {
                let text = format!("{seed} {round} {n} {}", "x".repeat(random.below(5_000)));
                if queue.produce(batch(0, &[&text])).await.is_ok() {
                    accepted.push(text.into_bytes());
                }
            }
            disk.break_io(None);
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        errors += disk.io_errors();
        drop(queue);
        disk.crash(|end| random.below(end));
        let queue = open(&disk, &Config::default());
        let all: Vec<_> = drain(&queue, "g").await.into_values().collect();
        assert_eq!(disk.set_asides(), 0, "seed {seed}");
        let lost: Vec<_> = accepted.iter().filter(|text| !all.contains(text)).collect();
        assert!(lost.is_empty() && !accepted.is_empty(), "seed {seed}: {} lost", lost.len());
        assert!(accepted.iter().all(|text| all.iter().filter(|one| *one == text).count() == 1), "doubled");
    }
    assert!(errors > 20, "only {errors} operations failed");
}

#[tokio::test]
async fn a_disk_full_from_the_start_is_waited_for() {
    let disk = Disk::default();
    disk.set_capacity(Some(0));
    let queue = open(&disk, &Config::default());
    assert!(matches!(queue.produce(batch(0, &["no"])).await, Err(Error::Disk(_))));
    assert!(matches!(queue.topics(false).await, Err(Error::Disk(_))));
    assert!(matches!(queue.pull(pull("g", 1)).await, Err(Error::Disk(_))));
    disk.set_capacity(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    queue.produce(batch(0, &["yes"])).await.unwrap();
    assert_eq!(texts(&take(&queue, "g", 1).await), ["yes"]);
}

#[tokio::test(start_paused = true)]
async fn any_flipped_bit_is_noticed_or_harmless() {
    let mut replaced = 0;
    for seed in 0..30 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        let queue = open(&disk, &Config::default());
        let texts_in: Vec<String> = (0..40).map(|n| n.to_string().repeat(1_500)).collect();
        for text in &texts_in {
            queue.produce(batch(0, &[text])).await.unwrap();
        }
        let first = take(&queue, "g", 1).await;
        queue.settle(settle("g", Verdict::Ack, ids(&first))).await.unwrap();
        queue.close().await;
        disk.flip(random.below(disk.len()), u8::try_from(seed % 8).unwrap());

        let queue = open(&disk, &Config::default());
        let all = drain(&queue, "other").await;
        if disk.set_asides() == 0 {
            assert_eq!(all.len(), texts_in.len(), "seed {seed}");
            for (text, payload) in texts_in.iter().zip(all.values()) {
                assert_eq!(text.as_bytes(), payload, "seed {seed}");
            }
            assert_eq!(drain(&queue, "g").await.len(), texts_in.len() - 1);
        } else {
            replaced += 1;
            assert!(all.is_empty() && queue.status().borrow().damage.is_some());
            assert_eq!(queue.metrics.damaged_files.get(), 1);
            // An id of the lost file names nothing in its successor.
            queue.produce(batch(0, &["on"])).await.unwrap();
            assert_eq!(take(&queue, "g", 1).await.len(), 1);
            assert_eq!(queue.settle(settle("g", Verdict::Ack, ids(&first))).await.unwrap(), [false]);
        }
    }
    assert!(replaced > 0, "no flip hit anything");
}

/// As above while the queue is open: nothing verifies pages then, only each chunk's own checksum.
#[tokio::test(start_paused = true)]
async fn damage_under_a_running_queue_never_comes_out_as_a_record() {
    let mut damaged = 0;
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        // No cache, so that reads see the damage.
        let queue = open(&disk, &Config { cache_bytes: 0, ..Config::default() });
        let texts_in: Vec<String> = (0..40).map(|n| n.to_string().repeat(1_500)).collect();
        for text in &texts_in {
            queue.produce(batch(0, &[text])).await.unwrap();
        }
        for _ in 0..20 {
            disk.flip(random.below(disk.len()), u8::try_from(seed % 8).unwrap());
        }
        for _ in 0..200 {
            match queue.pull(pull("g", 7)).await {
                Ok(parcel) if parcel.is_empty() => break,
                Ok(parcel) => {
                    for message in parcel.take_all() {
                        let text = &texts_in[usize::try_from(message.id.offset).unwrap()];
                        assert_eq!(text.as_bytes(), message.payload, "seed {seed}");
                    }
                }
                Err(_) => break,
            }
        }
        damaged += queue.metrics.damaged_chunks.get() + queue.metrics.damaged_files.get();
        // It goes on.
        tokio::time::advance(Duration::from_secs(2)).await;
        let _first_look = queue.topics(false).await;
        queue.produce(batch(0, &["on"])).await.unwrap();
    }
    assert!(damaged > 10, "only {damaged} were hit");
}

#[tokio::test]
async fn a_file_that_is_no_queue_is_set_aside() {
    for content in
        [b"rubbish".to_vec(), vec![0; 100], vec![0xff; 1 << 20], b"redb\x1a\x0a\xa9\x0d\x0a".to_vec()]
    {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), &content).unwrap();
        let queue = Queue::open(directory.path(), &Config::default(), Metrics::default(), clock).unwrap();
        assert!(queue.status().borrow().damage.as_ref().unwrap().contains("queue.damaged"));
        queue.produce(batch(0, &["on"])).await.unwrap();
        let error = Queue::open(directory.path(), &Config::default(), Metrics::default(), clock).unwrap_err();
        assert!(matches!(error, Error::Open(disk::Error::Locked { .. })), "{error}");
        queue.close().await;
    }
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    for (config, name) in [
        (Config { partitions_per_topic: 0, ..Config::default() }, "partitions_per_topic"),
        (Config { queue_size: 0, ..Config::default() }, "queue_size"),
        (Config { visibility_timeout_ms: 1, ..Config::default() }, "visibility_timeout_ms"),
        (Config { max_size_bytes: 1, ..Config::default() }, "max_size_bytes"),
    ] {
        let error =
            Queue::open_on(Disk::default().connect(), &config, Metrics::default(), clock).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
