//! The forwarder against a receiver that drops, delays, repeats, refuses and lies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::*;
use crate::api::batch::Refused;
use crate::delivery::spool::SpoolMetrics;
use crate::disk::faulty::{Disk, Random};

/// What the line does with one batch.
#[derive(Clone, Debug)]
enum Fate {
    /// Takes it.
    Take,
    /// Takes only so many records.
    TakeSome(u64),
    /// It never arrives.
    Lose,
    /// It arrives, the answer does not.
    LoseAnswer,
    /// It takes longer than the forwarder waits.
    Hang,
    /// It says so, and more.
    ConfirmMore,
    /// It says so, and does nothing.
    ConfirmNothingStored,
    Busy(Option<u64>),
    RefuseEnvelope,
}

/// A receiver: each number once, as the real one does.
#[derive(Debug, Default)]
struct Receiver {
    stored: Mutex<BTreeMap<Seq, String>>,
    sent: Mutex<Vec<(Instant, Seq, Seq)>>,
    fates: Mutex<Vec<Fate>>,
    poison: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Line(Arc<Receiver>);

impl Receiver {
    fn take(&self, batch: &Batch, count: u64) -> Result<Ack, SendError> {
        let mut stored = self.stored.lock().unwrap();
        let records = || (batch.first_seq..).zip(&batch.records);
        if let Some(index) = batch.records.iter().position(|record| self.poison == Some(record.get())) {
            let (refused, words) = (Some(Refused::Record(index)), "poison".to_owned());
            return Err(SendError::Refused { refused, words });
        }
        let mut new = 0;
        let count = count.min(batch.records.len() as u64);
        for (seq, record) in records().take(usize::try_from(count).unwrap()) {
            let before = stored.insert(seq, record.get().to_owned());
            new += u64::from(before.is_none());
            assert!(before.is_none_or(|before| before == record.get()), "{seq} changed");
        }
        Ok(Ack { acked_seq: batch.first_seq + count - 1, stored: new, duplicates: count - new })
    }
}

impl Transport for Line {
    async fn send(&self, batch: &Batch) -> Result<Ack, SendError> {
        let last = batch.first_seq + batch.records.len() as u64 - 1;
        self.0.sent.lock().unwrap().push((Instant::now(), batch.first_seq, last));
        let fate = self.0.fates.lock().unwrap().pop().unwrap_or(Fate::Take);
        let lost = Err(SendError::Unavailable { words: "lost".to_owned() });
        match fate {
            Fate::Take => self.0.take(batch, u64::MAX),
            Fate::TakeSome(count) => self.0.take(batch, count),
            Fate::Lose => lost,
            Fate::LoseAnswer => self.0.take(batch, u64::MAX).and(lost),
            Fate::Hang => std::future::pending().await,
            Fate::ConfirmMore => {
                Ok(Ack { acked_seq: last + 1, stored: last + 2 - batch.first_seq, duplicates: 0 })
            }
            Fate::ConfirmNothingStored => Ok(Ack { acked_seq: last, stored: 0, duplicates: 0 }),
            Fate::Busy(seconds) => Err(SendError::Busy {
                retry_after: seconds.map(Duration::from_secs),
                words: "busy".to_owned(),
            }),
            Fate::RefuseEnvelope => {
                let words = "version 1 is not known here".to_owned();
                Err(SendError::Refused { refused: Some(Refused::Envelope), words })
            }
        }
    }

    async fn ready(&self) -> bool {
        true
    }

