//! What one group has of one partition at this receiver: in memory, and only what the servers do not tell.
//!
//! A delivered record is `pending` until it is acknowledged here, or known to be. One that the servers delivered and no
//! consumer took, or took and gave back, is `ready`: it goes to the next one that asks, and its delivery counts once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

use super::super::message::Message;

/// Stands for a consumer that stayed and has gone.
const GONE: u64 = u64::MAX;

/// A record that a consumer was given.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where the delivery is acknowledged.
    pub(super) ack: String,
    /// How often it was delivered to the group.
    pub(super) deliveries: u32,
    /// When it is delivered again.
    pub(super) due: Instant,
    /// When it was delivered last.
    pub(super) since: Instant,
    /// Who holds it; 0 is one that does not stay, or nobody.
    pub(super) consumer: u64,
    /// That it was due has been dealt with.
    pub(super) expired: bool,
}

/// A record that waits here for somebody to take it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) ack: String,
    pub(super) message: Message,
    /// Since when the servers think that somebody has it.
    pub(super) arrived: Instant,
    /// When it came to lie here.
    pub(super) idle: Instant,
}

/// What is known of a record that somebody wants to settle.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// It is not the group's to settle.
    Foreign,
    /// It was delivered here.
    Here { ack: String, deliveries: u32, since: Instant, held: bool },
    /// It was not delivered here; by another receiver, maybe, or before this one was started.
    Unseen,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Acked,
    /// It is nobody's, and comes again at this time.
    Given(Instant),
    /// It stays with whom it is.
    Kept(Instant),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pending: BTreeMap<u64, Entry>,
    pub(super) ready: BTreeMap<u64, Held>,
    /// Acknowledged here, above what the servers count as acknowledged without a gap.
    done: BTreeSet<u64>,
    /// Deliveries that the servers count and no consumer saw.
    uncounted: HashMap<u64, u32>,
}

impl Flight {
    /// How often consumers were given a record, of so many deliveries.
    pub(super) fn seen(&self, sequence: u64, deliveries: u32) -> u32 {
        deliveries.saturating_sub(self.uncounted.get(&sequence).copied().unwrap_or(0)).max(1)
    }

    /// The servers delivered it. One that was acknowledged while it was on its way is nobody's any more.
    pub(super) fn arrive(&mut self, held: Held) {
        if self.done.contains(&held.message.id.offset) {
            return;
        }
        self.pending.remove(&held.message.id.offset);
        self.ready.insert(held.message.id.offset, held);
    }

    /// A consumer takes it until then.
    pub(super) fn take(
        &mut self,
        sequence: u64,
        consumer: u64,
        (now, due): (Instant, Instant),
    ) -> Option<Held> {
        let held = self.ready.remove(&sequence)?;
        let (ack, deliveries) = (held.ack.clone(), held.message.deliveries);
        let entry = Entry { ack, deliveries, due, since: now, consumer, expired: false };
        self.pending.insert(sequence, entry);
        Some(held)
    }

    /// It goes to the dead letters, and is nobody's.
    pub(super) fn set_aside(&mut self, sequence: u64, entry: Entry) {
        self.pending.insert(sequence, entry);
    }

    /// It never reached the consumer: it is here for the next one.
    pub(super) fn give_back(&mut self, message: Message, consumer: u64, now: Instant) {
        let sequence = message.id.offset;
        let Some(entry) = self.pending.get(&sequence) else { return };
        if entry.consumer == consumer && entry.due > now {
            let (ack, arrived) = (entry.ack.clone(), entry.since);
            self.pending.remove(&sequence);
            self.ready.insert(sequence, Held { ack, message, arrived, idle: now });
        }
    }

    /// It has lain here for too long: it goes back to the servers, and its delivery does not count.
    pub(super) fn send_back(&mut self, sequence: u64) -> Option<Held> {
        let held = self.ready.remove(&sequence)?;
        *self.uncounted.entry(sequence).or_default() += 1;
        Some(held)
    }

    /// How many `consumer` holds.
    pub(super) fn held_by(&self, consumer: u64) -> usize {
        self.pending.values().filter(|entry| entry.consumer == consumer).count()
    }

    pub(super) fn orphan(&mut self, consumer: u64) {
        for entry in self.pending.values_mut().filter(|entry| entry.consumer == consumer) {
            entry.consumer = GONE;
        }
    }

    /// What gone consumers were sent after this one and never got.
    pub(super) fn lost_after(&mut self, sequence: u64, now: Instant) -> Vec<(u64, Entry)> {
        let lost = |(_, entry): &(&u64, &Entry)| entry.consumer == GONE && entry.due > now;
        let after = self.pending.range(sequence.saturating_add(1)..).filter(lost);
        after.map(|(sequence, entry)| (*sequence, entry.clone())).collect()
    }

