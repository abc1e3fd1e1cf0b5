//! What is refused, what is let go, and questions that ask too much.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

#[tokio::test]
async fn what_is_refused_is_counted_and_the_rest_stored() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_series: 4, max_series_per_source: 3, ..Config::default() };
    let engine = Embedded::open(directory.path(), &config, Metrics::default(), clock).await.unwrap();
    let batch = vec![
        one(0, NOW_MS, 1.0),
        one(1, NOW_MS, 1.0),
        one(2, NOW_MS - DAY_MS, 1.0),
        one(3, -1, 1.0),
        one(3, NOW_MS + 2 * 3_600_000, 1.0),
        one(3, NOW_MS, 1.0),
        one(4, NOW_MS, 1.0),
    ];
    let first = engine.append_of("a", batch).await.unwrap();
    let refused = [(Refused::SourceSeriesLimit, 1), (Refused::TooOld, 1), (Refused::TooNew, 1)];
    assert_eq!(first, Appended { stored: 4, refused: refused.into() });
    let second = engine.append_of("b", vec![one(5, NOW_MS, 1.0), one(6, NOW_MS, 1.0)]).await.unwrap();
    assert_eq!(second, Appended { stored: 1, refused: [(Refused::SeriesLimit, 1)].into() });
    // Who is known goes on.
    let third = engine.append_of("a", vec![one(0, NOW_MS + 1, 1.0)]).await.unwrap();
    assert_eq!(third, Appended { stored: 1, ..Appended::default() });
    // After a restart too.
    engine.close().await;
    let engine = Embedded::open(directory.path(), &config, Metrics::default(), clock).await.unwrap();
    let fourth = engine.append_of("a", vec![one(7, NOW_MS, 1.0)]).await.unwrap();
    assert_eq!(fourth.refused, [(Refused::SeriesLimit, 1)].into());
}

static DAYS_LATER: AtomicI64 = AtomicI64::new(0);

#[expect(clippy::disallowed_methods, reason = "a file's age is real time")]
fn real_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test]
async fn days_go_with_their_files_and_what_came_late_stays_as_long() {
    // From the present on: a file's age is asked of the file system.
    let clock: WallClock = || (real_ms() + DAYS_LATER.load(Ordering::Relaxed) * DAY_MS) * 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let config = Config { retention_days: 3, ..Config::default() };
    let engine = Embedded::open(directory.path(), &config, Metrics::default(), clock).await.unwrap();
    let old_ms = real_ms() - 100 * DAY_MS;
    engine.append_of("a", vec![one(1, old_ms, -1.0)]).await.unwrap();
    for day in 0..6 {
        DAYS_LATER.store(day, Ordering::Relaxed);
        engine.append_of("a", vec![one(1, real_ms() + day * DAY_MS, day as f64)]).await.unwrap();
        engine.pack().await;
        engine.let_go().await;
        // What is old, but came on the first day, goes with that day.
        let wanted = [2, 3, 4, 4, 4, 4][usize::try_from(day).unwrap()];
        assert_eq!(engine.0.shelf.days().unwrap().len(), wanted, "day {day}");
    }
    let read = engine.read(&question(Selection::default(), ALWAYS)).await.unwrap();
    assert_eq!(read[0].samples.iter().map(|sample| sample.value).collect::<Vec<_>>(), [2.0, 3.0, 4.0, 5.0]);
    engine.close_idle(Duration::ZERO).await;
    assert_eq!(engine.0.open.lock().await.len(), 1);
    // A closed day is opened by who asks for it.
    assert_eq!(engine.read(&question(Selection::default(), ALWAYS)).await.unwrap(), read);
    // A clock that jumps back: what is too new then is said so, and nothing that is there is let go.
    DAYS_LATER.store(0, Ordering::Relaxed);
    engine.let_go().await;
    assert_eq!(engine.0.shelf.days().unwrap().len(), 4);
    let ahead = engine.append_of("a", vec![one(1, real_ms() + 5 * DAY_MS, 0.0)]).await.unwrap();
    assert_eq!(ahead.refused, [(Refused::TooNew, 1)].into());
}

