//! What one group has of one partition: pure, and in memory as long as the queue is open.
//!
//! Everything below `cursor` was delivered once; of that, `pending` is not acknowledged. So the group owes
//! `head - cursor + pending`, and nothing else needs to be kept, whatever the backlog.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// When which record of which flight is due: the number of the flight, the record's offset.
pub(super) type Due = BTreeSet<(Instant, u32, u64)>;

/// Stands for a consumer that stayed and has gone.
const GONE: u64 = u64::MAX;

/// A delivered record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// How often it was delivered.
    pub(super) deliveries: u32,
    /// When it is delivered again; none if it may be now.
    pub(super) due: Option<Instant>,
    /// When it was delivered last.
    pub(super) since: Option<Instant>,
    /// The consumer that holds it; 0 is one that does not stay, or nobody.
    pub(super) consumer: u64,
    /// It has a row on disk.
    stored: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Its own number.
    pub(super) number: u32,
    /// The first record that was never delivered.
    pub(super) cursor: u64,
    pending: BTreeMap<u64, Entry>,
    /// Those of `pending` that may be delivered now.
    ready: BTreeSet<u64>,
    /// Those whose row on disk is not what it should be.
    changed: BTreeSet<u64>,
    /// Those that have a row on disk and should not.
    removed: Vec<u64>,
    /// More than deliveries happened: the next transaction has to say so.
    pub(super) settled: bool,
}

impl Flight {
    pub(super) fn new(number: u32, cursor: u64) -> Self {
        Self { number, cursor, settled: true, ..Self::default() }
    }

    /// Puts back what was pending when the file was closed.
    pub(super) fn restore(&mut self, due: &mut Due, offset: u64, deliveries: u32, at: Option<Instant>) {
        let entry = Entry { deliveries, due: at, since: None, consumer: 0, stored: true };
        match at {
            Some(at) => _ = due.insert((at, self.number, offset)),
            None => _ = self.ready.insert(offset),
        }
        self.pending.insert(offset, entry);
    }

    /// Records of a partition up to `head` that the group has still to acknowledge.
    pub(super) fn lag(&self, head: u64) -> u64 {
        head.saturating_sub(self.cursor) + self.pending.len() as u64
    }

    /// Everything below is acknowledged.
    pub(super) fn floor(&self) -> u64 {
        self.pending.first_key_value().map_or(self.cursor, |(offset, _)| *offset)
    }

