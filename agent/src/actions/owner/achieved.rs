//! What an anomaly's workers say together: their sums over time as a rate, their levels as they are.

use crate::actions::executor::Report;
use crate::domain::action::{Anomaly, Point, Unit};

/// A worker reports every second; a point of less would be two workers' rounding.
const POINT_NS: u64 = 1_000_000_000;

/// Up to the last point.
#[derive(Debug, Default)]
pub(super) struct Achieved {
    elapsed_ns: u64,
    amount: u64,
}

impl Achieved {
    /// Takes in the latest report of each worker; nothing before every one has said something.
    pub(super) fn take(&mut self, reports: &[Report], anomaly: &mut Anomaly) {
        if reports.is_empty() || reports.len() < anomaly.steps.len() {
            return;
        }
        let elapsed_ns = reports.iter().map(|report| report.elapsed_ns).sum::<u64>() / reports.len() as u64;
        if elapsed_ns < self.elapsed_ns + POINT_NS / 2 {
            return;
        }
        anomaly.details.clear();
        for (name, value) in reports.iter().flat_map(|report| &report.details) {
            *anomaly.details.entry(name.clone()).or_default() += value;
        }
        // Of what has no measure yet there is no point.
        let Some(amount) = reports.iter().map(|report| report.amount).sum::<Option<u64>>() else { return };
        let (value, overall) = match anomaly.unit {
            Unit::PercentOfCore | Unit::BytesPerS | Unit::OperationsPerS | Unit::BitsPerS => {
                // ns of CPU time per ns; else things per second.
                let scale = if anomaly.unit == Unit::PercentOfCore { 100.0 } else { 1e9 };
                let since = (amount.saturating_sub(self.amount), elapsed_ns - self.elapsed_ns);
                (rate(since, scale), rate((amount, elapsed_ns), scale))
            }
            // Two guardians hold the same limits.
            Unit::Limits => both(float(amount) / float(reports.len() as u64)),
            Unit::Bytes | Unit::Tasks => both(float(amount)),
            Unit::Ms | Unit::PercentLost | Unit::PercentDuplicated | Unit::PercentCorrupted => {
                both(float(amount) / 1e3)
            }
        };
        (self.elapsed_ns, self.amount) = (elapsed_ns, amount);
        anomaly.achieved = Some(overall);
        anomaly.push(Point { at_s: hundredths(float(elapsed_ns) / 1e9), value });
    }
}

const fn both(level: f64) -> (f64, f64) {
    (level, level)
}

fn rate((amount, elapsed_ns): (u64, u64), scale: f64) -> f64 {
    hundredths(float(amount) / float(elapsed_ns.max(1)) * scale)
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "hours in ns, and bytes of a node, are below 2^53")]
const fn float(value: u64) -> f64 {
    value as f64
}
