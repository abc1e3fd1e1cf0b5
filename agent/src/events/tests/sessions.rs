//! What connections are sent, again and not again.

use super::*;

fn values(sent: &[(String, i64)]) -> Vec<&str> {
    sent.iter().map(|(series, _)| series.split('"').nth(1).unwrap()).collect()
}

async fn numbered(events: &Events, numbers: std::ops::Range<u32>) {
    for n in numbers {
        post(events, &format!("n={n}")).await;
    }
}

#[tokio::test]
async fn a_connection_is_sent_each_twice_and_a_new_one_everything() {
    let config = Config { max_samples_per_scrape: 3, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    numbered(&events, 0..4).await;
    let session = Session::default();
    for wanted in [vec!["0", "1", "2"], vec!["0", "1", "2"], vec!["3"], vec!["3"], vec![]] {
        assert_eq!(values(&scrape(&events, &session).await), wanted);
    }
    numbered(&events, 4..5).await;
    assert_eq!(values(&scrape(&events, &session).await), ["4"]);
    numbered(&events, 5..6).await;
    assert_eq!(values(&scrape(&events, &session).await), ["4", "5"]);
    assert_eq!(values(&scrape(&events, &session).await), ["5"]);
    assert_eq!(values(&scrape(&events, &session.clone()).await), Vec::<&str>::new(), "a clone is the same");
    assert_eq!(values(&scrape(&events, &Session::default()).await), ["0", "1", "2"]);
}

#[tokio::test]
async fn a_person_consumes_nothing() {
    let config = Config { peek_samples: 2, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    numbered(&events, 0..3).await;
    let session = Session::default();
    for _ in 0..3 {
        assert_eq!(events.scrape(&session, Scrape::default()).await.events.len(), 2);
    }
    assert_eq!(scrape(&events, &session).await.len(), 3);
}

#[tokio::test]
async fn a_connection_of_several_proves_nothing() {
    let events = open(&Disk::default());
    numbered(&events, 0..2).await;
    let from = |identity, is_forwarded| Scrape { is_scraper: true, identity, is_forwarded, scraper: "" };
    let shared = Session::default();
    for round in 0..6 {
        let asked = from(if round % 2 == 0 { "one" } else { "other" }, false);
        assert_eq!(events.scrape(&shared, asked).await.events.len(), 2, "{round}");
    }
    let forwarded = Session::default();
    for round in 0..6 {
        assert_eq!(events.scrape(&forwarded, from("one", true)).await.events.len(), 2, "{round}");
    }
    // More than one body: round and round.
    let config = Config { max_samples_per_scrape: 2, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    numbered(&events, 0..3).await;
    let session = Session::default();
    for wanted in [2, 1, 2, 1] {
        assert_eq!(events.scrape(&session, from("one", true)).await.events.len(), wanted);
    }
}

/// What a Prometheus that keeps one sample of a series and scrape has in the end.
#[tokio::test]
async fn one_sample_of_a_series_at_a_time_where_that_is_asked_for() {
    let config = Config { compat_252: true, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    for _ in 0..3 {
        post(&events, "n=a").await;
    }
    post(&events, "n=b").await;
    let session = Session::default();
    let mut stored = Vec::new();
    for round in 0..8 {
        let sent = scrape(&events, &session).await;
        let series: std::collections::BTreeSet<_> = sent.iter().map(|(series, _)| series).collect();
        assert_eq!(series.len(), sent.len(), "round {round}");
        stored.extend(sent.into_iter().map(|(_, ts_ms)| ts_ms - NOW_MS));
    }
    assert_eq!(stored, [0, 0, 0, 0, 1, 1, 2, 2]);
}

#[tokio::test]
async fn in_scrape_time_the_promise_says_what_becomes_of_a_lost_answer() {
    let scrape_of = |promise| Config { mode: Mode::ScrapeTime, promise, ..Config::default() };
    for (promise, lost_comes_again) in [(Promise::AtLeastOnce, true), (Promise::AtMostOnce, false)] {
        let disk = Disk::default();
        let events = open_with(&disk, &scrape_of(promise), now);
        for labels in ["n=a", "n=a", "n=b"] {
            post(&events, labels).await;
        }
        let session = Session::default();
        assert_eq!(
            values(&scrape(&events, &session).await),
            ["a", "b"],
            "without timestamps one of a series"
        );
        assert_eq!(values(&scrape(&events, &session).await), ["a"]);
        // The answer is lost: the next question comes on another connection.
        let session = Session::default();
        let again = scrape(&events, &session).await;
        assert_eq!(values(&again), if lost_comes_again { vec!["a"] } else { vec![] }, "{promise:?}");
        assert_eq!(values(&scrape(&events, &session).await), Vec::<&str>::new());
        post(&events, "n=c").await;
        assert_eq!(values(&scrape(&events, &session).await), ["c"]);
        events.close().await;
        // A restart forgets neither who was sent what, nor that the last answer may have got lost.
        let events = open_with(&disk, &scrape_of(promise), now);
        let after = scrape(&events, &Session::default()).await;
        assert_eq!(values(&after), if lost_comes_again { vec!["c"] } else { vec![] }, "{promise:?}");
        let other = Scrape { is_scraper: true, scraper: "other", ..Scrape::default() };
        assert_eq!(events.scrape(&Session::default(), other).await.events.len(), 3, "another scraper");
    }
}

#[tokio::test]
async fn scrapers_are_bounded_in_scrape_time() {
    let config = Config { mode: Mode::ScrapeTime, max_scrapers: 2, ..Config::default() };
    let events = open_with(&Disk::default(), &config, now);
    post(&events, "n=a").await;
    for (scraper, wanted) in [("1", 1), ("2", 1), ("3", 0)] {
        let asked = Scrape { is_scraper: true, scraper, ..Scrape::default() };
        assert_eq!(events.scrape(&Session::default(), asked).await.events.len(), wanted, "{scraper}");
    }
}
