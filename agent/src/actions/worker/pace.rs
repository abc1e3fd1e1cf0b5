//! How much CPU time, or how many operations, a worker owes at a moment, so that what it took follows what was asked.
//!
//! The sum counts, not the moment: a worker that was preempted owes what it missed and takes it as soon as it may, up to
//! [`DEBT_PERIODS`]; more than that was never there to take, and is forgiven. During the ramp the strength grows in a
//! straight line, so what is owed grows with the square of time.

/// A load that bursts for longer than this after a stall would be another load than was asked for.
const DEBT_PERIODS: f64 = 10.0;

/// The account of one worker; times are ns.
#[derive(Debug)]
pub(super) struct Pace {
    per_ns: f64,
    ramp_ns: f64,
    debt_max: f64,
    forgiven: f64,
}

impl Pace {
    /// `per_ns` of whatever is counted, after `ramp_ns`, looked at every `period_ns`.
    pub(super) fn new(per_ns: f64, ramp_ns: u64, period_ns: u64) -> Self {
        let debt_max = float(period_ns) * DEBT_PERIODS * per_ns;
        Self { per_ns, ramp_ns: float(ramp_ns), debt_max, forgiven: 0.0 }
    }

    /// What to take between `elapsed_ns` and `until_ns` after the start, by a worker that took `taken` so far.
    pub(super) fn owed(&mut self, elapsed_ns: u64, until_ns: u64, taken: u64) -> f64 {
        let missed = self.asked(elapsed_ns) - float(taken) - self.forgiven;
        self.forgiven += (missed - self.debt_max).max(0.0);
        (self.asked(until_ns) - float(taken) - self.forgiven).max(0.0)
    }

    /// Asked for since the start.
    fn asked(&self, elapsed_ns: u64) -> f64 {
        let elapsed = float(elapsed_ns);
        if elapsed < self.ramp_ns {
            return self.per_ns * elapsed * elapsed / (2.0 * self.ramp_ns);
        }
        self.per_ns * (elapsed - self.ramp_ns / 2.0)
    }
}

/// Of a `whole` that is asked for, what is due `elapsed_ns` after the start of a ramp.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a whole number, not negative"
)]
pub(super) fn due(whole: u64, ramp_ns: u64, elapsed_ns: u64) -> u64 {
    if elapsed_ns >= ramp_ns {
        return whole;
    }
    (float(whole) * (float(elapsed_ns) / float(ramp_ns))) as u64
}

/// Exact up to 104 days, and for bytes up to 9 PB.
#[expect(clippy::cast_precision_loss, reason = "a fault lasts hours: far below 2^53 ns")]
const fn float(value: u64) -> f64 {
    value as f64
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
            let owed = pace.owed(period * PERIOD_NS, (period + 1) * PERIOD_NS, used);
            used + whole(owed).min(granted_ns)
        })
    }

    #[test]
    fn a_worker_that_may_run_takes_what_was_asked() {
        for percent in [1.0, 10.0, 30.0, 99.5, 100.0] {
            let used = run(&mut Pace::new(percent / 100.0, 0, PERIOD_NS), 100, PERIOD_NS);
            let share = used as f64 / (100 * PERIOD_NS) as f64 * 100.0;
            assert!((share - percent).abs() < 0.01, "{percent}: {share}");
        }
    }

    #[test]
    fn a_ramp_of_the_whole_time_is_half_the_load() {
        let used = run(&mut Pace::new(0.8, 100 * PERIOD_NS, PERIOD_NS), 100, PERIOD_NS);
        let share = used as f64 / (100 * PERIOD_NS) as f64 * 100.0;
        assert!((share - 40.0).abs() < 0.01, "{share}");
    }

    #[test]
    fn what_was_missed_is_made_up_for_but_not_for_ever() {
        let mut short = Pace::new(0.5, 0, PERIOD_NS);
        assert_eq!(short.owed(4 * PERIOD_NS, 5 * PERIOD_NS, 0), 2.5 * PERIOD_NS as f64);
        let mut long = Pace::new(0.5, 0, PERIOD_NS);
        let owed = long.owed(1_000 * PERIOD_NS, 1_001 * PERIOD_NS, 0);
        assert_eq!(owed, 5.5 * PERIOD_NS as f64, "ten periods and the next");
        let again = long.owed(1_001 * PERIOD_NS, 1_002 * PERIOD_NS, whole(owed));
        assert_eq!(again, 0.5 * PERIOD_NS as f64, "forgiven is forgotten");
    }

    #[test]
    fn a_level_grows_in_a_straight_line_to_the_whole() {
        assert_eq!([0, 5, 10, 11].map(|elapsed_ns| due(1_000, 10, elapsed_ns)), [0, 500, 1_000, 1_000]);
        assert_eq!(due(1_000, 0, 0), 1_000);
    }
}