    /// Delivered and not due yet.
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len() - self.ready.len()
    }

    /// How many `consumer` holds.
    pub(super) fn held_by(&self, consumer: u64) -> usize {
        self.pending.values().filter(|entry| entry.consumer == consumer).count()
    }

    /// The record to deliver next.
    pub(super) fn next(&self, head: u64) -> Option<u64> {
        self.ready.first().copied().or_else(|| (self.cursor < head).then_some(self.cursor))
    }

    /// It went to `consumer`, and comes again at `until`. Returns how often it was delivered.
    pub(super) fn deliver(
        &mut self,
        due: &mut Due,
        offset: u64,
        consumer: u64,
        (now, until): (Instant, Instant),
    ) -> u32 {
        self.ready.remove(&offset);
        self.cursor = self.cursor.max(offset + 1);
        let fresh = Entry { deliveries: 0, due: None, since: None, consumer, stored: false };
        let entry = self.pending.entry(offset).or_insert(fresh);
        entry.deliveries = entry.deliveries.saturating_add(1);
        (entry.due, entry.since, entry.consumer) = (Some(until), Some(now), consumer);
        due.insert((until, self.number, offset));
        self.changed.insert(offset);
        entry.deliveries
    }

    /// There is no such record any more: it goes on at `next`.
    pub(super) fn skip(&mut self, due: &mut Due, offset: u64, next: u64) {
        if self.remove(due, offset).is_none() {
            self.cursor = self.cursor.max(next);
        }
    }

    /// Done with; `None` if it is not pending.
    pub(super) fn remove(&mut self, due: &mut Due, offset: u64) -> Option<Entry> {
        let entry = self.pending.remove(&offset)?;
        self.settled = true;
        self.ready.remove(&offset);
        self.changed.remove(&offset);
        if let Some(at) = entry.due {
            due.remove(&(at, self.number, offset));
        }
        if entry.stored {
            self.removed.push(offset);
        }
        Some(entry)
    }

    /// How often it was delivered; `None` if it is not pending.
    pub(super) fn deliveries(&self, offset: u64) -> Option<u32> {
        self.pending.get(&offset).map(|entry| entry.deliveries)
    }

    /// It stays with whom it is until then; false if it is with nobody.
    pub(super) fn extend(&mut self, due: &mut Due, offset: u64, until: Instant) -> bool {
        let Some(entry) = self.pending.get_mut(&offset) else { return false };
        let Some(before) = entry.due.replace(until) else {
            entry.due = None;
            return false;
        };
        due.remove(&(before, self.number, offset));
        due.insert((until, self.number, offset));
        self.changed.insert(offset);
        self.settled = true;
        true
    }

    /// It is nobody's any more, and is delivered again: now, or at `at`. False if it is not pending.
    pub(super) fn give_back(&mut self, due: &mut Due, offset: u64, at: Option<Instant>) -> bool {
        let Some(entry) = self.pending.get_mut(&offset) else { return false };
        if let Some(before) = entry.due.take() {
            due.remove(&(before, self.number, offset));
        }
        (entry.due, entry.consumer) = (at, 0);
        match at {
            Some(at) => {
                self.ready.remove(&offset);
                due.insert((at, self.number, offset));
            }
            None => _ = self.ready.insert(offset),
        }
        self.changed.insert(offset);
        self.settled = true;
        true
    }

    /// It never reached `consumer`: the delivery does not count.
    pub(super) fn undeliver(&mut self, due: &mut Due, offset: u64, consumer: u64) {
        let Some(entry) = self.pending.get_mut(&offset) else { return };
        if entry.consumer == consumer && entry.due.is_some() {
            entry.deliveries = entry.deliveries.saturating_sub(1);
            self.give_back(due, offset, None);
        }
    }

    /// The consumer has gone; what it holds may still be acknowledged by its id.
    pub(super) fn orphan(&mut self, consumer: u64) {
        for entry in self.pending.values_mut().filter(|entry| entry.consumer == consumer) {
            entry.consumer = GONE;
        }
    }

    /// What gone consumers were sent after `offset` never arrived.
    pub(super) fn resume_after(&mut self, due: &mut Due, offset: u64) {
        let lost: Vec<u64> = self
            .pending
            .range(offset.saturating_add(1)..)
            .filter(|(_, entry)| entry.consumer == GONE)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in lost {
            self.undeliver(due, offset, GONE);
        }
    }

    /// Everything below `tail` is gone; returns how many of those were not acknowledged.
    pub(super) fn raise(&mut self, due: &mut Due, tail: u64) -> u64 {
        let never = tail.saturating_sub(self.cursor);
        let gone: Vec<u64> = self.pending.range(..tail).map(|(offset, _)| *offset).collect();
        let lost = never + gone.len() as u64;
        for offset in gone {
            self.remove(due, offset);
        }
        self.cursor = self.cursor.max(tail);
        self.settled = true;
        lost
    }

    /// Everything pending, for a group that is forgotten.
    pub(super) fn clear(&mut self, due: &mut Due) {
        for offset in self.pending.keys().copied().collect::<Vec<_>>() {
            self.remove(due, offset);
        }
    }

    /// What the disk is to be told: entries to write, then rows to remove. It counts as told.
    pub(super) fn take_changes(&mut self) -> (Vec<(u64, Entry)>, Vec<u64>) {
        self.settled = false;
        let changed = std::mem::take(&mut self.changed);
        let written = changed.into_iter().filter_map(|offset| {
            let entry = self.pending.get_mut(&offset)?;
            entry.stored = true;
            Some((offset, entry.clone()))
        });
        (written.collect(), std::mem::take(&mut self.removed))
    }
}
