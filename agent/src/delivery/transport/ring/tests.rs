//! Receivers that fail, are busy, come back, or hang: who gets the batch then.

use std::sync::Arc;

use super::*;
use crate::api::batch::{Accounts, Refused, VERSION};

/// A receiver whose answers are set, and who counts what it was asked.
#[derive(Clone, Debug)]
struct Scripted(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    batches: usize,
    looks: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Mood {
    #[default]
    Takes,
    Down,
    Hangs,
    Busy(u64),
    Refuses,
}

impl Scripted {
    fn set(&self, mood: Mood) {
        self.0.state.lock().unwrap().mood = mood;
    }

    /// Batches and questions since the last call.
    fn asked(&self) -> (usize, usize) {
        let mut state = self.0.state.lock().unwrap();
        (std::mem::take(&mut state.batches), std::mem::take(&mut state.looks))
    }
}

impl Transport for Scripted {
    async fn send(&self, _: &Batch) -> Result<Ack, SendError> {
        let mood = {
            let mut state = self.0.state.lock().unwrap();
            state.batches += 1;
            state.mood
        };
        let words = "scripted".to_owned();
        match mood {
            Mood::Takes => Ok(Ack { acked_seq: 1, stored: 1, duplicates: 0 }),
            Mood::Down => Err(SendError::Unavailable { words }),
            Mood::Hangs => std::future::pending().await,
            Mood::Busy(seconds) => {
                Err(SendError::Busy { retry_after: Some(Duration::from_secs(seconds)), words })
            }
            Mood::Refuses => Err(SendError::Refused { refused: Some(Refused::Envelope), words }),
        }
    }

    async fn ready(&self) -> bool {
        let mut state = self.0.state.lock().unwrap();
        state.looks += 1;
        matches!(state.mood, Mood::Takes | Mood::Refuses)
    }

    fn target(&self) -> String {
        self.0.name.clone()
    }
}

const TIMES: Times = Times {
    answer_within: Duration::from_secs(10),
    pause_min: Duration::from_millis(200),
    pause_max: Duration::from_secs(30),
};

/// A ring, and its receivers in the order in which they are asked.
fn ring(count: usize) -> (Ring<Scripted>, Vec<Scripted>) {
    let receivers: Vec<_> = (0..count)
        .map(|at| Scripted(Arc::new(Inner { name: format!("r{at}"), ..Inner::default() })))
        .collect();
    let ring = Ring::new("node7", receivers, TIMES, RingMetrics::default());
    let ordered = ring.members.iter().map(|member| member.transport.clone()).collect();
    (ring, ordered)
}

fn batch() -> Batch {
    Batch {
        version: VERSION,
        node: "node7".to_owned(),
        boot_id: "b".to_owned(),
        spool_id: "s".to_owned(),
        first_seq: 1,
        accounts: Accounts::default(),
        records: Vec::new(),
        confirmed_by: std::collections::BTreeMap::new(),
    }
}

/// Sends once; who took it.
async fn who(ring: &Ring<Scripted>) -> Option<String> {
    ring.send(&batch()).await.is_ok().then(|| ring.target())
}

#[tokio::test(start_paused = true)]
async fn the_next_one_takes_over_and_the_home_gets_its_node_back() {
    let (ring, receivers) = ring(3);
    let names: Vec<_> = receivers.iter().map(Transport::target).collect();
    assert_eq!(who(&ring).await.as_ref(), Some(&names[0]));
    receivers[0].set(Mood::Down);
    assert_eq!(who(&ring).await.as_ref(), Some(&names[1]), "in the same send");
    assert_eq!(receivers[0].asked(), (2, 0));
    assert_eq!(who(&ring).await.as_ref(), Some(&names[1]));
    assert_eq!(receivers[0].asked(), (0, 0), "it is left alone");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(who(&ring).await.as_ref(), Some(&names[1]));
    assert_eq!(receivers[0].asked(), (0, 1), "asked whether it is ready, and given nothing");
    receivers[0].set(Mood::Takes);
    tokio::time::advance(TIMES.pause_max).await;
    assert_eq!(who(&ring).await.as_ref(), Some(&names[0]), "home again");
    assert_eq!(ring.metrics.failovers.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_while_it_stays_away() {
    let (ring, receivers) = ring(2);
    receivers[0].set(Mood::Down);
    for _ in 0..36_000 {
        assert!(who(&ring).await.is_some());
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    let (batches, looks) = receivers[0].asked();
    // An hour: the first few pauses are short, later ones 15 to 30 s.
    assert!(batches == 1 && (100..300).contains(&looks), "{batches} batches, {looks} questions");
}

#[tokio::test(start_paused = true)]
async fn a_busy_one_is_left_alone_for_as_long_as_it_wants() {
    let (ring, receivers) = ring(2);
    receivers[0].set(Mood::Busy(20));
    assert!(who(&ring).await.is_some());
    receivers[0].set(Mood::Takes);
    tokio::time::advance(Duration::from_secs(19)).await;
    assert!(who(&ring).await.is_some());
    assert_eq!(receivers[0].asked(), (1, 0));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(who(&ring).await, Some(receivers[0].target()));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_costs_its_time_once() {
    let (ring, receivers) = ring(2);
    receivers[0].set(Mood::Hangs);
    let started = Instant::now();
    assert_eq!(who(&ring).await, Some(receivers[1].target()));
    assert_eq!(started.elapsed(), TIMES.answer_within);
    let started = Instant::now();
    assert!(who(&ring).await.is_some());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn while_all_are_away_the_one_whose_pause_ends_first_is_tried() {
    let (ring, receivers) = ring(3);
    receivers.iter().for_each(|one| one.set(Mood::Down));
    let first = ring.send(&batch()).await.unwrap_err();
    assert!(matches!(&first, SendError::Unavailable { words } if words.contains("scripted")), "{first}");
    assert!(receivers.iter().all(|one| one.asked() == (1, 0)), "all were tried");
    for _ in 0..10 {
        assert!(who(&ring).await.is_none());
        let asked: usize = receivers.iter().map(|one| one.asked().0).sum();
        assert_eq!(asked, 1, "one for each attempt: the forwarder keeps the pauses");
    }
    receivers.iter().for_each(|one| one.set(Mood::Takes));
    assert!(who(&ring).await.is_some(), "back with the first attempt");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final() {
    let (ring, receivers) = ring(2);
    receivers[0].set(Mood::Refuses);
    assert!(matches!(ring.send(&batch()).await, Err(SendError::Refused { .. })));
    assert_eq!((receivers[0].asked(), receivers[1].asked()), ((1, 0), (0, 0)));
}
