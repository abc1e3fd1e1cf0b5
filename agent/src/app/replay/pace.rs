//! When a row is sent, and which time it then has.
//!
//! - realtime: the first row at once, each other one as much later as its time is; a row has the time at which it is sent.
//!   A pass begins a second after the one before ended. Rows that are not in the order of their times are sent late, with
//!   the times that they would have had.
//! - else: as fast as asked for; the last row has the time at which the pass began, so that no row lies in the future.

use tokio::time::{Duration, Instant};

use crate::cli::replay::Rate;

/// Rows that are due within it go together: ten requests a second are enough of them.
const TOGETHER: Duration = Duration::from_millis(100);

/// Between two passes in real time.
const BETWEEN_NS: i64 = 1_000_000_000;

/// A millisecond: what other stores keep of a time.
const MS_NS: i64 = 1_000_000;

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    /// Lines that are rows, good or bad.
    pub(super) lines: u64,
    /// The earliest and the latest time, ns since the epoch.
    times: Option<(i64, i64)>,
}

impl Span {
    pub(super) fn add(&mut self, at_ns: i64) {
        let (first, last) = self.times.unwrap_or((at_ns, at_ns));
        self.times = Some((first.min(at_ns), last.max(at_ns)));
    }
}

pub(super) struct Pace {
    rate: Rate,
    keep_time: bool,
    first_ns: i64,
    last_ns: i64,
    /// When the pass began, on both clocks; of rows a second, when everything did.
    began: Instant,
    began_ns: i64,
    /// Rows so far.
    rows: u64,
}

impl Pace {
    pub(super) fn new(rate: Rate, keep_time: bool, span: Span, now: Instant, now_ns: i64) -> Self {
        let (first_ns, last_ns) = span.times.unwrap_or_default();
        Self { rate, keep_time, first_ns, last_ns, began: now, began_ns: now_ns, rows: 0 }
    }

    /// The same rows again.
    pub(super) fn next_pass(&mut self, now: Instant, now_ns: i64) {
        match self.rate {
            Rate::Realtime => {
                let length_ns = self.last_ns.saturating_sub(self.first_ns).saturating_add(BETWEEN_NS);
                self.began += Duration::from_nanos(length_ns.unsigned_abs());
                self.began_ns = self.began_ns.saturating_add(length_ns);
                // A receiver that had no room for a while: what is late stays late, but the next pass begins now.
                if self.began < now {
                    (self.began, self.began_ns) = (now, now_ns);
                }
            }
            Rate::Max | Rate::PerSecond(_) => self.began_ns = now_ns,
        }
    }

    /// When the next row, which has this time in the file, is sent.
    pub(super) fn due(&mut self, at_ns: i64) -> Instant {
        let after = match self.rate {
            Rate::Max => return self.began,
            Rate::Realtime => Duration::from_nanos(at_ns.saturating_sub(self.first_ns).max(0).unsigned_abs()),
            Rate::PerSecond(rate) => {
                #[expect(clippy::cast_precision_loss, reason = "no run has 2^53 rows")]
                let after_s = self.rows as f64 / rate;
                self.rows += 1;
                Duration::try_from_secs_f64(after_s).unwrap_or(Duration::MAX)
            }
        };
        let ticks = after.as_nanos().div_ceil(TOGETHER.as_nanos());
        let after = TOGETHER.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
        self.began.checked_add(after).unwrap_or(self.began)
    }

    /// The time that the row has when it is sent, ns since the epoch.
    pub(super) fn stamp(&self, at_ns: i64) -> i64 {
        if self.keep_time {
            return at_ns;
        }
        let from = if self.rate == Rate::Realtime { self.first_ns } else { self.last_ns };
        let stamp_ns = self.began_ns.saturating_add(at_ns.saturating_sub(from));
        stamp_ns.div_euclid(MS_NS) * MS_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    const NOW_NS: i64 = 1_000 * S;

    fn pace(rate: Rate, now: Instant) -> Pace {
        let mut span = Span::default();
        for at_s in [20, 10, 13] {
            span.add(at_s * S);
        }
        Pace::new(rate, false, span, now, NOW_NS)
    }

    #[test]
    fn in_real_time_rows_are_sent_when_their_times_say_and_have_that_time() {
        let now = Instant::now();
        let mut pace = pace(Rate::Realtime, now);
        let mut row =
            |at_s: i64| ((pace.due(at_s * S) - now).as_secs_f64(), (pace.stamp(at_s * S) - NOW_NS) / S);
        assert_eq!([row(10), row(13), row(20)], [(0.0, 0), (3.0, 3), (10.0, 10)]);
        assert_eq!(row(5), (0.0, -5), "before the first that the survey saw");
        pace.next_pass(now + Duration::from_secs(10), NOW_NS + 10 * S);
        assert_eq!((pace.due(10 * S) - now, pace.stamp(10 * S)), (Duration::from_secs(11), NOW_NS + 11 * S));
        // A receiver that had no room for a minute.
        pace.next_pass(now + Duration::from_secs(60), NOW_NS + 60 * S);
        assert_eq!((pace.due(10 * S) - now, pace.stamp(10 * S)), (Duration::from_secs(60), NOW_NS + 60 * S));
    }

    #[test]
    fn faster_rows_keep_their_distances_and_end_now() {
        let now = Instant::now();
        for rate in [Rate::Max, Rate::PerSecond(10.0)] {
            let mut pace = pace(rate, now);
            let stamps: Vec<_> = [10, 13, 20].map(|at_s| (pace.stamp(at_s * S) - NOW_NS) / S).into();
            assert_eq!(stamps, [-10, -7, 0]);
            pace.next_pass(now, NOW_NS + S);
            assert_eq!(pace.stamp(20 * S), NOW_NS + S);
            let due: Vec<_> = (0..11).map(|_| (pace.due(0) - now).as_millis()).collect();
            assert_eq!(due[10], if rate == Rate::Max { 0 } else { 1_000 });
        }
        let mut pace = Pace { keep_time: true, ..pace(Rate::Max, now) };
        assert_eq!((pace.stamp(7), pace.due(i64::MAX)), (7, now));
    }

    #[test]
    fn no_time_is_too_far_away() {
        let now = Instant::now();
        let mut span = Span::default();
        span.add(i64::MIN);
        span.add(i64::MAX);
        let mut pace = Pace::new(Rate::Realtime, false, span, now, NOW_NS);
        for at_ns in [i64::MIN, 0, i64::MAX] {
            let _ = (pace.due(at_ns), pace.stamp(at_ns));
        }
        pace.next_pass(now, NOW_NS);
        assert!(Pace::new(Rate::PerSecond(1e-300), false, span, now, 0).due(0) >= now);
    }
}
