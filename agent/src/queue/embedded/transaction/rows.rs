//! Records and rows: how a transaction's changes come into the tables.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::super::chunk::{self, Builder};
use super::super::flight::Flight;
use super::super::ledger::Partition;
use super::super::message::Origin;
use super::super::table::{self, FLIGHTS, META, NO_TIME, PARTITIONS, TOPICS};
use super::super::{Error, MessageId, Now, Produce};
use super::{Outcome, ROW_BYTES, Work};

impl Work<'_> {
    pub(super) fn touch(&mut self, topic: &str, index: u32) {
        self.outcome.touched.insert((topic.to_owned(), index));
    }

    /// Whether groups have too much to acknowledge already, or the disk holds too much.
    pub(super) fn check_full(&self, batch: &Produce, indexes: &[u32]) -> Result<(), Error> {
        let (topic, limit) = (&batch.topic, self.config.queue_size);
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for &index in indexes {
            *counts.entry(index).or_default() += 1;
        }
        for (index, count) in counts {
            if count > limit {
                let size = usize::try_from(count).unwrap_or(usize::MAX);
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                return Err(Error::TooLarge { what: "messages for one partition", size, limit });
            }
            let depth = self.ledger.partition(topic, index).map_or(0, Partition::depth);
            if depth + count > limit {
                let words =
                    format!("{topic} partition {index} is full: {depth} of {limit} wait to be acknowledged");
                return Err(Error::Full(words));
            }
        }
        let rows = batch.messages.len() as u64 * ROW_BYTES;
        let size = self.ledger.size_bytes + batch.size_bytes() as u64 + rows;
        if size > self.config.max_size_bytes {
            let words = format!("the queue is full: {} bytes are kept", self.config.max_size_bytes);
            return Err(Error::Full(words));
        }
        Ok(())
    }

    /// Puts a record behind the others; its partition is there. It was produced at `at_ns`.
    pub(super) fn append(
        &mut self,
        topic: &str,
        index: u32,
        at_ns: i64,
        origin: Option<&Origin>,
        payload: &[u8],
    ) -> Result<MessageId, redb::Error> {
        let (epoch, kept_at_ns) = (self.ledger.epoch, self.now.wall_ns);
        let Some(partition) = self.ledger.partition_mut(topic, index) else {
            return Err(redb::Error::Corrupted("a record without its partition".to_owned()));
        };
        let (number, offset) = (partition.number, partition.head);
        partition.head += 1;
        partition.tail_at_ns.get_or_insert(kept_at_ns);
        let builder = self.fresh.entry(number).or_insert_with(|| Builder::new(number, offset));
        builder.push(at_ns, kept_at_ns, origin, payload);
        if builder.is_full() {
            self.write_chunk(number)?;
        }
        self.touch(topic, index);
        Ok(MessageId { epoch, partition: index, offset })
    }

    fn write_chunk(&mut self, number: u32) -> Result<(), redb::Error> {
        let Some(builder) = self.fresh.remove(&number) else { return Ok(()) };
        let (first, stored) = (builder.first, builder.finish());
        self.ledger.size_bytes += stored.len() as u64 + ROW_BYTES;
        self.chunks.insert((number, first), stored.as_slice())?;
        Ok(())
    }

    /// All records that are not in the table yet.
    pub(super) fn write_fresh(&mut self) -> Result<(), redb::Error> {
        while let Some(&number) = self.fresh.keys().next() {
            self.write_chunk(number)?;
        }
        Ok(())
    }

    /// When a record was produced, and its payload; `None` if it is gone.
    pub(super) fn read(&self, number: u32, offset: u64) -> Result<Option<(i64, Vec<u8>)>, redb::Error> {
        let mut before = self.chunks.range((number, 0)..=(number, offset))?;
        let Some(entry) = before.next_back() else { return Ok(None) };
        let (key, stored) = entry?;
        let first = key.value().1;
        let places = chunk::parse(number, first, stored.value()).unwrap_or_default();
        let place = usize::try_from(offset - first).ok().and_then(|index| places.get(index));
        Ok(place.map(|place| (place.at_ns, stored.value()[place.payload.clone()].to_vec())))
    }

    /// Writes the rows of everything that was touched.
    pub(super) fn finish(mut self, transaction: &WriteTransaction) -> Result<Outcome, redb::Error> {
        let touched: Vec<_> = self.outcome.touched.iter().cloned().collect();
        self.retain(&touched)?;
        self.write_fresh()?;
        let mut topics = transaction.open_table(TOPICS)?;
        for name in &self.made {
            if let Some(topic) = self.ledger.topics.get(name) {
                topics.insert(name.as_str(), table::topic_row(topic)?.as_slice())?;
            }
        }
        let mut partitions = transaction.open_table(PARTITIONS)?;
        let mut flights = transaction.open_table(FLIGHTS)?;
        for (topic, group) in &self.outcome.forgotten {
            flights.retain_in((topic.as_str(), 0, "")..=(topic.as_str(), u32::MAX, ""), |key, _| {
                key.2 != group
            })?;
        }
        let now = self.now;
        for (topic, index) in &self.outcome.touched {
            let Some(partition) = self.ledger.partition_mut(topic, *index) else { continue };
            let Partition { number, tail, head, .. } = *partition;
            let tail_at_ns = partition.tail_at_ns.unwrap_or(NO_TIME);
            partitions.insert((topic.as_str(), *index), (number, tail, head, tail_at_ns))?;
            // Deliveries alone can wait for the next tick.
            let due = |flight: &Flight| flight.settled || self.ticked;
            for (group, flight) in partition.flights.iter_mut().filter(|(_, flight)| due(flight)) {
                flights.insert((topic.as_str(), *index, group.as_str()), (flight.number, flight.cursor))?;
                write_pending(&mut self.pending, flight, now)?;
            }
        }
        if self.ticked {
            self.ledger.unwritten.clear();
        }
        let mut meta = transaction.open_table(META)?;
        table::write_meta(&mut meta, self.ledger)?;
        Ok(self.outcome)
    }
}

fn write_pending(
    pending: &mut Table<'_, (u32, u64), (i64, u64, u32)>,
    flight: &mut Flight,
    now: Now,
) -> Result<(), redb::Error> {
    let number = flight.number;
    let (changed, removed) = flight.take_changes();
    for (offset, entry) in changed {
        let left = entry.due.map(|due| due.saturating_duration_since(now.mono).as_nanos());
        let left_ns = left.map(|left| u64::try_from(left).unwrap_or(u64::MAX));
        let due_ns = left_ns.map_or(NO_TIME, |left_ns| now.wall_ns.saturating_add_unsigned(left_ns));
        pending.insert((number, offset), (due_ns, left_ns.unwrap_or(0), entry.deliveries))?;
    }
    for offset in removed {
        pending.remove((number, offset))?;
    }
    Ok(())
}
