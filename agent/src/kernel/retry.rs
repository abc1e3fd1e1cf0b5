//! When to try again what the kernel refused.
//!
//! A capability is never given to a running process, and a kernel grows no types; but a limit on locked memory is raised,
//! a descriptor becomes free, the host's cgroup tree is mounted. An attempt parses the kernel's types (some 40 MB for a
//! moment), so they become rare soon.

use std::fmt;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// The first pause; what a node's own start makes scarce is there again.
const FIRST: Duration = Duration::from_secs(30);
/// The longest pause; jitter adds up to as much again.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Said beside every reason that is met with a retry.
pub const SAID: &str = "tried again, every half hour at the longest";

/// Pauses that double, with jitter, so that the nodes of a fleet do not all try at once.
pub struct Retry {
    pauses: ExponentialBackoff,
    due: Instant,
}

impl Default for Retry {
    fn default() -> Self {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .with_jitter()
            .without_max_times()
            .build();
        Self { pauses, due: Instant::now() }
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Retry").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Retry {
    /// It was refused: the next pause begins.
    pub fn refused(&mut self) {
        self.due = Instant::now() + self.pauses.next().unwrap_or(LONGEST);
    }

    /// When the pause ends.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// The pause has ended.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_half_an_hour_and_never_end() {
        let mut retry = Retry::default();
        assert!(retry.is_due(), "at once at first");
        let mut pauses = Vec::new();
        for _ in 0..100 {
            retry.refused();
            assert!(!retry.is_due());
            pauses.push((retry.due() - Instant::now()).as_secs_f64());
            tokio::time::sleep_until(retry.due()).await;
            assert!(retry.is_due());
        }
        let mut other = Retry::default();
        other.refused();
        let other = (other.due() - Instant::now()).as_secs_f64();
        assert!((other - pauses[0]).abs() > 1e-6, "two nodes draw other pauses: {other} and {}", pauses[0]);
        assert!((30.0..60.1).contains(&pauses[0]) && (60.0..120.1).contains(&pauses[1]), "{pauses:?}");
        assert!(pauses[10..].iter().all(|pause| (900.0..1_800.1).contains(pause)), "{pauses:?}");
    }
}
