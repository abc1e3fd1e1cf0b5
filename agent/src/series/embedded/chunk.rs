//! Samples in few bytes: of one series (a chunk), or of many as they came (a tail).
//!
//! ```text
//! chunk: crc32 (4, LE, over its key and the rest) | last_ms (8, LE) | samples (4, LE) | bytes of times (4, LE) | times | values
//! tail:  crc32 (4, LE, over its key and the rest) | bytes of numbers (4, LE) | bytes of times (4, LE) | numbers | times | values
//! ```
//!
//! Times, values and numbers are each a column that pco packed: lossless, to the bits of a NaN. A column is unpacked only
//! behind its checksum, since pco believes what it reads of lengths; the key is in it, so that nothing is read as another
//! series' or another time's.

use pco::errors::PcoError;
use pco::standalone::{simple_compress, simple_decompress};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use crate::disk::row;
use crate::domain::series::Sample;

/// Samples of one chunk: what is read to answer for a moment of a series that never changes.
pub(super) const MAX_SAMPLES: usize = 8_192;

/// Bytes of a chunk: with its key it just fits a page of redb, 4 KiB.
pub(super) const MAX_BYTES: usize = 4_000;

/// What one number of a series, and its sample, is in a tail.
pub(super) type Row = (u32, Sample);

/// Ascending samples of a series as a chunk.
pub(super) fn encode(series: u32, samples: &[Sample]) -> Result<Vec<u8>, PcoError> {
    let times: Vec<i64> = samples.iter().map(|sample| sample.at_ms).collect();
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    let times = simple_compress(&times, &regular())?;
    let values = simple_compress(&values, &ChunkConfig::default())?;
    let mut bytes = Vec::with_capacity(16 + times.len() + values.len());
    bytes.extend(samples.last().map_or(0, |last| last.at_ms).to_le_bytes());
    bytes.extend(length(samples.len()));
    bytes.extend(length(times.len()));
    bytes.extend(times);
    bytes.extend(values);
    let first_ms = samples.first().map_or(0, |first| first.at_ms);
    Ok(row::sealed(&chunk_key(series, first_ms), &bytes))
}

/// When its last sample is; `None` if it is no chunk.
pub(super) fn last_ms(chunk: &[u8]) -> Option<i64> {
    chunk.get(4..12)?.try_into().ok().map(i64::from_le_bytes)
}

/// How many samples it says that it has.
pub(super) fn count(chunk: &[u8]) -> Option<usize> {
    number(chunk, 12)
}

/// The samples of the chunk with this key; `None` if it is damaged.
pub(super) fn decode(series: u32, first_ms: i64, chunk: &[u8]) -> Option<Vec<Sample>> {
    let rest = row::checked(&chunk_key(series, first_ms), chunk)?;
    let (count, times_len) = (number(rest, 8)?, number(rest, 12)?);
    let (times, values) = rest.get(16..)?.split_at_checked(times_len)?;
    let (times, values) = (simple_decompress::<i64>(times).ok()?, simple_decompress::<f64>(values).ok()?);
    if times.len() != count || values.len() != count {
        return None;
    }
    Some(times.into_iter().zip(values).map(|(at_ms, value)| Sample { at_ms, value }).collect())
}

/// Samples of one commit, ascending by series.
pub(super) fn encode_tail(key: u64, rows: &[Row]) -> Result<Vec<u8>, PcoError> {
    let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
    let times: Vec<i64> = rows.iter().map(|(_, sample)| sample.at_ms).collect();
    let values: Vec<f64> = rows.iter().map(|(_, sample)| sample.value).collect();
    // It is read at most once, and gone in a minute: speed before size.
    let quick = || regular().with_compression_level(4);
    let (numbers, times) = (simple_compress(&numbers, &quick())?, simple_compress(&times, &quick())?);
    let mut bytes = length(numbers.len()).to_vec();
    bytes.extend(length(times.len()));
    bytes.extend(numbers);
    bytes.extend(times);
    let plain = ChunkConfig::default()
        .with_compression_level(2)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(DeltaSpec::NoOp);
    bytes.extend(simple_compress(&values, &plain)?);
    Ok(row::sealed(&key.to_le_bytes(), &bytes))
}

