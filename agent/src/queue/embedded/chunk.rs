//! Records as they lie on disk: some of one partition together, so that a row of the table is worth its page.
//!
//! ```text
//! crc32 (4, over the partition's number, the first offset and all that follows) | records (4) | last kept at (8)
//! per record: at_ns (8) | length of origin (2) | length of payload (4) | origin | payload
//! origin: epoch (4) | partition (4) | offset (8) | deliveries (4) | group
//! ```
//! All numbers little-endian.

use std::ops::Range;

use super::message::{MessageId, Origin};

/// A chunk that has as much takes no further record: beyond it a row gains nothing, and one record is read with all
/// of its chunk.
const FULL_BYTES: usize = 64 << 10;
pub(super) const FULL_RECORDS: u32 = 128;

const HEAD_BYTES: usize = 16;

/// Collects records that follow one another.
#[derive(Debug)]
pub(super) struct Builder {
    partition: u32,
    pub(super) first: u64,
    count: u32,
    kept_at_ns: i64,
    stored: Vec<u8>,
}

impl Builder {
    pub(super) fn new(partition: u32, first: u64) -> Self {
        Self { partition, first, count: 0, kept_at_ns: i64::MIN, stored: vec![0; HEAD_BYTES] }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= FULL_RECORDS || self.stored.len() >= FULL_BYTES
    }

    /// A record that was produced at `at_ns` and is kept since `kept_at_ns`: later, if it is a dead letter.
    pub(super) fn push(&mut self, at_ns: i64, kept_at_ns: i64, origin: Option<&Origin>, payload: &[u8]) {
        let origin = origin.map(encode_origin).unwrap_or_default();
        // Names and payloads are limited long before these widths.
        let origin_len = u16::try_from(origin.len()).unwrap_or(u16::MAX);
        let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.stored.extend_from_slice(&at_ns.to_le_bytes());
        self.stored.extend_from_slice(&origin_len.to_le_bytes());
        self.stored.extend_from_slice(&payload_len.to_le_bytes());
        self.stored.extend_from_slice(&origin);
        self.stored.extend_from_slice(payload);
        self.kept_at_ns = self.kept_at_ns.max(kept_at_ns);
        self.count += 1;
    }

    /// The row's value.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.stored[4..8].copy_from_slice(&self.count.to_le_bytes());
        self.stored[8..16].copy_from_slice(&self.kept_at_ns.to_le_bytes());
        let checksum = checksum(self.partition, self.first, &self.stored[4..]);
        self.stored[..4].copy_from_slice(&checksum.to_le_bytes());
        self.stored
    }
}

/// Where a record lies in its chunk.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) at_ns: i64,
    origin: Range<usize>,
    pub(super) payload: Range<usize>,
}

impl Place {
    pub(super) fn origin(&self, stored: &[u8]) -> Option<Origin> {
        stored.get(self.origin.clone()).and_then(decode_origin)
    }
}

/// The records of a chunk; `None` if it is damaged.
pub(super) fn parse(partition: u32, first: u64, stored: &[u8]) -> Option<Vec<Place>> {
    let (expected, rest) = stored.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*expected) != checksum(partition, first, rest) {
        return None;
    }
    let count = u32::from_le_bytes(*rest.first_chunk::<4>()?);
    let mut places = Vec::with_capacity(usize::try_from(count.min(FULL_RECORDS)).ok()?);
    let mut at = HEAD_BYTES;
    for _ in 0..count {
        let head = stored.get(at..)?.first_chunk::<14>()?;
        let (at_ns, lengths) = head.split_first_chunk::<8>()?;
        let (origin_len, payload_len) = lengths.split_first_chunk::<2>()?;
        let origin_len = usize::from(u16::from_le_bytes(*origin_len));
        let payload_len = usize::try_from(u32::from_le_bytes(*payload_len.first_chunk()?)).ok()?;
        let origin = at + 14..at + 14 + origin_len;
        let payload = origin.end..origin.end.checked_add(payload_len)?;
        at = payload.end;
        stored.get(..at)?;
        places.push(Place { at_ns: i64::from_le_bytes(*at_ns), origin, payload });
    }
    Some(places)
}

/// Since when the last record of the chunk is kept; of a damaged one whatever is there.
pub(super) fn kept_at_ns(stored: &[u8]) -> i64 {
    let bytes = stored.get(8..16).and_then(|bytes| bytes.first_chunk::<8>());
    bytes.map_or(0, |bytes| i64::from_le_bytes(*bytes))
}

fn encode_origin(origin: &Origin) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + origin.group.len());
    bytes.extend_from_slice(&origin.id.epoch.to_le_bytes());
    bytes.extend_from_slice(&origin.id.partition.to_le_bytes());
    bytes.extend_from_slice(&origin.id.offset.to_le_bytes());
    bytes.extend_from_slice(&origin.deliveries.to_le_bytes());
    bytes.extend_from_slice(origin.group.as_bytes());
    bytes
}

fn decode_origin(bytes: &[u8]) -> Option<Origin> {
    let (epoch, rest) = bytes.split_first_chunk::<4>()?;
    let (partition, rest) = rest.split_first_chunk::<4>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (deliveries, group) = rest.split_first_chunk::<4>()?;
    let id = MessageId {
        epoch: u32::from_le_bytes(*epoch),
        partition: u32::from_le_bytes(*partition),
        offset: u64::from_le_bytes(*offset),
    };
    let group = str::from_utf8(group).ok()?.to_owned();
    Some(Origin { id, group, deliveries: u32::from_le_bytes(*deliveries) })
}

fn checksum(partition: u32, first: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&partition.to_le_bytes());
    hasher.update(&first.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_a_changed_bit_is_seen(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            bit in any::<prop::sample::Index>(),
        ) {
            let id = MessageId { epoch: 1, partition: 2, offset: 3 };
            let origin = Origin { id, group: "g".to_owned(), deliveries: 5 };
            let mut builder = Builder::new(7, 100);
            for (index, payload) in payloads.iter().enumerate() {
                builder.push(-1, i64::try_from(index).unwrap(), (index % 2 == 1).then_some(&origin), payload);
            }
            let mut stored = builder.finish();
            let places = parse(7, 100, &stored).unwrap();
            prop_assert_eq!(places.len(), payloads.len());
            for (index, (place, payload)) in places.iter().zip(&payloads).enumerate() {
                prop_assert_eq!(&stored[place.payload.clone()], payload.as_slice());
                prop_assert_eq!(place.origin(&stored), (index % 2 == 1).then_some(origin.clone()));
            }
            prop_assert_eq!(kept_at_ns(&stored), i64::try_from(payloads.len()).unwrap() - 1);
            // In another place it is damage too.
            prop_assert!(parse(7, 101, &stored).is_none() && parse(8, 100, &stored).is_none());
            let bit = bit.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse(7, 100, &stored).is_none());
        }

        #[test]
        fn rubbish_is_no_chunk(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(0, 0, &bytes).is_none());
        }
    }
}
