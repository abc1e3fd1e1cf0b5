//! Power loss, a lying disk, a full one, bits that turn, a file that is cut off.

use super::*;
use crate::disk::faulty::{Broken, Disk, Random};

/// One day on a disk that can fail.
struct Lab {
    day: Day,
    metrics: Metrics,
}

impl Lab {
    fn open(medium: impl Medium) -> Self {
        Self::with(medium, &small())
    }

    fn with(medium: impl Medium, config: &Config) -> Self {
        let metrics = Metrics::default();
        let health = Health(Arc::new(watch::Sender::new(Status::default())));
        Self { day: Day::open(medium, config, metrics.clone(), health).unwrap(), metrics }
    }

    async fn append(&self, batch: Vec<SeriesSamples>) -> Result<Appended, Error> {
        let (reply, answer) = oneshot::channel();
        self.day
            .send(Command::Append { brought: vec![Brought { source: "s".into(), series: batch }], reply })?;
        answer.await.unwrap()
    }

    async fn read(&self) -> Result<Vec<SeriesSamples>, Error> {
        let query = question(Selection::default(), ALWAYS);
        let (conditions, mut gather) = (Conditions::of(&query.selection)?, Gather::new(&query));
        let (reply, answer) = oneshot::channel();
        self.day.send(Command::Select { conditions, range: ALWAYS, max_series: 100, reply })?;
        let snapshot = answer.await.unwrap()?;
        match gather.take(&snapshot) {
            Ok(damaged) => drop(self.metrics.damaged_chunks.inc_by(damaged)),
            Err(gather::Failure::TooMuch(_)) => unreachable!("a million samples"),
            Err(gather::Failure::Disk(cause)) => {
                let words = cause.to_string();
                let loading = snapshot.loading;
                drop(snapshot);
                self.day.send(Command::Failed { loading, cause })?;
                return Err(Error::Disk(words));
            }
        }
        gather.finish()
    }
}

/// Appends until the power goes at a random write, then opens what is left; what is wrong with it.
async fn power_loss(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let disk = Disk::default();
    let lab = Lab::open(disk.connect());
    if lying {
        disk.lie_about_sync();
    }
    disk.die_after(random.below(600) as u64);
    let (mut kept, mut asked) = (BTreeMap::new(), BTreeMap::new());
    for round in 0..10_000 {
        let batch: Vec<_> = (0..1 + random.below(20))
            .map(|_| {
                let series = u8::try_from(random.below(5)).unwrap();
                (series, NOW_MS + i64::try_from(random.below(500)).unwrap(), f64::from(round))
            })
            .collect();
        asked.extend(batch.iter().map(|(series, at_ms, value)| ((*series, *at_ms, value.to_bits()), ())));
        let samples = batch.iter().map(|(series, at_ms, value)| one(*series, *at_ms, *value)).collect();
        if lab.append(samples).await.is_err() {
            break;
        }
        kept.extend(batch.iter().map(|(series, at_ms, value)| ((*series, *at_ms), *value)));
    }
    drop(lab);
    disk.crash(|end| random.below(end));
    let lab = Lab::open(disk.connect());
    if disk.set_asides() > 0 {
        return Err("the file was set aside".to_owned());
    }
    let mut all = BTreeMap::new();
    for series in lab.read().await.map_err(|cause| cause.to_string())? {
        let n: u8 = series.labels.get("n").unwrap().parse().unwrap();
        for sample in series.samples {
            if !asked.contains_key(&(n, sample.at_ms, sample.value.to_bits())) {
                return Err(format!("nobody appended {sample:?}"));
            }
            all.insert((n, sample.at_ms), sample.value);
        }
    }
    for (key, value) in kept {
        // The batch under way may have come that far, and it is newer.
        if all.get(&key).is_none_or(|now| *now < value) {
            return Err(format!("{key:?} is {:?}, and {value} was accepted", all.get(&key)));
        }
    }
    Ok(())
}

#[tokio::test]
async fn power_loss_takes_nothing_that_was_accepted() {
    for seed in 0..60 {
        assert_eq!(power_loss(seed, false).await, Ok(()), "seed {seed}");
    }
}

/// The control: with a disk that does not sync, the same test finds losses.
#[tokio::test]
async fn a_disk_that_lies_is_found_out() {
    let mut wrong = 0;
    for seed in 0..20 {
        wrong += usize::from(power_loss(seed, true).await.is_err());
    }
    assert!(wrong > 0);
}

#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let disk = Disk::default();
    let lab = Lab::open(disk.connect());
    lab.append(vec![one(1, NOW_MS, 1.0)]).await.unwrap();
    disk.set_capacity(Some(disk.len()));
    let mut refused = None;
    let mut random = Random::new(1);
    for n in 1..5_000 {
        let mut noise = || f64::from_bits(random.below(usize::MAX) as u64);
        let samples = (0..100).map(|k| Sample { at_ms: NOW_MS + n * 1_000 + k, value: noise() }).collect();
        if lab.append(vec![SeriesSamples { labels: labels(2), samples }]).await.is_err() {
            refused = Some(n);
            break;
        }
    }
    let refused = refused.expect("the disk is full at some time");
    disk.set_capacity(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    lab.append(vec![one(4, NOW_MS, 4.0)]).await.unwrap();
    let all = lab.read().await.unwrap();
    let of = |n: &str| {
        all.iter().find(|series| series.labels.get("n") == Some(n)).map(|series| series.samples.len())
    };
    assert_eq!((of("1"), of("4")), (Some(1), Some(1)));
    // Nothing of the batch that was refused.
    assert_eq!(of("2").unwrap_or(0), usize::try_from((refused - 1) * 100).unwrap());
}

