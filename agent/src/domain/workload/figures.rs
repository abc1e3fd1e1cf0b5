//! What a load says of itself, once a second, and the sum of that.

use super::{Kind, State};

/// One report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Since the start, s.
    pub at_s: u32,
    /// Threads at work.
    pub threads: u32,
    /// Events (transactions) a second since the report before.
    pub events_per_s: f64,
    /// Of which percentile the latency is.
    pub percentile: u32,
    /// Latency of an event at that percentile, ms.
    pub latency_ms: f64,
    /// What databases report beside; none of loads without one.
    pub queries: Option<Queries>,
}

/// What a load on a database reports beside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queries {
    /// Queries a second.
    pub per_s: f64,
    /// Of them reads.
    pub reads_per_s: f64,
    /// Of them writes.
    pub writes_per_s: f64,
    /// Of them others.
    pub others_per_s: f64,
    /// Errors a second that were ignored.
    pub errors_per_s: f64,
    /// Connections made anew a second.
    pub reconnects_per_s: f64,
}

impl Figures {
    /// As kept over time.
    pub fn point(&self) -> Point {
        Point {
            at_s: self.at_s,
            events_per_s: self.events_per_s,
            queries_per_s: self.queries.map(|queries| queries.per_s),
            latency_ms: self.latency_ms,
            errors_per_s: self.queries.map(|queries| queries.errors_per_s),
        }
    }
}

/// A report as it is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Since the start, s.
    pub at_s: u32,
    /// Events a second.
    pub events_per_s: f64,
    /// Queries a second.
    pub queries_per_s: Option<f64>,
    /// Latency at the report's percentile, ms.
    pub latency_ms: f64,
    /// Errors a second that were ignored.
    pub errors_per_s: Option<f64>,
}

/// The sum of all reports: a load that is stopped by a signal says none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Time that reports cover, s.
    pub covered_s: u32,
    /// Events.
    pub events: f64,
    /// Queries; none of loads without a database.
    pub queries: Option<f64>,
    /// Errors that were ignored.
    pub errors: Option<f64>,
    /// The highest latency of all reports, each at its percentile, ms.
    pub worst_latency_ms: Option<f64>,
}

impl Totals {
    /// Adds a report that covers this time, s.
    pub fn add(&mut self, figures: &Figures, interval_s: u32) {
        let seconds = f64::from(interval_s);
        self.covered_s = self.covered_s.saturating_add(interval_s);
        self.events += figures.events_per_s * seconds;
        if let Some(queries) = figures.queries {
            *self.queries.get_or_insert_default() += queries.per_s * seconds;
            *self.errors.get_or_insert_default() += queries.errors_per_s * seconds;
        }
        self.worst_latency_ms =
            Some(self.worst_latency_ms.map_or(figures.latency_ms, |worst| worst.max(figures.latency_ms)));
    }

    /// Events a second over all of it; none before the first report.
    pub fn events_per_s(&self) -> Option<f64> {
        (self.covered_s > 0).then(|| self.events / f64::from(self.covered_s))
    }
}

/// What all workloads of a kind have done since the node began; none of what none of them did.
#[derive(Clone, Debug, PartialEq)]
pub struct KindSums {
    /// Which.
    pub kind: Kind,
    /// Those that are over, by what became of them.
    pub runs: Vec<(State, u64)>,
    /// Events, by reports.
    pub events: Option<f64>,
    /// Queries, by reports.
    pub queries: Option<f64>,
    /// Errors that were ignored, by reports.
    pub errors: Option<f64>,
}