/// The samples of a commit; `None` if it is damaged.
pub(super) fn decode_tail(key: u64, tail: &[u8]) -> Option<Vec<Row>> {
    let rest = row::checked(&key.to_le_bytes(), tail)?;
    let (numbers_len, times_len) = (number(rest, 0)?, number(rest, 4)?);
    let (numbers, rest) = rest.get(8..)?.split_at_checked(numbers_len)?;
    let (times, values) = rest.split_at_checked(times_len)?;
    let numbers = simple_decompress::<u32>(numbers).ok()?;
    let (times, values) = (simple_decompress::<i64>(times).ok()?, simple_decompress::<f64>(values).ok()?);
    if numbers.len() != times.len() || numbers.len() != values.len() {
        return None;
    }
    let samples = times.into_iter().zip(values).map(|(at_ms, value)| Sample { at_ms, value });
    Some(numbers.into_iter().zip(samples).collect())
}

/// Times come at an interval: the difference to the one before is all there is to say, and no mode is worth a try.
fn regular() -> ChunkConfig {
    ChunkConfig::default().with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::TryConsecutive(1))
}

fn chunk_key(series: u32, first_ms: i64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&series.to_le_bytes());
    key[4..].copy_from_slice(&first_ms.to_le_bytes());
    key
}

fn length(of: usize) -> [u8; 4] {
    // A chunk has thousands of samples, a commit less than a million.
    u32::try_from(of).unwrap_or(u32::MAX).to_le_bytes()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(at_ms: i64, bits: u64) -> Sample {
        Sample { at_ms, value: f64::from_bits(bits) }
    }

    proptest! {
        /// Bit for bit, whatever the times and the values.
        #[test]
        fn a_chunk_comes_back(rows in prop::collection::vec((any::<i64>(), any::<u64>()), 0..300)) {
            let samples: Vec<_> = rows.iter().map(|(at, bits)| sample(*at, *bits)).collect();
            let chunk = encode(7, &samples).unwrap();
            prop_assert_eq!(count(&chunk), Some(samples.len()));
            prop_assert_eq!(last_ms(&chunk), Some(samples.last().map_or(0, |last| last.at_ms)));
            let first = samples.first().map_or(0, |first| first.at_ms);
            prop_assert!(decode(8, first, &chunk).is_none());
            prop_assert_eq!(decode(7, first, &chunk).unwrap(), samples);
        }

        #[test]
        fn a_tail_comes_back(rows in prop::collection::vec((any::<u32>(), any::<i64>(), any::<u64>()), 0..300)) {
            let rows: Vec<_> = rows.iter().map(|(number, at, bits)| (*number, sample(*at, *bits))).collect();
            prop_assert_eq!(decode_tail(9, &encode_tail(9, &rows).unwrap()).unwrap(), rows);
        }

        /// No bit can turn, no byte can be missing, and no bytes whatever make it panic.
        #[test]
        fn damage_is_found(count in 1..200_i64, at in any::<prop::sample::Index>(), bit in 0..8_u32,
            noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let samples: Vec<_> = (0..count).map(|n| sample(n * 1_000, (n as f64).to_bits())).collect();
            let mut chunk = encode(7, &samples).unwrap();
            prop_assert!(decode(7, 0, &chunk[..at.index(chunk.len())]).is_none());
            let place = at.index(chunk.len());
            chunk[place] ^= 1 << bit;
            prop_assert!(decode(7, 0, &chunk).is_none());
            prop_assert!(decode(7, 0, &noise).is_none());
            prop_assert!(decode_tail(1, &noise).is_none());
        }
    }

    /// What the reference's file looks like: whole percents that move now and then, once a second.
    #[test]
    fn a_percent_a_second_takes_less_than_a_byte() {
        let samples: Vec<_> = (0..3_600_i32)
            .map(|n| sample(i64::from(n) * 1_000, f64::from(90 + n / 7 % 5).to_bits()))
            .collect();
        let size = encode(7, &samples).unwrap().len();
        assert!(size < samples.len(), "{size} bytes");
    }
}