/// EIO at any operation: nobody knows then what of a commit is in the file. What was accepted is there all the same, every
/// sample under its own series, and series that came with a failed commit take nobody's place.
#[tokio::test]
async fn io_errors_mix_up_no_series() {
    for seed in 0..5 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        let lab = Lab::open(disk.connect());
        let (mut accepted, mut refused) = (BTreeSet::new(), 0);
        for round in 0..60_u8 {
            let broken = [Broken::Syncs, Broken::Writes, Broken::Reads, Broken::All, Broken::OneIn(7)]
                [random.below(5)];
            disk.break_io((random.below(3) == 0).then_some(broken));
            // A new series with each batch, whose samples say which it is.
            let batch = |series: u8| one(series, NOW_MS + i64::from(round), f64::from(series));
            let known = u8::try_from(random.below(usize::from(round) + 1)).unwrap();
            match lab.append(vec![batch(round), batch(known)]).await {
                Ok(_) => accepted.extend([(round, round), (known, round)]),
                Err(_) => refused += 1,
            }
            if refused % 4 == 3 {
                disk.break_io(None);
                tokio::time::sleep(Duration::from_millis(1_050)).await;
                refused += 1;
            }
        }
        disk.break_io(None);
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        let mut found = BTreeSet::new();
        for series in lab.read().await.unwrap() {
            let n: u8 = series.labels.get("n").unwrap().parse().unwrap();
            for sample in series.samples {
                assert_eq!(sample.value, f64::from(n), "seed {seed}: a sample under another series");
                found.insert((n, u8::try_from(sample.at_ms - NOW_MS).unwrap()));
            }
        }
        assert_eq!(disk.set_asides(), 0, "seed {seed}");
        assert!(disk.io_errors() > 0 && refused > 0);
        let lost: Vec<_> = accepted.difference(&found).collect();
        assert!(lost.is_empty(), "seed {seed}: {lost:?}");
    }
}

/// Whatever bit turns, what is read was appended, and it goes on. In a file that is verified, what is gone is counted; in
/// one that is too large for that a page of its tree can lead past what is there.
#[tokio::test]
async fn bits_that_turn_are_found_and_never_read_as_samples() {
    let (mut found, mut unharmed) = (0, 0);
    for seed in 0..100 {
        let verified = seed % 2 == 0;
        let mut random = Random::new(seed);
        let disk = Disk::default();
        let lab = Lab::open(disk.connect());
        let value = |series: u8, n: i64| f64::from(series) * 1_000.0 + n as f64;
        for block in 0..6 {
            for series in 0..4 {
                let samples = (block * 50..(block + 1) * 50)
                    .map(|n| Sample { at_ms: NOW_MS + n, value: value(series, n) })
                    .collect();
                lab.append(vec![SeriesSamples { labels: labels(series), samples }]).await.unwrap();
            }
        }
        drop(lab);
        for _ in 0..1 + random.below(20) {
            disk.flip(random.below(disk.len()), u8::try_from(random.below(8)).unwrap());
        }
        let verify_up_to_bytes = if verified { u64::MAX } else { 0 };
        let lab = Lab::with(disk.connect(), &Config { verify_up_to_bytes, ..small() });
        let mut samples = 0;
        if let Ok(all) = lab.read().await {
            for series in all {
                let n: u8 = series.labels.get("n").unwrap().parse().unwrap();
                samples += series.samples.len();
                let right =
                    |sample: &Sample| sample.value.to_bits() == value(n, sample.at_ms - NOW_MS).to_bits();
                assert!(series.samples.iter().all(right), "seed {seed}");
            }
        }
        if samples == 1_200 {
            unharmed += 1;
        } else {
            found += 1;
            let counted = lab.metrics.damaged_chunks.get()
                + lab.metrics.damaged_files.get()
                + lab.metrics.disk_errors.get();
            assert!(counted > 0 || !verified, "seed {seed}: {samples} samples, and nothing was said");
        }
        // It goes on, perhaps with a fresh file after a second try.
        if lab.append(vec![one(1, NOW_MS - 1, 1.0)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            lab.append(vec![one(1, NOW_MS - 1, 1.0)]).await.unwrap();
        }
    }
    assert!(found > 10 && unharmed > 10, "{found} found, {unharmed} unharmed");
}

#[tokio::test]
async fn a_file_cut_in_half_is_set_aside_and_other_days_answer() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).await;
    for day in 0..3 {
        engine.append_of("s", vec![one(1, NOW_MS - day * DAY_MS, day as f64)]).await.unwrap();
    }
    engine.close().await;
    let path = directory.path().join("series/2026-11-21.redb");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let engine = open(directory.path()).await;
    let all = engine.read(&question(Selection::default(), ALWAYS)).await.unwrap();
    assert_eq!(all[0].samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [2.0, 0.0]);
    assert!(engine.status().borrow().damage.as_ref().unwrap().contains("2026-11-21"));
    assert!(directory.path().join("series/2026-11-21.damaged").exists());
    engine.append_of("s", vec![one(1, NOW_MS - DAY_MS, 5.0)]).await.unwrap();
}
