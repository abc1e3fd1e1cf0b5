//! Rates of foreign counters, which restart whenever their owner does.

/// Per second between two readings of a cumulative counter.
///
/// `None` where no rate can be known: the epochs differ (the counter's owner was replaced), the counter went
/// backwards, or no time passed. A rate is never negative.
pub fn per_second(before: Reading, now: Reading) -> Option<f64> {
    let delta = now.value.checked_sub(before.value)?;
    let elapsed_ns = now.at_ns.checked_sub(before.at_ns)?;
    if before.epoch != now.epoch || elapsed_ns == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate is for people; 53 bits of it are enough")]
    Some(delta as f64 * 1e9 / elapsed_ns as f64)
}

/// A counter's value at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which life of the counter's owner this value belongs to.
    pub epoch: u64,
    /// The counter.
    pub value: u64,
    /// Monotonic time, ns.
    pub at_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn reading(epoch: u64, value: u64, at_ns: u64) -> Reading {
        Reading { epoch, value, at_ns }
    }

    #[test]
    fn a_rate_needs_one_epoch_and_time_and_growth() {
        let before = reading(1, 100, 0);
        assert_eq!(per_second(before, reading(1, 150, 500_000_000)), Some(100.0));
        assert_eq!(per_second(before, reading(2, 150, 500_000_000)), None, "another scheduler's counter");
        assert_eq!(per_second(before, reading(1, 99, 500_000_000)), None, "went backwards");
        assert_eq!(per_second(before, reading(1, 150, 0)), None, "no time passed");
    }
}
