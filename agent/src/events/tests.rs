//! Events from the post to the scraper, over disks that misbehave.

mod faults;
mod sessions;
mod verified;

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::disk::faulty::Disk;

const NOW_MS: i64 = 1_750_329_000_123;

fn now() -> i64 {
    NOW_MS * 1_000_000
}

fn open_with(disk: &Disk, config: &Config, clock: WallClock) -> Events {
    Events::open_on(disk.connect(), config, Metrics::default(), clock).unwrap()
}

fn open(disk: &Disk) -> Events {
    open_with(disk, &Config::default(), now)
}

fn event(labels: &str, id: Option<&str>) -> Checked {
    let labels = labels.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).collect();
    let event = NewEvent { labels, value: 1.0, id: id.map(str::to_owned), ..NewEvent::default() };
    event.check("events").unwrap()
}

async fn post(events: &Events, labels: &str) -> Accepted {
    events.post(vec![event(labels, None)]).await.unwrap()[0]
}

/// What a scraper on this connection gets: series and timestamps, in the order in which they were accepted.
async fn scrape(events: &Events, session: &Session) -> Vec<(String, i64)> {
    let scrape = Scrape { is_scraper: true, ..Scrape::default() };
    let batch = events.scrape(session, scrape).await;
    batch.events.iter().map(|event| (event.series.to_string(), event.ts_ms)).collect()
}

async fn tick(events: &Events) {
    events.0.journal.as_ref().unwrap().send(Command::Tick).await.unwrap();
    // Answers come in the order of questions.
    events.history(Query::default()).await.unwrap();
}

#[tokio::test]
async fn equal_events_have_timestamps_of_their_own_and_a_restart_keeps_them() {
    let disk = Disk::default();
    let events = open(&disk);
    for n in 0..3 {
        assert_eq!(post(&events, "type=deploy").await, Accepted { ts_ms: NOW_MS + n, duplicate: false });
    }
    assert_eq!(post(&events, "type=other").await.ts_ms, NOW_MS);
    let shown = scrape(&events, &Session::default()).await;
    assert_eq!(shown.len(), 4);
    events.close().await;
    assert_eq!(events.post(vec![event("", None)]).await, Err(Error::Closed));

    let again = open(&disk);
    assert_eq!(scrape(&again, &Session::default()).await, shown);
    assert_eq!(post(&again, "type=deploy").await.ts_ms, NOW_MS + 3, "its last timestamp was kept");
    let totals = again.totals();
    assert_eq!((totals.accepted, totals.series["events{type=\"deploy\"}"]), (5, 4));
}

#[tokio::test]
async fn an_id_counts_once_before_and_after_a_restart() {
    let disk = Disk::default();
    let events = open(&disk);
    let first = events.post(vec![event("a=1", Some("x")), event("a=1", Some("x"))]).await.unwrap();
    assert_eq!((first[0].duplicate, first[1].duplicate), (false, true));
    assert_eq!(first[0].ts_ms, first[1].ts_ms);
    let events = {
        events.close().await;
        open(&disk)
    };
    assert!(events.post(vec![event("a=1", Some("x"))]).await.unwrap()[0].duplicate);
    let conflict = events.post(vec![event("b=1", None), event("a=2", Some("x"))]).await;
    assert_eq!(conflict, Err(Error::Conflict("x".to_owned())));
    assert_eq!(scrape(&events, &Session::default()).await.len(), 1, "a post is taken whole or not at all");
    assert_eq!(post(&events, "b=1").await.ts_ms, NOW_MS);
}

