//! One transaction: what commands do to the ledger and to the tables, both or neither.
//!
//! A command that is refused leaves everything as it was. Records are collected per partition and written as chunks
//! at the end; rows of what was touched follow them.

mod ids;
mod retention;
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redb::Table;

use super::chunk::Builder;
use super::ledger::{FlightPlace, Ledger};
use super::message::{Origin, Verdict};
use super::table::{CHUNKS, IDS, PENDING};
use super::{Config, Error, MessageId, Now, Produce, Produced, Pull, Settle, name};

/// What a row costs beside its bytes: key, its share of a page.
const ROW_BYTES: u64 = 32;

/// What one transaction did, for the metrics.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Records kept, by topic.
    pub(super) produced: BTreeMap<String, u64>,
    /// Batches that came again.
    pub(super) duplicates: u64,
    /// Records acknowledged, by topic and group.
    pub(super) consumed: BTreeMap<(String, String), u64>,
    /// How long consumers took for them, s.
    pub(super) took_s: Vec<f64>,
    /// Records given back, and those whose time ran out.
    pub(super) given_back: u64,
    pub(super) timed_out: u64,
    pub(super) dead: u64,
    /// Records dropped that no group or not every group had acknowledged.
    pub(super) expired: u64,
    /// Partitions whose figures changed.
    pub(super) touched: BTreeSet<(String, u32)>,
    /// Partitions and groups that are no more.
    pub(super) forgotten: Vec<(String, String)>,
}

/// See the module.
pub(super) struct Work<'t> {
    ledger: &'t mut Ledger,
    config: &'t Config,
    now: Now,
    chunks: Table<'t, (u32, u64), &'static [u8]>,
    pending: Table<'t, (u32, u64), (i64, u64, u32)>,
    ids: [Table<'t, (&'static str, &'static str), &'static [u8]>; 2],
    /// Records that are not in the table yet, by number of their partition.
    fresh: BTreeMap<u32, Builder>,
    /// Topics whose row changed.
    made: BTreeSet<String>,
    /// All deliveries are written too.
    ticked: bool,
    pub(super) outcome: Outcome,
}

/// Does `work` in one synced transaction.
pub(super) fn apply(
    database: &redb::Database,
    ledger: &mut Ledger,
    config: &Config,
    now: Now,
    work: impl FnOnce(&mut Work<'_>) -> Result<(), redb::Error>,
) -> Result<Outcome, redb::Error> {
    ids::rotate(database, ledger, config, now)?;
    let mut transaction = database.begin_write()?;
    // Without it, opening after a crash grows with the file.
    transaction.set_quick_repair(true);
    let outcome = {
        let mut this = Work {
            ledger,
            config,
            now,
            chunks: transaction.open_table(CHUNKS)?,
            pending: transaction.open_table(PENDING)?,
            ids: [transaction.open_table(IDS[0])?, transaction.open_table(IDS[1])?],
            fresh: BTreeMap::new(),
            made: BTreeSet::new(),
            ticked: false,
            outcome: Outcome::default(),
        };
        work(&mut this)?;
        this.finish(&transaction)?
    };
    transaction.commit()?;
    Ok(outcome)
}

impl Work<'_> {
    /// Keeps a batch, or says why not.
    pub(super) fn produce(
        &mut self,
        batch: &Produce,
        at: Now,
    ) -> Result<Result<Produced, Error>, redb::Error> {
        if let Some(ids) = self.remembered(batch)? {
            self.outcome.duplicates += 1;
            return Ok(Ok(Produced { ids, duplicate: true }));
        }
        let topic = batch.topic.as_str();
        let known = self.ledger.topics.get(topic);
        let width = known.map_or(self.config.partitions_per_topic, |topic| topic.width);
        let turn = known.map_or(0, |topic| topic.turn);
        let indexes: Vec<u32> = batch
            .messages
            .iter()
            .map(|message| match (batch.partition, &message.key) {
                (Some(index), _) => index,
                (None, Some(key)) => name::partition_of(key.as_bytes(), width),
                (None, None) => turn % width.max(1),
            })
            .collect();
        let partitions: BTreeSet<u32> = indexes.iter().copied().collect();
        if let Err(refused) = self.ledger.check_room(topic, &partitions, None, width) {
            return Ok(Err(refused));
        }
        if let Err(full) = self.check_full(batch, &indexes) {
            return Ok(Err(full));
        }
        if self.ledger.make(topic, &partitions, None, width) {
            self.made.insert(topic.to_owned());
        }
        if let Some(topic) = self.ledger.topics.get_mut(topic) {
            topic.turn = (turn + 1) % width.max(1);
        }
        let mut ids = Vec::with_capacity(indexes.len());
        for (message, &index) in batch.messages.iter().zip(&indexes) {
            ids.push(self.append(topic, index, at.wall_ns, None, &message.payload)?);
        }
        *self.outcome.produced.entry(topic.to_owned()).or_default() += ids.len() as u64;
        self.remember(batch, &ids)?;
        Ok(Ok(Produced { ids, duplicate: false }))
    }

    /// Makes what a pull needs and is not there yet.
    pub(super) fn join(&mut self, pull: &Pull) -> Result<(), Error> {
        let mut width = self.config.partitions_per_topic;
        if !self.ledger.topics.contains_key(&pull.topic) {
            // Dead letters can be waited for before there are any.
            match name::living(&pull.topic).and_then(|topic| self.ledger.topics.get(topic)) {
                Some(living) => width = living.width,
                None => name::check_new(&pull.topic)?,
            }
        }
        let partitions: BTreeSet<u32> = pull.partition.into_iter().collect();
        self.ledger.check_room(&pull.topic, &partitions, Some(&pull.group), width)?;
        if self.ledger.make(&pull.topic, &partitions, Some(&pull.group), width) {
            self.made.insert(pull.topic.clone());
            if let Some(topic) = self.ledger.topics.get(&pull.topic) {
                let all = topic.partitions.keys().map(|index| (pull.topic.clone(), *index));
                self.outcome.touched.extend(all);
            }
        }
        Ok(())
    }

    /// One word for each id.
    pub(super) fn settle(&mut self, settle: &Settle) -> Result<Vec<bool>, redb::Error> {
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

    /// A record that was delivered too often goes to the dead-letter topic; while there is no room for it, it is
    /// delivered again.
    pub(super) fn bury(
        &mut self,
        topic: &str,
        index: u32,
        group: &str,
        offset: u64,
    ) -> Result<(), redb::Error> {
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
    pub(super) fn tick(&mut self) -> Result<(), redb::Error> {
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
    pub(super) fn forget(&mut self, topic: &str, group: &str) -> Result<bool, redb::Error> {
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
