//! Exactly once in scrape time, with a server on loopback in the place of Prometheus.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use super::*;
use crate::disk::faulty::Broken;

/// What a Prometheus has: last numbers by their series, samples of each event.
#[derive(Default)]
struct Stored {
    numbers: BTreeMap<String, u64>,
    samples: BTreeMap<String, usize>,
    is_out: bool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Stored>>);

impl Fake {
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/api/v1/query", get(query)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    /// Takes an answer as a scrape does: whole.
    fn store(&self, batch: &Batch) {
        let mut stored = self.stored();
        for event in &batch.events {
            *stored.samples.entry(event.series.to_string()).or_default() += 1;
        }
        if let Some(number) = &batch.number {
            let series = format!("{}{:016x}{}", number.scraper, number.server, number.is_probe);
            stored.numbers.insert(series, number.number);
        }
    }

    fn samples(&self) -> Vec<usize> {
        self.stored().samples.values().copied().collect()
    }
}

/// The numbers of the scraper and the server that are asked for.
async fn query(
    State(fake): State<Fake>,
    RawQuery(query): RawQuery,
) -> Result<Json<serde_json::Value>, StatusCode> {
    let stored = fake.stored();
    if stored.is_out {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let asked = query.unwrap_or_default();
    let between = |before: &str| asked.split(before).nth(1).and_then(|rest| rest.split("%22").next());
    let asked = format!("{}{}", between("scraper%3D%22").unwrap(), between("server%3D%22").unwrap());
    let found = stored.numbers.iter().filter(|(series, _)| series.starts_with(&asked));
    let series =
        found.map(|(_, number)| serde_json::json!({"metric": {}, "value": [1.5, number.to_string()]}));
    let result: Vec<_> = series.collect();
    Ok(Json(serde_json::json!({"status": "success", "data": {"resultType": "vector", "result": result}})))
}

fn config(prometheus: &[(&str, &str)]) -> Config {
    let prometheus = prometheus.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned()));
    let (mode, promise) = (Mode::ScrapeTime, Promise::ExactlyOnce);
    Config { mode, promise, prometheus: prometheus.collect(), ..Config::default() }
}

async fn answer(events: &Events, scraper: &str) -> Batch {
    let scrape = Scrape { is_scraper: true, scraper, ..Scrape::default() };
    events.scrape(&Session::default(), scrape).await
}

/// Scrapes that nothing happens to.
async fn scrapes(events: &Events, fake: &Fake, count: usize) {
    for _ in 0..count {
        fake.store(&answer(events, "a").await);
    }
}

fn read_back(events: &Events) -> (Condition, String) {
    let health = events.health().borrow()[1].clone();
    assert_eq!(health.name, "events/read_back");
    (health.condition, health.lacks.join("\n"))
}

async fn start() -> (Fake, Disk, Config) {
    let fake = Fake::default();
    let url = fake.serve().await;
    (fake, Disk::default(), config(&[("a", &url)]))
}

#[tokio::test]
async fn what_is_read_back_is_not_sent_again_and_what_is_lost_is() {
    let (fake, disk, config) = start().await;
    let events = open_with(&disk, &config, now);
    for labels in ["n=a", "n=a", "n=b"] {
        post(&events, labels).await;
    }
    let first = answer(&events, "a").await;
    assert_eq!(
        (first.events.len(), first.number.is_some()),
        (0, true),
        "nothing before a number was read back"
    );
    fake.store(&first);
    let lost = answer(&events, "a").await;
    assert_eq!(lost.events.len(), 2, "one of a series");
    let probe = answer(&events, "a").await;
    assert_eq!((probe.events.len(), probe.number.as_ref().unwrap().is_probe), (0, true));
    fake.store(&probe);
    scrapes(&events, &fake, 4).await;
    assert_eq!(fake.samples(), [2, 1], "of two equal ones, and of one");
    assert_eq!(read_back(&events).0, Condition::Up);
}

/// Whoever changes the promise has not changed what was sent.
#[tokio::test]
async fn what_another_promise_has_sent_is_not_sent_again() {
    let (fake, disk, config) = start().await;
    let before = Config { promise: Promise::AtMostOnce, ..config.clone() };
    let events = open_with(&disk, &before, now);
    post(&events, "n=a").await;
    fake.store(&answer(&events, "a").await);
    events.close().await;
    let events = open_with(&disk, &config, now);
    post(&events, "n=b").await;
    scrapes(&events, &fake, 4).await;
    assert_eq!(fake.samples(), [1, 1]);
}

/// A request that outlives the next one, behind a proxy that holds it back.
#[tokio::test]
async fn an_answer_that_is_stored_late_is_not_sent_again() {
    let (fake, disk, config) = start().await;
    let events = open_with(&disk, &config, now);
    post(&events, "n=a").await;
    scrapes(&events, &fake, 1).await;
    let late = answer(&events, "a").await;
    assert_eq!(late.events.len(), 1);
    for _ in 0..5 {
        assert_eq!(answer(&events, "a").await.events.len(), 0);
    }
    fake.store(&late);
    scrapes(&events, &fake, 4).await;
    assert_eq!(fake.samples(), [1]);
}

#[tokio::test]
async fn who_cannot_be_asked_gets_nothing_and_decides_later() {
    let (fake, disk, config) = start().await;
    let events = open_with(&disk, &config, now);
    post(&events, "n=a").await;
    scrapes(&events, &fake, 2).await;
    post(&events, "n=b").await;
    fake.stored().is_out = true;
    for _ in 0..3 {
        assert_eq!(answer(&events, "a").await, Batch::default(), "no number that would hide the last");
    }
    let (condition, lacks) = read_back(&events);
    assert_eq!(condition, Condition::Degraded);
    assert!(lacks.starts_with("a: http://127.0.0.1:") && lacks.contains("503"), "{lacks}");
    fake.stored().is_out = false;
    scrapes(&events, &fake, 2).await;
    assert_eq!(fake.samples(), [1, 1]);
    assert_eq!(read_back(&events), (Condition::Up, String::new()));
}

