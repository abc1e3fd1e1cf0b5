//! Latencies of many threads between two reports, in buckets that are a sixteenth of an octave apart (at most 4.5 % wide).

use std::sync::atomic::{AtomicU32, Ordering};

const PER_OCTAVE: u32 = 16;
/// From 1 ns to 2^40 ns, 18 minutes: no event takes longer.
const OCTAVES: u32 = 40;
const BUCKETS: usize = (PER_OCTAVE * OCTAVES) as usize;

/// See the module.
pub(super) struct Latencies {
    buckets: Box<[AtomicU32]>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Latencies {
    /// Counts an event.
    pub(super) fn add(&self, latency_ns: u64) {
        self.buckets[bucket(latency_ns)].fetch_add(1, Ordering::Relaxed);
    }

    /// Events since the last call, and the latency that this percentage of them did not exceed, ms.
    pub(super) fn take(&self, percentile: u32) -> (u32, f64) {
        let counts: Vec<u32> = self.buckets.iter().map(|bucket| bucket.swap(0, Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().copied().map(u64::from).sum();
        let wanted = (total * u64::from(percentile)).div_ceil(100);
        let mut seen = 0;
        let reached = counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted.max(1)
        });
        let latency_ns = reached.map_or(0.0, upper_ns);
        (u32::try_from(total).unwrap_or(u32::MAX), latency_ns / 1e6)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a logarithm of 1 to 2^64, times sixteen"
)]
fn bucket(latency_ns: u64) -> usize {
    let index = (latency_ns.max(1) as f64).log2() * f64::from(PER_OCTAVE);
    (index as usize).min(BUCKETS - 1)
}

#[expect(clippy::cast_precision_loss, reason = "a small index")]
fn upper_ns(bucket: usize) -> f64 {
    ((bucket + 1) as f64 / f64::from(PER_OCTAVE)).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_a_bucket_of_the_truth() {
        let latencies = Latencies::default();
        for latency_us in 1..=1_000_u64 {
            latencies.add(latency_us * 1_000);
        }
        let (events, latency_ms) = latencies.take(95);
        assert_eq!(events, 1_000);
        assert!((0.950..=0.950 * 1.045).contains(&latency_ms), "{latency_ms}");
        assert_eq!(latencies.take(95), (0, 0.0), "taken");
    }

    #[test]
    fn nothing_is_too_short_or_too_long() {
        let latencies = Latencies::default();
        latencies.add(0);
        latencies.add(u64::MAX);
        assert_eq!(latencies.take(100).0, 2);
    }
}
