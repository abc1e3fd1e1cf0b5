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

struct Current {
    partition: u32,
    first: u64,
    stored: AccessGuard<'static, &'static [u8]>,
    places: Vec<Place>,
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
        if !self.has(partition, offset) {
            self.current = None;
            let mut before = self.chunks.range((partition, 0)..=(partition, offset))?;
            if let Some(entry) = before.next_back() {
                let (key, stored) = entry?;
                let first = key.value().1;
                let places = chunk::parse(partition, first, stored.value());
                let damaged = places.is_none();
                self.current = Some(Current { partition, first, stored, places: places.unwrap_or_default() });
                if damaged {
                    return self.gap(partition, offset, true).map(Some);
                }
            }
        }
        if !self.has(partition, offset) {
            return self.gap(partition, offset, false).map(Some);
        }
        let Some(current) = &self.current else { return self.gap(partition, offset, false).map(Some) };
        let place = usize::try_from(offset - current.first).ok().and_then(|index| current.places.get(index));
        let Some(place) = place else { return self.gap(partition, offset, false).map(Some) };
        if !fits(place.payload.len()) {
            return Ok(None);
        }
        let stored = current.stored.value();
        let (origin, payload) = (place.origin(stored), stored[place.payload.clone()].to_vec());
        Ok(Some(Found::Record { at_ns: place.at_ns, origin, payload }))
    }

    fn has(&self, partition: u32, offset: u64) -> bool {
        self.current.as_ref().is_some_and(|current| {
            current.partition == partition
                && (current.first..current.first + current.places.len() as u64).contains(&offset)
        })
    }

    fn gap(&self, partition: u32, offset: u64, damaged: bool) -> Result<Found, redb::Error> {
        let mut after = self.chunks.range((partition, offset.saturating_add(1))..=(partition, u64::MAX))?;
        let next = after.next().transpose()?.map_or(u64::MAX, |(key, _)| key.value().1);
        Ok(Found::Gap { next, damaged })
    }
}
