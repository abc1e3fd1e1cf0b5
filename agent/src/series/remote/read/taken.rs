//! One series' samples as they come.

use crate::domain::series::{Aggregation, Bucketed, Sample};

/// See the module. Of samples with one time the last stays.
#[derive(Debug)]
pub(super) struct Taken {
    /// The next may take its place.
    last: Option<Sample>,
    all: All,
}

#[derive(Debug)]
enum All {
    Samples(Vec<Sample>),
    Buckets(Bucketed),
}

impl Taken {
    pub(super) fn new(buckets: Option<(i64, Aggregation)>) -> Self {
        let all = buckets
            .map_or(All::Samples(Vec::new()), |(step_ms, how)| All::Buckets(Bucketed::new(step_ms, how)));
        Self { last: None, all }
    }

    pub(super) fn push(&mut self, sample: Sample) {
        match self.last.replace(sample) {
            Some(last) if last.at_ms != sample.at_ms => self.all.push(last),
            _ => {}
        }
    }

    /// Samples or buckets so far, but for the last.
    pub(super) fn len(&self) -> usize {
        match &self.all {
            All::Samples(samples) => samples.len(),
            All::Buckets(buckets) => buckets.len(),
        }
    }

    pub(super) fn finish(mut self) -> Vec<Sample> {
        if let Some(last) = self.last {
            self.all.push(last);
        }
        match self.all {
            All::Samples(samples) => samples,
            All::Buckets(buckets) => buckets.finish(),
        }
    }
}

impl All {
    fn push(&mut self, sample: Sample) {
        match self {
            Self::Samples(samples) => samples.push(sample),
            Self::Buckets(buckets) => buckets.push(sample),
        }
    }
}
