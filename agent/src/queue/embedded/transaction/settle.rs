//! What consumers say of records, and what is done when they say nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::ledger::{FlightPlace, Ledger};
use super::super::message::{Origin, Verdict};
use super::super::{MessageId, Settle, name};
use super::Work;

impl Work<'_> {
    /// One word for each id.
    pub(in super::super) fn settle(&mut self, settle: &Settle) -> Result<Vec<bool>, redb::Error> {
        let mut done = Vec::with_capacity(settle.ids.len());
        for id in &settle.ids {
            let ours = id.epoch == self.ledger.epoch && settle.partition.is_none_or(|p| p == id.partition);
            done.push(ours && self.settle_one(settle, *id)?);
        }
        Ok(done)
    }

    fn settle_one(&mut self, settle: &Settle, id: MessageId) -> Result<bool, redb::Error> {
        let (topic, group, now) = (settle.topic.as_str(), settle.group.as_str(), self.now.mono);
        let Some((flight, due)) = self.ledger.flight_mut(topic, id.partition, group) else {
            return Ok(false);
        };
        let Some(deliveries) = flight.deliveries(id.offset) else { return Ok(false) };
        let done = match settle.verdict {
            Verdict::Ack => {
                let entry = flight.remove(due, id.offset);
                let took = entry.and_then(|entry| entry.since).map(|since| now.duration_since(since));
                self.outcome.took_s.extend(took.map(|took| took.as_secs_f64()));
                let consumed = self.outcome.consumed.entry((topic.to_owned(), group.to_owned()));
                *consumed.or_default() += 1;
                true
            }
            Verdict::Nak(_) if deliveries >= self.config.max_deliveries && !name::is_dead(topic) => {
                self.bury(topic, id.partition, group, id.offset)?;
                true
            }
            Verdict::Nak(delay) => {
                self.outcome.given_back += 1;
                flight.give_back(due, id.offset, (delay > Duration::ZERO).then(|| now + delay))
            }
            Verdict::Extend(time) => {
                flight.extend(due, id.offset, now + time.unwrap_or(self.config.visibility_timeout()))
            }
        };
        self.touch(topic, id.partition);
        Ok(done)
    }

    /// A record that was delivered too often goes to the dead-letter topic; while there is no room for it there, that
    /// is tried again after another timeout.
    fn bury(&mut self, topic: &str, index: u32, group: &str, offset: u64) -> Result<(), redb::Error> {
        let (number, width) = match self.ledger.topics.get(topic) {
            Some(known) => (known.partitions.get(&index).map(|partition| partition.number), known.width),
            None => return Ok(()),
        };
        let epoch = self.ledger.epoch;
        let Some(number) = number else { return Ok(()) };
        let record = self.read(number, offset)?;
        let (dead, partitions) = (name::dead(topic), BTreeSet::from([index]));
        let room = self.ledger.check_room(&dead, &partitions, None, width).is_ok()
            && self.ledger.size_bytes < self.config.max_size_bytes;
        let Some((flight, due)) = self.ledger.flight_mut(topic, index, group) else { return Ok(()) };
        if record.is_some() && !room {
            flight.give_back(due, offset, Some(self.now.mono + self.config.visibility_timeout()));
            return Ok(());
        }
        let entry = flight.remove(due, offset);
        self.touch(topic, index);
        if let Some((at_ns, payload)) = record {
            if self.ledger.make(&dead, &partitions, None, width) {
                self.made.insert(dead.clone());
            }
            let deliveries = entry.map_or(0, |entry| entry.deliveries);
            let id = MessageId { epoch, partition: index, offset };
            let origin = Origin { id, group: group.to_owned(), deliveries };
            self.append(&dead, index, at_ns, Some(&origin), &payload)?;
            self.outcome.dead += 1;
            tracing::warn!(topic, group, %id, deliveries, dead, "record went to the dead letters");
        }
        Ok(())
    }

    /// What is due is delivered again or has been delivered too often; deliveries are written; what is not kept
    /// any longer is dropped.
    pub(in super::super) fn tick(&mut self) -> Result<(), redb::Error> {
        self.ticked = true;
        self.expire()?;
        self.outcome.touched.extend(self.ledger.unwritten.iter().cloned());
        self.retain(&self.ledger.all_partitions())
    }

    fn expire(&mut self) -> Result<(), redb::Error> {
        for (FlightPlace { topic, partition, group }, offset) in self.ledger.due_at(self.now.mono) {
            let Some((flight, due)) = self.ledger.flight_mut(&topic, partition, &group) else { continue };
            let exhausted = flight.deliveries(offset).is_some_and(|n| n >= self.config.max_deliveries);
            self.outcome.timed_out += 1;
            if exhausted && !name::is_dead(&topic) {
                self.bury(&topic, partition, &group, offset)?;
            } else {
                flight.give_back(due, offset, None);
                self.touch(&topic, partition);
            }
        }
        Ok(())
    }

    /// A group that is to be no more; false if there is none.
    pub(in super::super) fn forget(&mut self, topic: &str, group: &str) -> Result<bool, redb::Error> {
        let Ledger { topics, due, places, .. } = &mut *self.ledger;
        let Some(known) = topics.get_mut(topic) else { return Ok(false) };
        if !known.groups.remove(group) {
            return Ok(false);
        }
        for (&index, partition) in &mut known.partitions {
            if let Some(mut flight) = partition.flights.remove(group) {
                flight.clear(due);
                places.remove(&flight.number);
                for offset in flight.take_changes().1 {
                    self.pending.remove((flight.number, offset))?;
                }
            }
            self.outcome.touched.insert((topic.to_owned(), index));
        }
        self.made.insert(topic.to_owned());
        self.outcome.forgotten.push((topic.to_owned(), group.to_owned()));
        Ok(true)
    }
}