    /// It is here again, if nothing became of it meanwhile.
    pub(super) fn restore(&mut self, held: Held) {
        let sequence = held.message.id.offset;
        if self.pending.get(&sequence).is_some_and(|entry| entry.consumer == GONE) {
            self.pending.remove(&sequence);
            self.ready.insert(sequence, held);
        }
    }

    pub(super) fn look(&self, sequence: u64, now: Instant) -> Look {
        if let Some(entry) = self.pending.get(&sequence) {
            let Entry { ack, deliveries, since, due, .. } = entry.clone();
            return Look::Here { ack, deliveries, since, held: due > now };
        }
        if let Some(held) = self.ready.get(&sequence) {
            let (ack, deliveries) = (held.ack.clone(), held.message.deliveries);
            return Look::Here { ack, deliveries, since: held.arrived, held: false };
        }
        if self.done.contains(&sequence) { Look::Foreign } else { Look::Unseen }
    }

    /// At most so many acknowledged ones are remembered.
    pub(super) fn change(&mut self, sequence: u64, change: Change, remembered: usize) {
        match change {
            Change::Acked => {
                self.pending.remove(&sequence);
                self.ready.remove(&sequence);
                self.uncounted.remove(&sequence);
                self.done.insert(sequence);
                if self.done.len() > remembered {
                    self.done.pop_first();
                }
            }
            Change::Given(due) => {
                if let Some(entry) = self.pending.get_mut(&sequence) {
                    // That it comes again was asked for.
                    (entry.due, entry.consumer, entry.expired) = (due, 0, true);
                }
            }
            Change::Kept(due) => {
                if let Some(entry) = self.pending.get_mut(&sequence) {
                    (entry.due, entry.expired) = (due, false);
                }
            }
        }
    }

    /// Those whose time has just run out: they are nobody's now.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(u64, Entry)> {
        let due = |(_, entry): &(&u64, &mut Entry)| !entry.expired && entry.due <= now;
        let expired = self.pending.iter_mut().filter(due).map(|(sequence, entry)| {
            (entry.expired, entry.consumer) = (true, 0);
            (*sequence, entry.clone())
        });
        expired.collect()
    }

    /// Everything up to here is acknowledged.
    pub(super) fn settle_up_to(&mut self, floor: u64) {
        let above = floor.saturating_add(1);
        self.pending = self.pending.split_off(&above);
        self.done = self.done.split_off(&above);
        self.uncounted.retain(|sequence, _| *sequence > floor);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::message::MessageId;
    use super::*;

    fn held(offset: u64, deliveries: u32) -> Held {
        let id = MessageId { epoch: 1, partition: 0, offset };
        let message = Message { id, at_ns: 0, deliveries, origin: None, payload: Vec::new() };
        Held { ack: format!("ack {offset}"), message, arrived: Instant::now(), idle: Instant::now() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_that_nobody_saw_does_not_count() {
        let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(30));
        let mut flight = Flight::default();
        flight.arrive(held(7, 1));
        let taken = flight.take(7, 5, (now, due)).unwrap();
        flight.give_back(taken.message, 5, now);
        assert_eq!(flight.ready[&7].message.deliveries, 1);
        assert!(flight.send_back(7).is_some());
        assert_eq!((flight.seen(7, 2), flight.seen(8, 2)), (1, 2));
        assert!(matches!(flight.look(7, now), Look::Unseen));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_gone_consumer_never_got_is_found_and_an_ack_is_once() {
        let (now, due) = (Instant::now(), Instant::now() + Duration::from_secs(30));
        let mut flight = Flight::default();
        for offset in 1..=3 {
            flight.arrive(held(offset, 1));
            flight.take(offset, 9, (now, due));
        }
        assert_eq!(flight.held_by(9), 3);
        assert!(flight.lost_after(1, now).is_empty(), "it is still there");
        flight.orphan(9);
        assert_eq!(flight.lost_after(1, now).iter().map(|lost| lost.0).collect::<Vec<_>>(), [2, 3]);
        flight.change(2, Change::Acked, 10);
        flight.restore(held(2, 1));
        flight.restore(held(3, 1));
        assert_eq!(flight.ready.keys().copied().collect::<Vec<_>>(), [3]);
        assert!(matches!(flight.look(2, now), Look::Foreign));
        flight.settle_up_to(2);
        assert!(matches!(flight.look(2, now), Look::Unseen), "the servers know");
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_out_once() {
        let mut flight = Flight::default();
        flight.arrive(held(1, 1));
        let now = Instant::now();
        flight.take(1, 9, (now, now + Duration::from_secs(30)));
        assert!(flight.expire(now).is_empty());
        let later = now + Duration::from_secs(30);
        assert_eq!((flight.expire(later).len(), flight.expire(later).len(), flight.held_by(9)), (1, 0, 0));
        assert!(matches!(flight.look(1, later), Look::Here { held: false, .. }), "a late ack is as good");
        flight.change(1, Change::Kept(later + Duration::from_secs(5)), 10);
        assert_eq!(flight.expire(later + Duration::from_secs(5)).len(), 1);
    }
}
