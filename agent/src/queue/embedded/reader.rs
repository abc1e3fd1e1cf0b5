//! Reads single records, a chunk at a time, within one short read transaction.

use redb::{AccessGuard, Database, ReadOnlyTable, ReadableDatabase};

use super::chunk::{self, Place};
use super::message::Origin;
use super::table::CHUNKS;

/// What is at an offset.
pub(super) enum Found {
    /// A record.
    Record { at_ns: i64, origin: Option<Origin>, payload: Vec<u8> },
    /// Nothing: it is gone, or its chunk is damaged. The next record that may be there.
    Gap { next: u64, damaged: bool },
}

/// The chunk that was read last.
struct Current {
    partition: u32,
    first: u64,
    stored: AccessGuard<'static, &'static [u8]>,
    /// None if it is damaged.
    places: Option<Vec<Place>>,
}

/// See the module.
pub(super) struct Reader {
    chunks: ReadOnlyTable<(u32, u64), &'static [u8]>,
    current: Option<Current>,
}

impl Reader {
    pub(super) fn new(database: &Database) -> Result<Self, redb::Error> {
        let chunks = database.begin_read()?.open_table(CHUNKS)?;
        Ok(Self { chunks, current: None })
    }

    /// The record at `offset`. `fits` is asked for its size before it is copied; `None` if it does not.
    pub(super) fn get(
        &mut self,
        partition: u32,
        offset: u64,
        fits: impl FnOnce(usize) -> bool,
    ) -> Result<Option<Found>, redb::Error> {
        if self.place(partition, offset).is_none() {
            self.seek(partition, offset)?;
        }
        let Some((stored, place)) = self.place(partition, offset) else {
            return self.gap(partition, offset).map(Some);
        };
        if !fits(place.payload.len()) {
            return Ok(None);
        }
        let (origin, payload) = (place.origin(stored), stored[place.payload.clone()].to_vec());
        Ok(Some(Found::Record { at_ns: place.at_ns, origin, payload }))
    }

    /// The record, if it is in the current chunk.
    fn place(&self, partition: u32, offset: u64) -> Option<(&[u8], &Place)> {
        let current = self.current.as_ref().filter(|current| current.partition == partition)?;
        let index = usize::try_from(offset.checked_sub(current.first)?).ok()?;
        Some((current.stored.value(), current.places.as_ref()?.get(index)?))
    }

    /// Makes the chunk current that has the record, if there is one.
    fn seek(&mut self, partition: u32, offset: u64) -> Result<(), redb::Error> {
        let before = self.chunks.range((partition, 0)..=(partition, offset))?.next_back();
        self.current = before.transpose()?.map(|(key, stored)| {
            let first = key.value().1;
            let places = chunk::parse(partition, first, stored.value());
            Current { partition, first, stored, places }
        });
        Ok(())
    }

    fn gap(&self, partition: u32, offset: u64) -> Result<Found, redb::Error> {
        let damaged = self.current.as_ref().is_some_and(|current| current.places.is_none());
        let mut after = self.chunks.range((partition, offset.saturating_add(1))..=(partition, u64::MAX))?;
        let next = after.next().transpose()?.map_or(u64::MAX, |(key, _)| key.value().1);
        Ok(Found::Gap { next, damaged })
    }
}
