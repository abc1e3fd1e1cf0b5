//! What an answer has of one series: its samples, or what becomes of them bucket by bucket.

use crate::domain::series::{Aggregation, Bucketed, Sample};

/// See the module.
#[derive(Debug)]
pub(super) enum Gathered {
    Samples(Vec<Sample>),
    Buckets(Bucketed),
}

impl Gathered {
    /// As [`super::Query::buckets`] asks.
    pub(super) fn new(buckets: Option<(i64, Aggregation)>) -> Self {
        buckets.map_or_else(
            || Self::Samples(Vec::new()),
            |(step_ms, how)| Self::Buckets(Bucketed::new(step_ms, how)),
        )
    }

    /// The next one, not before the last.
    pub(super) fn push(&mut self, sample: Sample) {
        match self {
            Self::Samples(samples) => samples.push(sample),
            Self::Buckets(buckets) => buckets.push(sample),
        }
    }

    /// Samples, or buckets that are closed.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Samples(samples) => samples.len(),
            Self::Buckets(buckets) => buckets.len(),
        }
    }

    pub(super) fn finish(self) -> Vec<Sample> {
        match self {
            Self::Samples(samples) => samples,
            Self::Buckets(buckets) => buckets.finish(),
        }
    }
}
