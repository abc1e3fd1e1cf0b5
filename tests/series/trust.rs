//! Whom remote write 2.0 is believed of, and what a repeat is.

use std::collections::BTreeMap;

use sextant::domain::series::Selection;
use sextant::series::remote::wire::{self, Version};
use sextant::series::remote::{Config, Protocol};
use sextant::series::{Appended, Refused};
use sextant_tests::faulty::{Fault, Proxy};

use crate::place::{Client, Kind, Place, config, now_ms, question, series};

fn all(stored: u64) -> Appended {
    Appended { stored, ..Appended::default() }
}

#[tokio::test]
async fn the_second_version_is_used_where_it_is_proven_and_nowhere_else() {
    for (kind, fallbacks) in [(Kind::Prometheus3, 0), (Kind::Prometheus2, 1), (Kind::VictoriaMetrics, 1)] {
        let place = Place::start(kind);
        let now_ms = now_ms();
        // The control: such a store says that all is well, and has nothing.
        if fallbacks > 0 {
            let lost = wire::encode(Version::Two, &[series("lost", &[], &[(now_ms, 1.0)])]);
            let answer = reqwest::Client::new()
                .post(format!("{}/api/v1/write", place.url()))
                .header("content-type", Version::Two.content_type())
                .header("content-encoding", "snappy")
                .header("x-prometheus-remote-write-version", Version::Two.number())
                .body(lost)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status().as_u16(), 204, "{kind:?}");
        }
        let client = place.client(Protocol::RemoteWrite2);
        let batch = vec![series("kept", &[("a", "1")], &[(now_ms - 1_000, 1.0), (now_ms, 2.0)])];
        assert_eq!(client.remote.append(batch.clone()).await.unwrap(), all(2));
        assert_eq!(client.counted("fallbacks"), fallbacks, "{kind:?}");
        place.flush();
        client.shows(&question(Selection::metric("kept"), now_ms - 1_000, now_ms), &batch).await;
        client.shows(&question(Selection::metric("lost"), now_ms - 1_000, now_ms), &[]).await;
        let more = vec![series("kept", &[("a", "1")], &[(now_ms + 1, 3.0)])];
        assert_eq!(client.remote.append(more).await.unwrap(), all(1));
        assert_eq!(
            (client.counted("requests"), client.counted("retries")),
            (2 + fallbacks, 0),
            "it is remembered"
        );
    }
}

#[tokio::test]
async fn a_request_whose_answer_got_lost_is_stored_once() {
    for kind in Kind::ALL {
        let place = Place::start(kind);
        let proxy = Proxy::start(place.url().trim_start_matches("http://"), |request| {
            if request.number == 0 { Fault::ResetBeforeAnswer } else { Fault::None }
        });
        let proxy = proxy.unwrap();
        let there = config(Protocol::RemoteWrite, &proxy.url(), &place.url());
        let client = Client::new(&there);
        let now_ms = now_ms();
        let batch =
            vec![series("twice", &[], &[(now_ms - 2_000, 1.0), (now_ms - 1_000, 2.0), (now_ms, 3.0)])];
        assert_eq!(client.remote.append(batch.clone()).await.unwrap(), all(3), "{kind:?}");
        let done = proxy.done();
        let again = if kind == Kind::VictoriaMetrics { 1 } else { done["none"] };
        assert_eq!(done, BTreeMap::from([("reset_before_answer", 1), ("none", again)]));
        place.flush();
        let whole = question(Selection::metric("twice"), now_ms - 2_000, now_ms);
        client.shows(&whole, &batch).await;
        let refuses = kind != Kind::VictoriaMetrics;
        assert_eq!(client.counted("there_already"), u64::from(refuses), "{kind:?}");

        // The control: to one who never sent it the same words are a loss, of what is not new alone.
        let stranger = Client::new(&Config { retry_ms: 0, ..there });
        let mut more = batch.clone();
        more.push(series("once", &[], &[(now_ms, 4.0)]));
        let appended = stranger.remote.append(more).await.unwrap();
        let refused = if refuses { [(Refused::ByStore, 2)].into() } else { BTreeMap::new() };
        assert_eq!(appended, Appended { stored: if refuses { 2 } else { 4 }, refused }, "{kind:?}");
        place.flush();
        client
            .shows(
                &question(Selection::metric("once"), now_ms, now_ms),
                &[series("once", &[], &[(now_ms, 4.0)])],
            )
            .await;
        client.shows(&whole, &batch).await;
    }
}

#[tokio::test]
async fn a_request_that_never_arrived_is_not_taken_for_stored() {
    for kind in Kind::ALL {
        let place = Place::start(kind);
        let proxy = Proxy::start(place.url().trim_start_matches("http://"), |request| {
            if request.number == 1 { Fault::Reset } else { Fault::None }
        });
        let proxy = proxy.unwrap();
        let client = Client::new(&config(Protocol::RemoteWrite, &proxy.url(), &place.url()));
        let now_ms = now_ms();
        let newest = vec![series("lost", &[("n", "3")], &[(now_ms - 1_500, 1.0)])];
        assert_eq!(client.remote.append(newest).await.unwrap(), all(1), "{kind:?}");
        let of = |n: usize| {
            series("lost", &[("n", &n.to_string())], &[(now_ms - 2_000, 1.0), (now_ms - 1_000, 2.0)])
        };
        let batch: Vec<_> = (0..9).map(of).collect();
        let appended = client.remote.append(batch.clone()).await.unwrap();
        let refuses = kind != Kind::VictoriaMetrics;
        let refused = if refuses { [(Refused::ByStore, 1)].into() } else { BTreeMap::new() };
        assert_eq!(appended, Appended { stored: if refuses { 17 } else { 18 }, refused }, "{kind:?}");
        assert_eq!(client.counted("there_already"), 0, "{kind:?}");
        place.flush();
        let mut there = batch;
        there[3].samples[0].at_ms = now_ms - 1_500;
        if !refuses {
            there[3].samples.insert(0, of(3).samples[0]);
        }
        client.shows(&question(Selection::metric("lost"), now_ms - 2_000, now_ms), &there).await;
    }
}

#[tokio::test]
async fn every_store_takes_an_empty_write() {
    // Or what it refuses of samples would not be believed.
    for kind in Kind::ALL {
        let place = Place::start(kind);
        let empty = wire::encode(Version::One, &[]);
        assert_eq!(posted(&place, "api/v1/write", Version::One.content_type(), empty).await, 204, "{kind:?}");
        if kind == Kind::VictoriaMetrics {
            assert_eq!(posted(&place, "api/v2/write", "text/plain", b"# nothing\n".to_vec()).await, 204);
        }
    }
}

async fn posted(place: &Place, path: &str, content_type: &str, body: Vec<u8>) -> u16 {
    let request =
        reqwest::Client::new().post(format!("{}/{path}", place.url())).header("content-type", content_type);
    let packed = if content_type.starts_with("application") { "snappy" } else { "identity" };
    request.header("content-encoding", packed).body(body).send().await.unwrap().status().as_u16()
}