#[tokio::test]
async fn limits_refuse_and_drop_nothing() {
    let config = Config { max_events: 3, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    for n in 0..3 {
        post(&events, &format!("n={n}")).await;
    }
    assert!(matches!(events.post(vec![event("n=4", None)]).await, Err(Error::Full { held: 3, .. })));
    assert_eq!(scrape(&events, &Session::default()).await.len(), 3);

    let config = Config { max_size_bytes: 64 << 10, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    let mut taken = 0;
    while events.post(vec![event(&format!("n={taken}"), None)]).await.is_ok() {
        taken += 1;
    }
    assert!((100..1_000).contains(&taken), "{taken}");
}

#[tokio::test]
async fn a_series_does_not_run_away_from_the_clock() {
    let config = Config { max_events: 1_000_000, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    let burst: Vec<_> = (0..100_000).map(|_| event("", None)).collect();
    for _ in 0..3 {
        events.post(burst.clone()).await.unwrap();
    }
    let refused = events.post(burst).await;
    assert!(matches!(refused, Err(Error::Ahead { ahead_ms: 300_001, .. })), "{refused:?}");
    assert_eq!(post(&events, "").await.ts_ms, NOW_MS + 300_000, "the refused post left no trace");
    assert_eq!(post(&events, "other=1").await.ts_ms, NOW_MS);
}

#[tokio::test]
async fn past_the_window_an_event_is_history_and_still_counted() {
    static CLOCK_MS: AtomicI64 = AtomicI64::new(NOW_MS);
    let clock: WallClock = || CLOCK_MS.load(Ordering::Relaxed) * 1_000_000;
    let config = Config { window_ms: 10_000, max_history: 2, max_counted_series: 1, ..Config::default() };
    let disk = Disk::default();
    let events = open_with(&disk, &config, clock);
    for labels in ["a=1", "a=1", "b=1"] {
        post(&events, labels).await;
    }
    let told = |found: Vec<Told>| found.iter().map(|one| one.ts_ms - NOW_MS).collect::<Vec<_>>();
    let all = Query { limit: 9, ..Query::default() };
    assert_eq!(told(events.history(all.clone()).await.unwrap()), [0, 1, 0]);
    CLOCK_MS.store(NOW_MS + 10_002, Ordering::Relaxed);
    tick(&events).await;
    assert_eq!(scrape(&events, &Session::default()).await, []);
    assert_eq!(told(events.history(all.clone()).await.unwrap()), [0, 1], "the oldest gave way");
    let one = Query { labels: vec![("b".to_owned(), "1".to_owned())], ..all.clone() };
    assert_eq!(events.history(one).await.unwrap().len(), 1);
    let none = Query { from_ms: Some(NOW_MS + 2), ..all };
    assert_eq!(events.history(none).await.unwrap(), []);
    events.close().await;
    let events = open_with(&disk, &config, clock);
    let totals = events.totals();
    assert_eq!((totals.accepted, totals.series["events{a=\"1\"}"], totals.uncounted), (3, 2, 1));
    post(&events, "a=1").await;
    assert_eq!(events.totals().series["events{a=\"1\"}"], 3);
}

/// Set forward and back by minutes: a series' timestamps rise all the same, none is another's, and each is sent.
#[tokio::test]
async fn a_clock_that_is_set_moves_no_event_onto_another() {
    static CLOCK_MS: AtomicI64 = AtomicI64::new(NOW_MS);
    let clock: WallClock = || CLOCK_MS.load(Ordering::Relaxed) * 1_000_000;
    let events = open_with(&Disk::default(), &Config::default(), clock);
    let (session, mut sent) = (Session::default(), std::collections::BTreeSet::new());
    let mut last_ms = 0;
    for step_ms in [0, 180_000, -240_000, 60_000, 0] {
        CLOCK_MS.fetch_add(step_ms, Ordering::Relaxed);
        for _ in 0..3 {
            let ts_ms = post(&events, "same=1").await.ts_ms;
            assert!(ts_ms > last_ms, "{step_ms}");
            last_ms = ts_ms;
            post(&events, &format!("step={step_ms}")).await;
        }
        tick(&events).await;
        sent.extend(scrape(&events, &session).await);
    }
    assert_eq!(sent.len(), 5 * 6);
    assert_eq!(scrape(&events, &Session::default()).await.len(), 5 * 6, "none was taken for an old one");
}

#[tokio::test]
async fn what_is_to_be_forwarded_is_waited_for_and_remembered() {
    let disk = Disk::default();
    let events = open(&disk);
    let waiting = tokio::spawn({
        let events = events.clone();
        async move { events.next_to_forward(events.forwarded(), 10).await }
    });
    post(&events, "a=1").await;
    let (found, next) = waiting.await.unwrap();
    assert_eq!((found.len(), next), (1, 2));
    events.forwarded_up_to(next);
    post(&events, "a=2").await;
    events.close().await;
    let events = open(&disk);
    let (found, _) = events.next_to_forward(events.forwarded(), 10).await;
    assert_eq!(&*found[0].series, "events{a=\"2\"}");
}

#[tokio::test]
async fn posts_share_a_sync() {
    let events = open(&Disk::default());
    let before = events.0.metrics.commits.get();
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..1_000 {
        let events = events.clone();
        waiting.spawn(async move { post(&events, &format!("n={n}")).await });
    }
    assert_eq!(waiting.join_all().await.len(), 1_000);
    let commits = events.0.metrics.commits.get() - before;
    assert!(commits < 500, "{commits} commits for 1000 posts");
}

#[tokio::test]
async fn where_nothing_can_be_kept_it_is_said() {
    let events = Events::off("no directory".to_owned(), &Config::default(), Metrics::default());
    let refused = events.post(vec![event("", None)]).await.unwrap_err();
    assert!(refused.to_string().contains("no directory"), "{refused}");
    assert_eq!(scrape(&events, &Session::default()).await, []);
    assert_eq!(events.health().borrow()[0].condition, Condition::Off);
}
