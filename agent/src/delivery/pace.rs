//! How long to wait after a failure: exponential, with jitter, and never less than the receiver asked for.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use uuid::Uuid;

/// A receiver that asks for more is asked again all the same: it may have been misconfigured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The pauses of one series of failures.
#[derive(Debug)]
pub(crate) struct Pace {
    builder: ExponentialBuilder,
    backoff: ExponentialBackoff,
    max: Duration,
}

impl Pace {
    /// Pauses from `min` to `max`. Jitter adds up to as much again to each, so the series itself ends at half.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        // The crate's own seed is a constant without its `std` feature: all nodes would wait alike.
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        let builder = ExponentialBuilder::new()
            .with_min_delay(min)
            .with_max_delay((max / 2).max(min))
            .without_max_times()
            .with_jitter()
            .with_jitter_seed(seed);
        Self { builder, backoff: builder.build(), max }
    }

    /// The next pause.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let pause = self.backoff.next().unwrap_or(self.max).min(self.max);
        // Jitter on top of what was asked for: all nodes were asked the same.
        retry_after.map_or(pause, |asked| asked.min(MAX_RETRY_AFTER) + pause)
    }

    /// The next failure starts a new series.
    pub(crate) fn reset(&mut self) {
        self.backoff = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(30);

    #[test]
    fn pauses_grow_to_the_limit_and_stay_below_it() {
        let mut pace = Pace::new(MIN, MAX);
        let pauses: Vec<_> = (0..50).map(|_| pace.next(None)).collect();
        assert!(pauses[0] >= MIN && pauses[0] < 2 * MIN, "{:?}", pauses[0]);
        assert!(pauses.iter().all(|pause| *pause <= MAX));
        assert!(pauses[20..].iter().all(|pause| *pause >= MAX / 2));
        pace.reset();
        assert!(pace.next(None) < 2 * MIN);
    }

    #[test]
    fn two_nodes_do_not_wait_alike() {
        let (mut one, mut other) = (Pace::new(MIN, MAX), Pace::new(MIN, MAX));
        let pauses = |pace: &mut Pace| (0..20).map(|_| pace.next(None)).collect::<Vec<_>>();
        assert_ne!(pauses(&mut one), pauses(&mut other));
    }

    #[test]
    fn a_receivers_wish_is_a_minimum_with_a_limit() {
        let mut pace = Pace::new(MIN, MAX);
        let asked = Duration::from_secs(7);
        assert!(pace.next(Some(asked)) >= asked);
        assert!(pace.next(Some(Duration::from_secs(u64::MAX))) <= MAX_RETRY_AFTER + MAX);
    }
}