    fn target(&self) -> String {
        "test".to_owned()
    }
}

fn spool() -> Spool {
    Spool::open_on(Disk::default().connect(), &spool::Config::default(), SpoolMetrics::default(), || 7)
        .unwrap()
}

fn forwarder(spool: &Spool, receiver: &Arc<Receiver>) -> Forwarder<Line> {
    let config = Config { batch_records: 10, ..Config::default() };
    let sender = Sender { node: "n".to_owned(), boot_id: "b".to_owned() };
    Forwarder::new(spool.clone(), Line(receiver.clone()), &config, sender, ForwardMetrics::default(), || 9)
}

fn receiver(mut fates: Vec<Fate>, poison: Option<&'static str>) -> Arc<Receiver> {
    fates.reverse();
    Arc::new(Receiver { fates: Mutex::new(fates), poison, ..Receiver::default() })
}

async fn fill(spool: &Spool, count: u64) {
    spool.append_many((1..=count).map(|seq| seq.to_string().into_bytes()).collect()).await.unwrap();
}

/// Steps until nothing waits; returns the pauses.
async fn drain(forwarder: &mut Forwarder<Line>) -> Vec<Duration> {
    let mut pauses = Vec::new();
    for _ in 0..10_000 {
        match forwarder.step().await {
            Step::Progress => {}
            Step::Idle => return pauses,
            Step::Failed(pause) => pauses.push(pause),
        }
    }
    panic!("never ends: {pauses:?}");
}

fn assert_all(spool: &Spool, receiver: &Receiver, count: u64) {
    let accounts = spool.accounts();
    assert_eq!((accounts.acknowledged, accounts.spooled), (count, 0), "{accounts:?}");
    let stored = receiver.stored.lock().unwrap();
    assert!(
        stored
            .iter()
            .map(|(seq, record)| (*seq, record.clone()))
            .eq((1..=count).map(|seq| (seq, seq.to_string())))
    );
}

#[tokio::test(start_paused = true)]
async fn a_bad_line_loses_and_doubles_nothing() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let fates = (0..40).map(|_| match random.below(9) {
            0 => Fate::Take,
            1 => Fate::TakeSome(random.below(10) as u64),
            2 => Fate::Lose,
            3 => Fate::LoseAnswer,
            4 => Fate::Hang,
            5 => Fate::ConfirmMore,
            6 => Fate::ConfirmNothingStored,
            7 => Fate::Busy(None),
            _ => Fate::RefuseEnvelope,
        });
        let (spool, receiver) = (spool(), receiver(fates.collect(), None));
        let mut forwarder = forwarder(&spool, &receiver);
        fill(&spool, 95).await;
        drain(&mut forwarder).await;
        assert_all(&spool, &receiver, 95);
    }
}

