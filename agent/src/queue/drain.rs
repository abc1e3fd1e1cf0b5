//! How soon there will be room in a queue that is full: from how fast its groups acknowledged lately.
//!
//! The slowest group of the slowest partition decides, since a record is held for as long as one group owes it. What
//! nobody has acknowledged for a while drains at no rate at all. The same for both engines, and forgotten with the process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Settle, Verdict};

/// An acknowledgement counts half as much after seven seconds: longer than a consumer's pauses between batches, short
/// enough to notice that it is gone.
const FADE_S: f64 = 10.0;

/// Partitions of groups that are measured, some 150 bytes each. Beyond it those that were quiet make room.
const MAX_METERS: usize = 4_096;

/// A producer that stays away longer comes back to a queue that stands empty.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drain(Mutex<HashMap<(String, u32, String), Meter>>);

/// Acknowledgements a second, fading.
#[derive(Clone, Copy, Debug)]
struct Meter {
    per_second: f64,
    at: Instant,
}

impl Meter {
    fn rate(&self, now: Instant) -> f64 {
        self.per_second * (-now.saturating_duration_since(self.at).as_secs_f64() / FADE_S).exp()
    }
}

impl Drain {
    /// Notes what a group has settled.
    pub(super) fn settled(&self, settle: &Settle, done: &[bool], now: Instant) {
        if !matches!(settle.verdict, Verdict::Ack) {
            return;
        }
        let mut counts = HashMap::<u32, u32>::new();
        for (id, _) in settle.ids.iter().zip(done).filter(|(_, done)| **done) {
            *counts.entry(id.partition).or_default() += 1;
        }
        // Plain numbers: whoever panicked left them whole.
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (partition, count) in counts {
            let place = (settle.topic.clone(), partition, settle.group.clone());
            if meters.len() >= MAX_METERS && !meters.contains_key(&place) {
                meters.retain(|_, meter| meter.rate(now) > 1.0 / MAX_WAIT.as_secs_f64());
                if meters.len() >= MAX_METERS {
                    continue;
                }
            }
            let meter = meters.entry(place).or_insert(Meter { per_second: 0.0, at: now });
            *meter = Meter { per_second: meter.rate(now) + f64::from(count) / FADE_S, at: now };
        }
    }

    /// A group that is no more holds nothing back.
    pub(super) fn forgot(&self, topic: &str, group: &str) {
        let mut meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        meters.retain(|(of, _, by), _| of != topic || by != group);
    }

    /// Until so many records of a topic, or of one of its partitions, have room: at most [`MAX_WAIT`], which is also the
    /// answer where nobody is known to acknowledge anything.
    pub(super) fn room_within(
        &self,
        topic: &str,
        partition: Option<u32>,
        records: usize,
        now: Instant,
    ) -> Duration {
        let meters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = meters
            .iter()
            .filter(|((of, index, _), _)| of == topic && partition.is_none_or(|one| one == *index));
        let slowest = of.map(|(_, meter)| meter.rate(now)).min_by(f64::total_cmp).unwrap_or_default();
        let records = f64::from(u32::try_from(records).unwrap_or(u32::MAX));
        // Infinite where nothing drains.
        Duration::try_from_secs_f64(records / slowest).unwrap_or(MAX_WAIT).min(MAX_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::MessageId;
    use super::*;

    fn ack(drain: &Drain, group: &str, partition: u32, count: usize) {
        let ids = vec![MessageId { epoch: 1, partition, offset: 0 }; count];
        let (topic, group) = ("t".to_owned(), group.to_owned());
        let settle = Settle { topic, partition: None, group, verdict: Verdict::Ack, ids };
        drain.settled(&settle, &vec![true; count], Instant::now());
    }

    fn wait_s(drain: &Drain, partition: Option<u32>, records: usize) -> f64 {
        drain.room_within("t", partition, records, Instant::now()).as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_drains_is_asked_again_when_there_is_room() {
        let drain = Drain::default();
        assert_eq!(wait_s(&drain, None, 1), 10.0, "nobody acknowledges anything");
        for _ in 0..600 {
            ack(&drain, "fast", 0, 100);
            ack(&drain, "slow", 0, 5);
            ack(&drain, "fast", 1, 100);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        // The slow group takes 50 records a second from one partition.
        for (partition, records, expected_s) in [
            (Some(0), 100, 2.0),
            (None, 100, 2.0),
            (Some(1), 5_000, 5.0),
            (Some(1), 1, 0.001),
            (Some(0), 5_000, 10.0),
        ] {
            let wait_s = wait_s(&drain, partition, records);
            assert!((wait_s - expected_s).abs() <= expected_s * 0.05, "{records} of {partition:?}: {wait_s}");
        }
        drain.forgot("t", "slow");
        assert!(wait_s(&drain, Some(0), 100) < 0.2, "a group that is forgotten holds nothing back");
        tokio::time::advance(Duration::from_secs(120)).await;
        assert_eq!(wait_s(&drain, Some(0), 1), 10.0, "its consumers are gone");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_acknowledged_drains_nothing() {
        let drain = Drain::default();
        let ids = vec![MessageId { epoch: 1, partition: 0, offset: 0 }; 100];
        let settle = |verdict| Settle {
            topic: "t".to_owned(),
            partition: None,
            group: "g".to_owned(),
            verdict,
            ids: ids.clone(),
        };
        drain.settled(&settle(Verdict::Nak(Duration::ZERO)), &[true; 100], Instant::now());
        drain.settled(&settle(Verdict::Ack), &[false; 100], Instant::now());
        assert_eq!(wait_s(&drain, None, 1), 10.0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_has_an_end() {
        let drain = Drain::default();
        for n in 0..10_000_u32 {
            ack(&drain, &format!("g{n}"), n % 4, 1);
        }
        assert!(drain.0.lock().unwrap().len() <= MAX_METERS);
        ack(&drain, "busy", 9, 50);
        assert_eq!(wait_s(&drain, Some(9), 10), 2.0, "those that were quiet made room");
    }
}
