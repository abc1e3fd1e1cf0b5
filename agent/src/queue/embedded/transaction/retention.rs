//! What is dropped: records that are too old, and acknowledged ones beyond those kept for groups to come.

use redb::ReadableTable;

use super::super::chunk;
use super::{ROW_BYTES, Work};

/// Chunks dropped within one transaction: some 10 ms; more go with the next.
const DROPS: usize = 256;

/// The first chunk of a partition.
struct First {
    number: u32,
    /// Its key, if it is there.
    key: Option<u64>,
    size_bytes: u64,
    /// The offset behind it, and since when the last record of the next chunk is kept.
    end: u64,
    next_at_ns: Option<i64>,
}

impl Work<'_> {
    /// Drops what is to be dropped of these partitions.
    pub(in super::super) fn retain(&mut self, partitions: &[(String, u32)]) -> Result<(), redb::Error> {
        let mut drops = DROPS;
        for (topic, index) in partitions {
            while drops > 0 && (self.is_too_old(topic, *index) || self.keeps_too_many(topic, *index)) {
                self.write_fresh()?;
                let Some(first) = self.first_chunk(topic, *index)? else { break };
                let floor = self.ledger.partition(topic, *index).map_or(0, |partition| partition.floor());
                if first.end > floor && !self.is_too_old(topic, *index) {
                    break;
                }
                self.drop_first(topic, *index, &first)?;
                drops -= 1;
            }
        }
        Ok(())
    }

    fn is_too_old(&self, topic: &str, index: u32) -> bool {
        let partition = self.ledger.partition(topic, index);
        partition.is_some_and(|partition| partition.is_too_old(self.now.wall_ns, self.config))
    }

    fn keeps_too_many(&self, topic: &str, index: u32) -> bool {
        let partition = self.ledger.partition(topic, index);
        partition.is_some_and(|partition| partition.keeps_too_many(self.ledger.size_bytes, self.config))
    }

    fn first_chunk(&self, topic: &str, index: u32) -> Result<Option<First>, redb::Error> {
        let Some(partition) = self.ledger.partition(topic, index) else { return Ok(None) };
        let number = partition.number;
        let mut chunks = self.chunks.range((number, partition.tail)..=(number, u64::MAX))?;
        let first = chunks.next().transpose()?;
        let first = first.map(|(key, stored)| (key.value().1, stored.value().len() as u64));
        let next = chunks.next().transpose()?;
        let next = next.map(|(key, stored)| (key.value().1, chunk::kept_at_ns(stored.value())));
        Ok(Some(First {
            number,
            key: first.map(|(key, _)| key),
            size_bytes: first.map_or(0, |(_, size)| size + ROW_BYTES),
            end: next.map_or(partition.head, |(end, _)| end),
            next_at_ns: next.map(|(_, at_ns)| at_ns),
        }))
    }

    fn drop_first(&mut self, topic: &str, index: u32, first: &First) -> Result<(), redb::Error> {
        if let Some(key) = first.key {
            self.chunks.remove((first.number, key))?;
            self.ledger.size_bytes = self.ledger.size_bytes.saturating_sub(first.size_bytes);
        }
        self.outcome.expired += self.ledger.raise(topic, index, first.end, first.next_at_ns);
        self.touch(topic, index);
        Ok(())
    }
}
