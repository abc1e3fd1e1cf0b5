//! One transaction: what commands do to the ledger and to the tables, both or neither.
//!
//! A command that is refused leaves everything as it was. Records are collected per partition and written as chunks
//! at the end; rows of what was touched follow them.

mod ids;
mod retention;
mod rows;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use redb::Table;

use super::chunk::Builder;
use super::ledger::Ledger;
use super::table::{CHUNKS, IDS, PENDING};
use super::{Config, Error, Now, Produce, Produced, Pull, name};

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
    // Without it, opening after a crash grows with the file; with it, a commit takes half as long again.
    transaction.set_quick_repair(ledger.size_bytes >= config.quick_repair_bytes);
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
}
