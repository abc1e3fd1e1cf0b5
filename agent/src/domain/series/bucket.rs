//! Samples by time bucket: one way for every store, so that the same question has the same answer on each.
//!
//! A bucket is named by its end, a multiple of its width since the epoch, and has the samples after the end before it up
//! to its own, that one included: the sample at 60.000 s belongs to the minute that ends there. Where a series ends is no
//! value; a bucket without values is left out.

use super::Sample;

/// What a bucket's samples become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// The last one.
    Last,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their mean.
    Avg,
    /// Their sum.
    Sum,
    /// How many there are.
    Count,
}

impl Aggregation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Last, Self::Min, Self::Max, Self::Avg, Self::Sum, Self::Count];

    /// Its word in requests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Sum => "sum",
            Self::Count => "count",
        }
    }
}

/// Samples of one series as they become buckets; takes them in ascending order, as they are read, and keeps only the
/// buckets.
#[derive(Clone, Debug)]
pub struct Bucketed {
    step_ms: i64,
    how: Aggregation,
    open: Option<Open>,
    done: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    end_ms: i64,
    value: f64,
    count: f64,
}

impl Bucketed {
    /// Buckets of this width, at least 1 ms.
    #[must_use]
    pub fn new(step_ms: i64, how: Aggregation) -> Self {
        Self { step_ms: step_ms.max(1), how, open: None, done: Vec::new() }
    }

    /// The next sample.
    pub fn push(&mut self, sample: Sample) {
        if sample.is_stale() {
            return;
        }
        let end_ms = end_of(sample.at_ms, self.step_ms);
        match &mut self.open {
            Some(open) if open.end_ms == end_ms => open.take(sample.value, self.how),
            _ => {
                self.close();
                self.open = Some(Open { end_ms, value: sample.value, count: 1.0 });
            }
        }
    }

    /// Buckets closed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// No bucket is closed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// All buckets.
    #[must_use]
    pub fn finish(mut self) -> Vec<Sample> {
        self.close();
        self.done
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.done.push(Sample { at_ms: open.end_ms, value: open.result(self.how) });
        }
    }
}

impl Open {
    fn take(&mut self, value: f64, how: Aggregation) {
        self.count += 1.0;
        self.value = match how {
            Aggregation::Last | Aggregation::Count => value,
            // A NaN among them does not hide the others.
            Aggregation::Min => self.value.min(value),
            Aggregation::Max => self.value.max(value),
            Aggregation::Avg | Aggregation::Sum => self.value + value,
        };
    }

    fn result(&self, how: Aggregation) -> f64 {
        match how {
            Aggregation::Last | Aggregation::Min | Aggregation::Max | Aggregation::Sum => self.value,
            Aggregation::Avg => self.value / self.count,
            Aggregation::Count => self.count,
        }
    }
}

/// The end of the bucket that a moment belongs to.
#[must_use]
pub fn end_of(at_ms: i64, step_ms: i64) -> i64 {
    let start_ms = at_ms.saturating_sub(1).div_euclid(step_ms).saturating_mul(step_ms);
    start_ms.saturating_add(step_ms)
}

/// Ascending samples by bucket.
#[must_use]
pub fn bucketed(samples: &[Sample], step_ms: i64, how: Aggregation) -> Vec<Sample> {
    let mut buckets = Bucketed::new(step_ms, how);
    samples.iter().for_each(|sample| buckets.push(*sample));
    buckets.finish()
}
