//! How much CPU time a worker owes at a moment, so that what it took follows what was asked.
//!
//! The sum counts, not the moment: a worker that was preempted owes what it missed and takes it as soon as it may, up to
//! [`DEBT_PERIODS`]; more than that was never there to take, and is forgiven. During the ramp the strength grows in a
//! straight line, so what is owed grows with the square of time.

/// A load that bursts for longer than this after a stall would be another load than was asked for.
const DEBT_PERIODS: f64 = 10.0;

/// The account of one worker; times are ns.
#[derive(Debug)]
pub(super) struct Pace {
    share: f64,
    ramp_ns: f64,
    debt_max_ns: f64,
    forgiven_ns: f64,
}

impl Pace {
    /// `percent` of one core, after `ramp_ns`, looked at every `period_ns`.
    pub(super) fn new(percent: f64, ramp_ns: u64, period_ns: u64) -> Self {
        Self {
            share: percent / 100.0,
            ramp_ns: float(ramp_ns),
            debt_max_ns: float(period_ns) * DEBT_PERIODS * percent / 100.0,
            forgiven_ns: 0.0,
        }
    }

    /// CPU time to take between `elapsed_ns` and `until_ns` after the start, by a worker that took `used_ns` so far.
    pub(super) fn owed_ns(&mut self, elapsed_ns: u64, until_ns: u64, used_ns: u64) -> f64 {
        let missed = self.asked_ns(elapsed_ns) - float(used_ns) - self.forgiven_ns;
        self.forgiven_ns += (missed - self.debt_max_ns).max(0.0);
        (self.asked_ns(until_ns) - float(used_ns) - self.forgiven_ns).max(0.0)
    }

    /// CPU time asked for since the start.
    fn asked_ns(&self, elapsed_ns: u64) -> f64 {
        let elapsed = float(elapsed_ns);
        if elapsed < self.ramp_ns {
            return self.share * elapsed * elapsed / (2.0 * self.ramp_ns);
        }
        self.share * (elapsed - self.ramp_ns / 2.0)
    }
}

/// Exact up to 104 days.
#[expect(clippy::cast_precision_loss, reason = "a fault lasts hours: far below 2^53 ns")]
const fn float(ns: u64) -> f64 {
    ns as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_NS: u64 = 50_000_000;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, at most periods"
    )]
    fn whole(ns: f64) -> u64 {
        ns.round() as u64
    }

    /// Takes what is owed for `periods`, at most `granted_ns` of each; what it took.
    fn run(pace: &mut Pace, periods: u64, granted_ns: u64) -> u64 {
        (0..periods).fold(0, |used, period| {
            let owed = pace.owed_ns(period * PERIOD_NS, (period + 1) * PERIOD_NS, used);
            used + whole(owed).min(granted_ns)
        })
    }

    #[test]
    fn a_worker_that_may_run_takes_what_was_asked() {
        for percent in [1.0, 10.0, 30.0, 99.5, 100.0] {
            let used = run(&mut Pace::new(percent, 0, PERIOD_NS), 100, PERIOD_NS);
            let share = used as f64 / (100 * PERIOD_NS) as f64 * 100.0;
            assert!((share - percent).abs() < 0.01, "{percent}: {share}");
        }
    }

    #[test]
    fn a_ramp_of_the_whole_time_is_half_the_load() {
        let used = run(&mut Pace::new(80.0, 100 * PERIOD_NS, PERIOD_NS), 100, PERIOD_NS);
        let share = used as f64 / (100 * PERIOD_NS) as f64 * 100.0;
        assert!((share - 40.0).abs() < 0.01, "{share}");
    }

    #[test]
    fn what_was_missed_is_made_up_for_but_not_for_ever() {
        let mut short = Pace::new(50.0, 0, PERIOD_NS);
        assert_eq!(short.owed_ns(4 * PERIOD_NS, 5 * PERIOD_NS, 0), 2.5 * PERIOD_NS as f64);
        let mut long = Pace::new(50.0, 0, PERIOD_NS);
        let owed = long.owed_ns(1_000 * PERIOD_NS, 1_001 * PERIOD_NS, 0);
        assert_eq!(owed, 5.5 * PERIOD_NS as f64, "ten periods and the next");
        let again = long.owed_ns(1_001 * PERIOD_NS, 1_002 * PERIOD_NS, whole(owed));
        assert_eq!(again, 0.5 * PERIOD_NS as f64, "forgiven is forgotten");
    }
}
