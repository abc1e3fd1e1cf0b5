//! One series' samples as they come.

use crate::domain::series::{Aggregation, Sample};
use crate::series::gathered::Gathered;

/// See the module. Of samples with one time the last stays.
#[derive(Debug)]
pub(super) struct Taken {
    /// The next may take its place.
    last: Option<Sample>,
    all: Gathered,
}

impl Taken {
    pub(super) fn new(buckets: Option<(i64, Aggregation)>) -> Self {
        Self { last: None, all: Gathered::new(buckets) }
    }

    pub(super) fn push(&mut self, sample: Sample) {
        match self.last.replace(sample) {
            Some(last) if last.at_ms != sample.at_ms => self.all.push(last),
            _ => {}
        }
    }

    /// Samples or buckets so far, but for the last.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn finish(mut self) -> Vec<Sample> {
        if let Some(last) = self.last {
            self.all.push(last);
        }
        self.all.finish()
    }
}