#[tokio::test]
async fn who_never_shows_a_number_never_gets_an_event() {
    let (_fake, disk, config) = start().await;
    let events = open_with(&disk, &config, now);
    post(&events, "n=a").await;
    let mut numbers = Vec::new();
    for _ in 0..20 {
        let batch = answer(&events, "a").await;
        assert_eq!(batch.events, []);
        numbers.push(batch.number.unwrap().number);
    }
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let (condition, lacks) = read_back(&events);
    assert_eq!(condition, Condition::Degraded);
    assert!(lacks.contains("sextant_events_answer"), "{lacks}");
}

#[tokio::test]
async fn a_restart_decides_what_was_undecided() {
    for is_stored in [true, false] {
        let (fake, disk, config) = start().await;
        let events = open_with(&disk, &config, now);
        post(&events, "n=a").await;
        scrapes(&events, &fake, 1).await;
        let undecided = answer(&events, "a").await;
        assert_eq!(undecided.events.len(), 1);
        if is_stored {
            fake.store(&undecided);
        }
        events.close().await;
        let events = open_with(&disk, &config, now);
        let after = answer(&events, "a").await;
        assert_eq!(after.number.as_ref().unwrap().server, undecided.number.unwrap().server);
        fake.store(&after);
        scrapes(&events, &fake, 3).await;
        assert_eq!(fake.samples(), [1], "stored before the restart: {is_stored}");
    }
}

#[tokio::test]
async fn a_journal_that_is_gone_is_another_server() {
    let (fake, disk, config) = start().await;
    let events = open_with(&disk, &config, now);
    post(&events, "n=a").await;
    scrapes(&events, &fake, 3).await;
    let other = open_with(&Disk::default(), &config, now);
    post(&other, "n=a").await;
    scrapes(&other, &fake, 1).await;
    assert_eq!(fake.samples(), [1], "numbers of another journal prove nothing");
    scrapes(&other, &fake, 2).await;
    assert_eq!(fake.samples(), [2], "another journal's event is another event");
}

#[tokio::test]
async fn each_name_is_asked_for_itself_and_others_get_none() {
    let (one, two) = (Fake::default(), Fake::default());
    let config = config(&[("a", &one.serve().await), ("b", &two.serve().await)]);
    let events = open_with(&Disk::default(), &config, now);
    post(&events, "n=a").await;
    for _ in 0..3 {
        one.store(&answer(&events, "a").await);
        // All of this one's get lost.
        answer(&events, "b").await;
        assert_eq!(answer(&events, "c").await, Batch::default());
    }
    assert_eq!((one.samples(), two.samples()), (vec![1], vec![]));
    for _ in 0..4 {
        two.store(&answer(&events, "b").await);
    }
    assert_eq!((one.samples(), two.samples()), (vec![1], vec![1]));
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_not_sent() {
    let (fake, disk, config) = start().await;
    let events = open_with(&disk, &config, now);
    post(&events, "n=a").await;
    scrapes(&events, &fake, 1).await;
    disk.break_io(Some(Broken::Syncs));
    assert_eq!(answer(&events, "a").await, Batch::default());
    assert_eq!(read_back(&events).0, Condition::Degraded);
    disk.break_io(None);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    scrapes(&events, &fake, 4).await;
    assert_eq!(fake.samples(), [1]);
    assert_eq!(read_back(&events).0, Condition::Up);
}

/// A fresh file in the place of a damaged one knows who has what.
#[tokio::test]
async fn damage_under_a_running_process_forgets_no_scraper() {
    let mut replaced = 0;
    // Of more seeds redb panics while it unwinds.
    for seed in 0..7 {
        let (fake, disk, config) = start().await;
        // No cache, so that the damage is seen.
        let events = open_with(&disk, &Config { cache_bytes: 0, ..config.clone() }, now);
        for n in 0..30 {
            post(&events, &format!("n={n} long={}", "x".repeat(900))).await;
        }
        scrapes(&events, &fake, 3).await;
        let mut random = crate::disk::faulty::Random::new(seed);
        for _ in 0..1_000 {
            disk.flip(random.below(disk.len()), u8::try_from(seed % 8).unwrap());
        }
        // Refused or not: it has the damage found.
        for n in 30..60 {
            let _found = events.post(vec![event(&format!("n={n}"), None)]).await;
        }
        events.close().await;
        replaced += disk.set_asides();
        let events = open_with(&disk, &config, now);
        scrapes(&events, &fake, 5).await;
        assert!(fake.samples().iter().all(|times| *times == 1), "seed {seed}");
    }
    assert!(replaced > 0, "no flip hit anything");
}

#[test]
fn what_it_needs_is_asked_for() {
    let wrong = |config: &Config| config.check().unwrap_err();
    let missing = wrong(&config(&[]));
    assert!(missing.contains("prometheus = { a = \"http://"), "{missing}");
    for url in ["", "https://x:9090", "http://u:p@x", "http://x?q=1"] {
        let why = wrong(&config(&[("a", url)]));
        assert!(why.starts_with("prometheus.a: "), "{why}");
    }
    assert!(wrong(&config(&[("", "http://x")])).contains("no name"));
    assert_eq!(config(&[("a", "http://x:9090/prefix")]).check(), Ok(()));
}
