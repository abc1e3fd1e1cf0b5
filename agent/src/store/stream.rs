//! What one stream has delivered: pure arithmetic on sequence numbers.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Gaps remembered: a record in a remembered gap is stored when it comes late, one in a forgotten gap counts as
/// a duplicate. Batches come in order, so one is the rule.
const MAX_GAPS: usize = 64;

/// The numbers of a stream that are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// One more than the highest number seen.
    pub next_seq: u64,
    /// Records stored; expired ones included.
    pub stored: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Numbers below `next_seq` that never came, first and last of each gap, ascending.
    pub gaps: Vec<(u64, u64)>,
    /// Numbers in gaps that are forgotten.
    pub forgotten: u64,
}

impl Default for Stream {
    fn default() -> Self {
        Self { next_seq: 1, stored: 0, duplicates: 0, gaps: Vec::new(), forgotten: 0 }
    }
}

impl Stream {
    /// Numbers below `next_seq` that are not stored: the node dropped them, or keeps them for another receiver.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.gaps.iter().map(|(first, last)| last - first + 1).fold(self.forgotten, u64::saturating_add)
    }

    /// Numbers below `seq` that are stored.
    #[must_use]
    pub fn stored_below(&self, seq: u64) -> u64 {
        let end = seq.min(self.next_seq);
        let gaps = self.gaps.iter().filter(|(first, _)| *first < end);
        let missing = gaps.map(|(first, last)| last.saturating_add(1).min(end) - first);
        // What is forgotten was the lowest.
        end.saturating_sub(1).saturating_sub(missing.fold(self.forgotten, u64::saturating_add))
    }

    /// Takes `count` numbers from `first` on (at least 1 each, without overflow); returns those that are new.
    pub(super) fn admit(&mut self, first: u64, count: u64) -> Vec<RangeInclusive<u64>> {
        if count == 0 {
            return Vec::new();
        }
        let last = first + (count - 1);
        let mut new = Vec::new();
        let mut gaps = Vec::with_capacity(self.gaps.len() + 1);
        for &(from, to) in &self.gaps {
            let (start, end) = (from.max(first), to.min(last));
            if start > end {
                gaps.push((from, to));
                continue;
            }
            new.push(start..=end);
            if from < start {
                gaps.push((from, start - 1));
            }
            if end < to {
                gaps.push((end + 1, to));
            }
        }
        if last >= self.next_seq {
            if first > self.next_seq {
                gaps.push((self.next_seq, first - 1));
            }
            new.push(first.max(self.next_seq)..=last);
            self.next_seq = last + 1;
        }
        let excess = gaps.len().saturating_sub(MAX_GAPS);
        for (from, to) in gaps.drain(..excess) {
            self.forgotten = self.forgotten.saturating_add(to - from + 1);
        }
        self.gaps = gaps;
        let stored = new.iter().map(|range| range.end() - range.start() + 1).sum::<u64>();
        self.stored += stored;
        self.duplicates += count - stored;
        new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a set, with batches in any order.
        #[test]
        fn a_number_is_new_once(batches in prop::collection::vec((1..200_u64, 0..30_u64), 0..60)) {
            let (mut stream, mut seen, mut came) = (Stream::default(), BTreeSet::new(), 0);
            for (first, count) in batches {
                let expected: BTreeSet<_> = (first..first + count).filter(|seq| seen.insert(*seq)).collect();
                let new: Vec<_> = stream.admit(first, count).into_iter().flatten().collect();
                prop_assert!(new.is_sorted());
                prop_assert_eq!(new.into_iter().collect::<BTreeSet<_>>(), expected);
                came += count;
                let next = seen.last().map_or(1, |last| last + 1);
                prop_assert_eq!(stream.next_seq, next);
                prop_assert_eq!(stream.stored, seen.len() as u64);
                prop_assert_eq!(stream.duplicates, came - stream.stored);
                prop_assert_eq!(stream.missing(), next - 1 - stream.stored);
                for seq in [0, 1, first, first + count, next, u64::MAX] {
                    prop_assert_eq!(stream.stored_below(seq), seen.range(..seq).count() as u64);
                }
            }
        }
    }

    #[test]
    fn forgotten_gaps_are_still_missing() {
        let mut stream = Stream::default();
        for index in 1..=1_000 {
            stream.admit(index * 2, 1);
        }
        assert_eq!(stream.gaps.len(), MAX_GAPS);
        assert_eq!((stream.stored, stream.missing()), (1_000, 1_000));
        assert_eq!(stream.admit(1, 1), []);
        assert_eq!(stream.admit(1_999, 1), [1_999..=1_999]);
    }

    #[test]
    fn the_last_numbers_do_not_overflow() {
        let mut stream = Stream::default();
        stream.admit(u64::MAX - 10, 10);
        assert_eq!(stream.next_seq, u64::MAX);
        assert_eq!(stream.missing(), u64::MAX - 11);
    }
}