/// The control: a forwarder that believed every confirmation would lose what the liar did not store.
#[tokio::test]
async fn a_lie_counts_for_nothing() {
    for lie in [Fate::ConfirmMore, Fate::ConfirmNothingStored] {
        let (spool, receiver) = (spool(), receiver(vec![lie], None));
        let mut forwarder = forwarder(&spool, &receiver);
        fill(&spool, 5).await;
        assert!(matches!(forwarder.step().await, Step::Failed(_)));
        assert_eq!(spool.accounts().spooled, 5);
        assert_eq!(forwarder.metrics.forward_lies.get(), 1);
        let link = forwarder.link().borrow().clone();
        assert!(link.last_error.unwrap().starts_with("receiver confirms"));
        let lie = receiver.stored.lock().unwrap().is_empty();
        assert!(lie, "nothing was stored, and everything was confirmed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_keeps_its_boundaries_until_it_is_answered() {
    let (spool, receiver) = (spool(), receiver(vec![Fate::Lose, Fate::LoseAnswer, Fate::Hang], None));
    let mut forwarder = forwarder(&spool, &receiver);
    fill(&spool, 5).await;
    for _ in 0..3 {
        assert!(matches!(forwarder.step().await, Step::Failed(_)));
        fill_more(&spool).await;
    }
    assert_eq!(forwarder.step().await, Step::Progress);
    assert_eq!(forwarder.step().await, Step::Progress);
    let sent = receiver.sent.lock().unwrap();
    let ranges: Vec<_> = sent.iter().map(|(_, first, last)| (*first, *last)).collect();
    assert_eq!(ranges, [(1, 5), (1, 5), (1, 5), (1, 5), (6, 8)]);
}

async fn fill_more(spool: &Spool) {
    spool.append(b"0".to_vec()).await.unwrap();
}

#[tokio::test]
async fn a_poisoned_record_is_found_dropped_and_counted() {
    let (spool, receiver) = (spool(), receiver(Vec::new(), Some("7")));
    let mut forwarder = forwarder(&spool, &receiver);
    fill(&spool, 30).await;
    let pauses = drain(&mut forwarder).await;
    assert_eq!(pauses.len(), 1);
    let accounts = spool.accounts();
    assert_eq!((accounts.acknowledged, accounts.dropped["refused"], accounts.spooled), (29, 1, 0));
    assert_eq!(receiver.stored.lock().unwrap().len(), 29);
    assert!(receiver.sent.lock().unwrap().len() < 12);
}

#[tokio::test]
async fn what_is_no_json_never_leaves_and_never_blocks() {
    let (spool, receiver) = (spool(), receiver(Vec::new(), None));
    let mut forwarder = forwarder(&spool, &receiver);
    spool.append_many(vec![b"1".to_vec(), b"{".to_vec(), vec![0xff], b"4".to_vec()]).await.unwrap();
    drain(&mut forwarder).await;
    assert_eq!(spool.accounts().dropped["refused"], 2);
    assert_eq!(receiver.stored.lock().unwrap().keys().copied().collect::<Vec<_>>(), [1, 4]);
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_does_not_empty_the_spool() {
    let (spool, receiver) = (spool(), receiver(Vec::new(), Some("0")));
    spool.append_many(vec![b"0".to_vec(); 1_000]).await.unwrap();
    let mut forwarder = forwarder(&spool, &receiver);
    let mut passed = Duration::ZERO;
    while passed < Duration::from_secs(600) {
        if let Step::Failed(pause) = forwarder.step().await {
            passed += pause;
        }
    }
    let refused = spool.accounts().dropped["refused"];
    assert!((5..60).contains(&refused), "{refused} records dropped in ten minutes");

    let deaf = self::receiver(vec![Fate::RefuseEnvelope; 200], None);
    let mut forwarder = self::forwarder(&spool, &deaf);
    for _ in 0..200 {
        assert!(matches!(forwarder.step().await, Step::Failed(_)));
    }
    assert_eq!(spool.accounts().dropped["refused"], refused);
}

/// The spool's thread does not know the paused clock, so pauses are read, not slept.
#[tokio::test]
async fn a_dead_receiver_is_asked_ever_less_often_and_then_at_once_again() {
    let mut fates = vec![Fate::Lose; 60];
    fates.extend([Fate::Take, Fate::Lose]);
    let (spool, receiver) = (spool(), receiver(fates, None));
    let mut forwarder = forwarder(&spool, &receiver);
    fill(&spool, 15).await;
    let pauses = drain(&mut forwarder).await;
    let millis = |range: std::ops::Range<u64>, pause: &Duration| {
        range.contains(&u64::try_from(pause.as_millis()).unwrap())
    };
    assert!(millis(200..400, &pauses[0]), "{pauses:?}");
    assert!(pauses[10..60].iter().all(|pause| millis(15_000..30_001, pause)), "{pauses:?}");
    assert!(pauses[..60].iter().sum::<Duration>() > Duration::from_secs(600));
    assert!(millis(200..400, &pauses[60]), "a success begins a new series: {pauses:?}");
    assert_all(&spool, &receiver, 15);
    let link = forwarder.link().borrow().clone();
    assert_eq!(
        (link.failures, link.last_success_at_ns, link.last_error.as_deref()),
        (0, Some(9), Some("lost"))
    );
}

#[tokio::test]
async fn a_running_forwarder_waits_and_goes_on() {
    let (spool, receiver) = (spool(), receiver(vec![Fate::Lose, Fate::Lose], None));
    let (cancel, start) = (CancellationToken::new(), Instant::now());
    let running = tokio::spawn(forwarder(&spool, &receiver).run(cancel.clone()));
    fill(&spool, 5).await;
    let mut changes = spool.status();
    changes.wait_for(|status| status.ledger.acknowledged == 5).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    spool.append(b"6".to_vec()).await.unwrap();
    changes.wait_for(|status| status.ledger.acknowledged == 6).await.unwrap();
    cancel.cancel();
    running.await.unwrap();
    assert_all(&spool, &receiver, 6);
}

#[tokio::test(start_paused = true)]
async fn a_busy_receiver_is_left_alone_as_long_as_it_asks() {
    let (spool, receiver) = (spool(), receiver(vec![Fate::Busy(Some(7)), Fate::Busy(None)], None));
    let mut forwarder = forwarder(&spool, &receiver);
    fill(&spool, 1).await;
    let pauses = drain(&mut forwarder).await;
    assert!(pauses[0] >= Duration::from_secs(7) && pauses[0] < Duration::from_secs(8), "{pauses:?}");
    assert!(pauses[1] < Duration::from_secs(1), "{pauses:?}");
}

#[tokio::test]
async fn stopping_empties_the_spool_within_the_grace() {
    let (spool, receiver) = (spool(), receiver(Vec::new(), None));
    fill(&spool, 95).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    forwarder(&spool, &receiver).run(cancel).await;
    assert_all(&spool, &receiver, 95);
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_receiver_that_hangs() {
    let (spool, receiver) = (spool(), receiver(vec![Fate::Hang; 9], None));
    fill(&spool, 95).await;
    let cancel = CancellationToken::new();
    let start = Instant::now();
    let running = tokio::spawn(forwarder(&spool, &receiver).run(cancel.clone()));
    time::sleep(Duration::from_secs(1)).await;
    cancel.cancel();
    running.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(7));
    assert_eq!(spool.accounts().spooled, 95);
}
