//! Stores that are down, slow, full, or behind something that spoils requests.

use std::time::Duration;

use sextant::domain::series::{Selection, SeriesSamples};
use sextant::series::Error;
use sextant::series::remote::wire::{self, Version};
use sextant::series::remote::{Config, Protocol};
use sextant_tests::faulty::{Fault, Proxy, answer};

use crate::place::{Client, Kind, Place, config, now_ms, question, series};

/// The `n`th of a series of batches, in the order of time.
fn batch(from_ms: i64, n: i64) -> Vec<SeriesSamples> {
    let samples = |start: f64| [0, 1, 2].map(|i| (from_ms + 10 * n + i, start + i as f64));
    vec![series("m", &[("a", "1")], &samples(n as f64)), series("m", &[("a", "2")], &samples(-(n as f64)))]
}

fn joined(from_ms: i64, batches: i64) -> Vec<SeriesSamples> {
    let mut all = batch(from_ms, 0);
    for n in 1..batches {
        all.iter_mut().zip(batch(from_ms, n)).for_each(|(one, more)| one.samples.extend(more.samples));
    }
    all
}

fn busy(status: &str) -> Vec<u8> {
    let text = String::from_utf8(answer(status, "\"full\"")).unwrap();
    text.replacen("\r\n", "\r\nRetry-After: 1\r\n", 1).into_bytes()
}

#[tokio::test]
async fn whatever_happens_to_requests_every_sample_is_there_once() {
    for kind in Kind::ALL {
        let place = Place::start(kind);
        let faults = [
            Fault::None,
            Fault::Reset,
            Fault::Stall,
            Fault::ResetBeforeAnswer,
            Fault::Answer(busy("429 Too Many Requests")),
            Fault::CutRequest,
            Fault::Delay(Duration::from_millis(100)),
            Fault::CutAnswer,
            Fault::Answer(busy("503 Service Unavailable")),
            Fault::Twice,
            Fault::ResetBehindHeaders,
            Fault::HalfClose,
        ];
        let count = faults.len();
        let address = place.url();
        // A good one behind each fault, so that each batch gets through; halves and empty writes are left alone.
        let mut next = 0..;
        let proxy = Proxy::start(address.trim_start_matches("http://"), move |request| {
            let whole = wire::decode(Version::One, &request.body).is_ok_and(|batch| batch.series.len() == 2);
            let number: usize = if whole { next.next().unwrap() } else { 1 };
            if number.is_multiple_of(2) { faults[number / 2 % count].clone() } else { Fault::None }
        });
        let proxy = proxy.unwrap();
        let client = Client::new(&config(Protocol::RemoteWrite, &proxy.url(), &place.url()));
        let from_ms = now_ms() - 60_000;
        let batches = 12;
        for n in 0..batches {
            let appended = client.remote.append(batch(from_ms, n)).await.unwrap();
            assert_eq!((appended.stored, appended.refused.len()), (6, 0), "{kind:?} {n} {:?}", proxy.done());
        }
        place.flush();
        client
            .shows(&question(Selection::metric("m"), from_ms, from_ms + 1_000), &joined(from_ms, batches))
            .await;
        assert!(proxy.done().len() > 6, "{:?}", proxy.done());
    }
}

#[tokio::test]
async fn a_store_that_was_down_gets_what_it_missed() {
    for kind in Kind::ALL {
        let mut place = Place::start(kind);
        let client = place.client(Protocol::RemoteWrite);
        let from_ms = now_ms() - 60_000;
        client.remote.append(batch(from_ms, 0)).await.unwrap();
        place.flush();
        client.shows(&question(Selection::metric("m"), from_ms, from_ms + 1_000), &joined(from_ms, 1)).await;
        place.stop();
        // Told at last, where patience is short, and no sample is counted as anything.
        let hasty = Client::new(&Config {
            retry_ms: 300,
            ..config(Protocol::RemoteWrite, &place.url(), &place.url())
        });
        assert!(matches!(hasty.remote.append(batch(from_ms, 1)).await, Err(Error::Remote(_))));
        assert!(hasty.remote.status().borrow().degraded.is_some());
        let read = hasty.remote.read(&question(Selection::metric("m"), from_ms, from_ms)).await;
        assert!(matches!(read, Err(Error::Remote(_))), "{read:?}");
        let revived = async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let revive = move || {
                place.revive();
                place
            };
            tokio::task::spawn_blocking(revive).await.unwrap()
        };
        let (appended, place) = tokio::join!(client.remote.append(batch(from_ms, 1)), revived);
        assert_eq!(appended.unwrap().stored, 6);
        assert_eq!(hasty.remote.append(batch(from_ms, 2)).await.unwrap().stored, 6);
        assert!(hasty.remote.status().borrow().degraded.as_ref().is_some_and(|words| words.contains("read")));
        place.flush();
        client.shows(&question(Selection::metric("m"), from_ms, from_ms + 1_000), &joined(from_ms, 3)).await;
    }
}
