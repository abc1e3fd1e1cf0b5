//! Power loss, torn and reordered writes, a lying disk, a full disk, a damaged file.

use super::*;
use crate::disk::faulty::Random;

/// Posts until the power goes at a random write, then opens what is left. Returns what is wrong.
async fn power_loss(seed: u64, lying: bool) -> Result<(), String> {
    let mut random = Random::new(seed);
    let disk = Disk::default();
    let events = open(&disk);
    if lying {
        disk.lie_about_sync();
    }
    disk.die_after(random.below(300) as u64);
    let mut accepted = Vec::new();
    for round in 0.. {
        let series = format!("n={} long={}", random.below(5), "x".repeat(random.below(1_000) + 1));
        let Ok(taken) = events.post(vec![event(&series, Some(&format!("id{round}")))]).await else { break };
        accepted.push((event(&series, None).series, taken[0].ts_ms));
    }
    drop(events);
    disk.crash(|end| random.below(end));

    let events = open(&disk);
    if disk.set_asides() > 0 {
        return Err("set aside".to_owned());
    }
    let mut found = scrape(&events, &Session::default()).await;
    for one in &accepted {
        let held = found.iter().filter(|other| *other == one).count();
        if held != 1 {
            return Err(format!("{one:?} is there {held} times"));
        }
    }
    // It goes on, and no timestamp of a series comes twice.
    for n in 0..5 {
        let taken =
            events.post(vec![event(&format!("n={n}"), None)]).await.map_err(|error| error.to_string())?;
        found.push((event(&format!("n={n}"), None).series, taken[0].ts_ms));
    }
    let distinct: std::collections::BTreeSet<_> = found.iter().collect();
    if distinct.len() == found.len() { Ok(()) } else { Err("doubled".to_owned()) }
}

#[tokio::test]
async fn no_accepted_event_is_lost_when_the_power_goes() {
    for seed in 0..60 {
        power_loss(seed, false).await.unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
}

/// The control: with a disk that does not sync the same test finds losses.
#[tokio::test]
async fn a_lying_disk_loses_events() {
    let mut losses = 0;
    for seed in 0..40 {
        losses += usize::from(power_loss(seed, true).await.is_err());
    }
    assert!(losses > 20, "{losses} of 40 runs lost something");
}

#[tokio::test]
async fn a_full_disk_refuses_and_nothing_that_was_refused_appears_later() {
    let disk = Disk::default();
    let events = open(&disk);
    let long = "x".repeat(1_000);
    post(&events, "n=first").await;
    disk.set_capacity(Some(disk.len()));
    let mut taken = 1;
    let refused = loop {
        let batch: Vec<_> = (0..20).map(|n| event(&format!("n={taken}.{n} long={long}"), None)).collect();
        match events.post(batch).await {
            Ok(accepted) => taken += accepted.len(),
            Err(error) => break error,
        }
        assert!(taken < 10_000, "the disk never fills");
    };
    assert!(matches!(refused, Error::Disk(_)), "{refused}");
    assert_eq!(events.health().borrow()[0].condition, Condition::Degraded);
    assert_eq!(scrape(&events, &Session::default()).await.len(), taken, "what is there is still sent");
    disk.set_capacity(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    post(&events, "n=last").await;
    assert_eq!(events.health().borrow()[0].condition, Condition::Up);
    let shown = scrape(&events, &Session::default()).await;
    assert_eq!(shown.len(), taken + 1);
    events.close().await;
    assert_eq!(scrape(&open(&disk), &Session::default()).await, shown);
    assert_eq!(disk.set_asides(), 0);
}

#[tokio::test]
async fn damage_under_a_running_process_loses_nothing_that_it_knows() {
    let mut replaced = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let disk = Disk::default();
        // No cache, so that the damage is seen.
        let events = open_with(&disk, &Config { cache_bytes: 0, ..Config::default() }, now);
        for n in 0..30 {
            post(&events, &format!("n={n} long={}", "x".repeat(900))).await;
        }
        // As many as redb survives: more have it panic while it unwinds, and the next start finds the damage.
        for _ in 0..150 {
            disk.flip(random.below(disk.len()), u8::try_from(seed % 8).unwrap());
        }
        let mut posted = 30;
        for n in 30..60 {
            posted += usize::from(events.post(vec![event(&format!("n={n}"), None)]).await.is_ok());
        }
        let shown = scrape(&events, &Session::default()).await;
        assert_eq!(shown.len(), posted, "seed {seed}");
        events.close().await;
        if disk.set_asides() > 0 {
            replaced += 1;
            let after = open(&disk);
            // Damage that nobody has read yet may be found by the restart: then the whole file is gone, and said so.
            if after.health().borrow()[0].lacks.is_empty() {
                assert_eq!(scrape(&after, &Session::default()).await, shown, "seed {seed}");
                assert_eq!(after.totals().accepted, posted as u64);
            }
        }
    }
    assert!(replaced > 0, "no flip hit anything");
}

#[tokio::test]
async fn a_second_process_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Events::open(directory.path(), &Config::default(), Metrics::default(), now);
    let _first = open().unwrap();
    assert!(open().unwrap_err().to_string().contains("in use by another process"));
}

#[test]
fn settings_that_cannot_be_are_named() {
    for config in [
        Config { redundancy: 0, ..Config::default() },
        Config { window_ms: 1, ..Config::default() },
        Config { name: "sextant_x".to_owned(), ..Config::default() },
    ] {
        let opened = Events::open_on(Disk::default().connect(), &config, Metrics::default(), now);
        assert!(matches!(opened, Err(Error::Config(_))));
    }
}

/// A fresh file in the place of a damaged one, while there is no event: the next has the next number all the same, since
/// scrapers and the forwarder are known by theirs.
#[test]
fn a_fresh_file_goes_on_where_an_empty_window_was() {
    let backend = redb::backends::InMemoryBackend::new();
    let database = redb::Database::builder().create_with_backend(backend).unwrap();
    journal::table::prepare(&database).unwrap();
    let window = Window::new(5, Totals::default(), 0);
    let totals = window.totals();
    let change = journal::table::Change { totals: Some((&totals, &window)), ..Default::default() };
    journal::table::apply(&database, &change).unwrap();
    let loaded = journal::table::load(&database, &Config::default()).unwrap();
    assert_eq!((loaded.window.first(), loaded.window.forwarded), (5, 5));
}
