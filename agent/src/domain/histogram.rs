//! Histograms of durations with slots that double: exact counts and sum, quantiles to within their slot.

/// Slots: slot `n` counts durations of at least `2^n` ns and less than twice that; the first also 0 ns, the last
/// (34 s) everything above.
pub const SLOTS: usize = 36;

/// The last slots of the buckets that are exported: 4 us, 16 us ... 1 ms ... 17 s. Every other slot, because a series
/// per slot and container is more than most Prometheus servers want; quantiles are computed from all of them.
const BUCKET_ENDS: std::ops::RangeInclusive<usize> = 11..=33;

/// How often something took how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Occurrences by duration.
    pub slots: [u64; SLOTS],
    /// All durations together, ns.
    pub sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { slots: [0; SLOTS], sum_ns: 0 }
    }
}

impl Histogram {
    /// Occurrences.
    pub fn count(&self) -> u64 {
        self.slots.iter().fold(0, |sum, slot| sum.saturating_add(*slot))
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (slot, more) in self.slots.iter_mut().zip(other.slots) {
            *slot = slot.saturating_add(more);
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// What was counted since `before`; `None` when it is not an earlier reading of the same histogram.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let mut delta = Self { slots: [0; SLOTS], sum_ns: self.sum_ns.checked_sub(before.sum_ns)? };
        for (slot, (now, before)) in delta.slots.iter_mut().zip(self.slots.iter().zip(before.slots)) {
            *slot = now.checked_sub(before)?;
        }
        Some(delta)
    }

    /// The duration that a share of `per_mille` of all occurrences did not exceed, ns: by interpolation inside the
    /// slot it falls into, so at most a factor of two away. `None` when nothing was counted.
    pub fn quantile_ns(&self, per_mille: u16) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // The rank of the occurrence, from 1.
        let rank = (u128::from(count) * u128::from(per_mille.min(1000))).div_ceil(1000).max(1);
        let mut below = 0_u128;
        for (slot, &occurrences) in self.slots.iter().enumerate() {
            let up_to = below + u128::from(occurrences);
            if rank <= up_to {
                let from = if slot == 0 { 0 } else { lower_ns(slot) };
                let width = u128::from(upper_ns(slot) - from);
                let inside = width * (rank - below) / u128::from(occurrences);
                return Some(from.saturating_add(u64::try_from(inside).unwrap_or(u64::MAX)));
            }
            below = up_to;
        }
        None
    }

    /// What the exported buckets hold, each by itself, and where they end, ns; the last has no end.
    pub fn buckets(&self) -> Vec<(Option<u64>, u64)> {
        let mut buckets = Vec::new();
        let mut inside = 0_u64;
        for (slot, &occurrences) in self.slots.iter().enumerate() {
            inside = inside.saturating_add(occurrences);
            let last = slot == SLOTS - 1;
            if last || BUCKET_ENDS.contains(&slot) && (slot - BUCKET_ENDS.start()).is_multiple_of(2) {
                buckets.push(((!last).then(|| upper_ns(slot)), inside));
                inside = 0;
            }
        }
        buckets
    }
}

/// Shortest duration of a slot, ns.
pub const fn lower_ns(slot: usize) -> u64 {
    1 << slot
}

/// Where the next slot begins, ns.
pub const fn upper_ns(slot: usize) -> u64 {
    2 << slot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations_ns: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &ns in durations_ns {
            histogram.slots[usize::try_from(ns.max(1).ilog2()).unwrap_or(0).min(SLOTS - 1)] += 1;
            histogram.sum_ns += ns;
        }
        histogram
    }

    #[test]
    fn quantiles_stay_inside_the_slot_of_the_occurrence_they_ask_for() {
        let durations: Vec<u64> = (1..=1000).map(|n| n * 1000).collect();
        let histogram = of(&durations);
        for (per_mille, exact) in [(1, 1_000_u64), (500, 500_000), (990, 990_000), (1000, 1_000_000)] {
            let said = histogram.quantile_ns(per_mille).unwrap_or(0);
            let slot = usize::try_from(exact.ilog2()).unwrap_or(0);
            assert!((lower_ns(slot)..=upper_ns(slot)).contains(&said), "{per_mille}: {said} for {exact}");
        }
        assert_eq!(Histogram::default().quantile_ns(500), None);
        assert_eq!(of(&[0, 0]).quantile_ns(500), Some(1));
        assert_eq!(
            of(&[u64::MAX / 2]).quantile_ns(1000),
            Some(upper_ns(SLOTS - 1)),
            "the last slot has an end"
        );
    }

    #[test]
    fn every_occurrence_is_in_one_bucket() {
        let buckets = of(&[1, 4_095, 4_096, 16_384, 17_000_000_000, u64::MAX / 2]).buckets();
        assert_eq!(buckets.len(), 13, "twelve with an end, one without");
        assert_eq!(buckets[..3], [(Some(4_096), 2), (Some(16_384), 1), (Some(65_536), 1)]);
        assert_eq!(buckets[11..], [(Some(17_179_869_184), 1), (None, 1)]);
    }

    #[test]
    fn a_difference_needs_an_earlier_reading_of_the_same() {
        let (before, mut after) = (of(&[10, 100]), of(&[10, 100]));
        after.add(&of(&[1000]));
        assert_eq!(after.since(&before), Some(of(&[1000])));
        assert_eq!(before.since(&after), None, "it went backwards");
        assert_eq!(of(&[7]).since(&of(&[3])), None, "another histogram");
    }
}
