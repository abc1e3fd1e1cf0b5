//! How many log lines of refused requests are written: a client that sends garbage must not fill the disk.

use std::sync::Mutex;

use tokio::time::{Duration, Instant};

/// At most so many lines in each second; the rest is counted.
#[derive(Debug)]
pub(super) struct Throttle {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl Throttle {
    pub(super) const fn new(per_second: u32) -> Self {
        Self { per_second, window: Mutex::new(Window { since: None, written: 0, held_back: 0 }) }
    }

    /// `Some(n)`: write the line, and say that `n` were held back since the last one. `None`: hold it back.
    pub(super) fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        // Nothing below can panic while the lock is held; a poisoned lock still guards plain numbers.
        let mut window = self.window.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if window.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            window.since = Some(now);
            window.written = 0;
        }
        if window.written >= self.per_second {
            window.held_back = window.held_back.saturating_add(1);
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_held_back_lines_are_said_with_the_next_one() {
        let throttle = Throttle::new(2);
        let admitted: Vec<_> = (0..5).map(|_| throttle.admit()).collect();
        assert_eq!(admitted, [Some(0), Some(0), None, None, None]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(throttle.admit(), Some(3));
        assert_eq!(throttle.admit(), Some(0));
    }
}