#[tokio::test]
async fn beyond_the_limit_on_bytes_the_oldest_days_go() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { max_size_bytes: 16 << 20, ..Config::default() };
    let engine = Embedded::open(directory.path(), &config, Metrics::default(), clock).await.unwrap();
    for day in 0..20 {
        engine.append_of("a", vec![one(1, NOW_MS - day * DAY_MS, 1.0)]).await.unwrap();
    }
    let of = |engine: &Embedded| {
        engine.0.shelf.days().unwrap().iter().map(|day| engine.0.shelf.size_bytes(*day)).sum::<u64>()
    };
    assert!(of(&engine) > config.max_size_bytes);
    engine.let_go().await;
    assert!(of(&engine) <= config.max_size_bytes && engine.0.shelf.days().unwrap().len() > 2);
    assert!(engine.0.shelf.has(NOW_MS / DAY_MS), "today's stays");
}

#[tokio::test]
async fn a_question_has_its_limits_and_no_half_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).await;
    for series in 0..5 {
        let samples = (0..200).map(|n| Sample { at_ms: NOW_MS - n * 1_000, value: 1.0 }).collect();
        engine.append_of("a", vec![SeriesSamples { labels: labels(series), samples }]).await.unwrap();
    }
    let all = question(Selection::default(), ALWAYS);
    let of = |max_series, max_samples, buckets| Query { max_series, max_samples, buckets, ..all.clone() };
    let series = engine.read(&of(4, 10_000, None)).await;
    assert!(matches!(series, Err(Error::TooMuch { what: "series", limit: 4 })));
    let samples = engine.read(&of(5, 999, None)).await;
    assert!(matches!(samples, Err(Error::TooMuch { what: "samples", limit: 999 })));
    assert_eq!(engine.read(&of(5, 1_000, None)).await.unwrap().len(), 5);
    let minutes = Some((60_000, Aggregation::Count));
    assert_eq!(engine.read(&of(5, 25, minutes)).await.unwrap()[0].samples.len(), 4);
    assert!(matches!(engine.find(&Selection::default(), ALWAYS, 4).await, Err(Error::TooMuch { .. })));
    let names = engine.label_names(ALWAYS).await.unwrap();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["__name__", "n", "third"]);
    let values = engine.label_values("n", &Selection::metric("even"), ALWAYS).await.unwrap();
    assert_eq!(values.into_iter().collect::<Vec<_>>(), ["0", "2", "4"]);
    // Of years in which there is nothing.
    let long_ago = Range { from_ms: i64::MIN, to_ms: NOW_MS - 40 * DAY_MS };
    assert_eq!(engine.read(&question(Selection::default(), long_ago)).await.unwrap(), []);
    let backwards = Range { from_ms: NOW_MS, to_ms: NOW_MS - 1 };
    assert_eq!(engine.read(&question(Selection::default(), backwards)).await.unwrap(), []);
}

#[tokio::test]
async fn of_series_that_share_a_label_the_newest_is_told_over_days() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path()).await;
    let at = |series, at_ms| one(series, at_ms, 1.0);
    // By `third`: 0 and 3 and 6, 1 and 4, 2.
    engine.append_of("a", vec![at(0, NOW_MS - 5), at(1, NOW_MS - 5), at(2, NOW_MS - DAY_MS)]).await.unwrap();
    engine.append_of("a", vec![at(3, NOW_MS - 4), at(4, NOW_MS - DAY_MS), at(6, NOW_MS - 4)]).await.unwrap();
    let sorted = |mut found: Vec<Found>| {
        found.sort_by_key(|found| found.labels.get("third").map(str::to_owned));
        found
    };
    let newest = sorted(engine.newest(&Selection::default(), ALWAYS, &["third"], 3).await.unwrap());
    let of = |series, last_ms| Found { labels: Arc::new(labels(series)), last_ms };
    // Of two of one time the first by metric: `even` is before `odd`.
    assert_eq!(newest, [of(6, NOW_MS - 4), of(1, NOW_MS - 5), of(2, NOW_MS - DAY_MS)]);
    let found = engine.find(&Selection::default(), ALWAYS, 100).await.unwrap();
    assert_eq!(sorted(newest_of(&found, &["third"])), newest, "as any other store is asked");
    let today = Range { from_ms: NOW_MS - 10, to_ms: NOW_MS };
    assert_eq!(engine.newest(&Selection::metric("odd"), today, &["third"], 3).await.unwrap().len(), 2);
    assert!(matches!(
        engine.newest(&Selection::default(), ALWAYS, &["third"], 2).await,
        Err(Error::TooMuch { .. })
    ));
}
