//! When a wait is worth a warning: once when it reaches the limit, again only after no wait did, and not more often than
//! once per timeout.

/// What was said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judge {
    /// Since some task has waited too long.
    told: bool,
    told_at_ns: Option<u64>,
}

impl Judge {
    /// Whether this longest wait is to be warned of; `now_ns` is a monotonic time.
    pub(super) fn warns(&mut self, wait_ns: u64, warn_at_ns: u64, timeout_ns: u64, now_ns: u64) -> bool {
        if wait_ns < warn_at_ns {
            self.told = false;
            return false;
        }
        let lately = self.told_at_ns.is_some_and(|at_ns| now_ns.saturating_sub(at_ns) < timeout_ns);
        if self.told || lately {
            return false;
        }
        (self.told, self.told_at_ns) = (true, Some(now_ns));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which waits are warned of, with a limit of 5 and a timeout of 10.
    fn warned(waits: &[(u64, u64)]) -> Vec<u64> {
        let mut judge = Judge::default();
        let warns = waits.iter().filter(|(now, wait)| judge.warns(*wait, 5, 10, *now));
        warns.map(|(now, _)| *now).collect()
    }

    #[test]
    fn a_wait_is_warned_of_once_and_before_the_timeout() {
        assert_eq!(warned(&[(1, 0), (2, 4), (3, 5), (4, 6), (8, 9), (20, 21)]), [3]);
        assert_eq!(warned(&[(1, 4), (2, 4), (30, 4)]), Vec::<u64>::new(), "control: below the limit");
    }

    #[test]
    fn waits_that_come_and_go_are_warned_of_once_per_timeout() {
        let flapping: Vec<_> = (0..40).map(|now| (now, if now % 2 == 0 { 6 } else { 0 })).collect();
        assert_eq!(warned(&flapping), [0, 10, 20, 30]);
        assert_eq!(warned(&[(0, 6), (1, 0), (3, 6), (12, 17)]), [0, 12], "late rather than never");
    }
}
