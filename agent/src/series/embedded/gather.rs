//! What a question gets, day by day: chunks and head as one ascending row of samples for each series, or as its buckets.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::day::{Selected, Snapshot};
use super::table;
use crate::domain::series::{Aggregation, Labels, Range, SeriesSamples};
use crate::series::gathered::Gathered;
use crate::series::limit::at_most;
use crate::series::{Error, Query};

/// Why a day could not be read.
pub(super) enum Failure {
    /// More samples than the question may have.
    TooMuch(usize),
    /// The file.
    Disk(redb::Error),
}

/// See the module.
pub(super) struct Gather {
    range: Range,
    buckets: Option<(i64, Aggregation)>,
    max_series: usize,
    max_samples: usize,
    series: BTreeMap<Arc<Labels>, Gathered>,
    samples: usize,
}

impl Gather {
    pub(super) fn new(query: &Query) -> Self {
        Self {
            range: query.range,
            buckets: query.buckets,
            max_series: query.max_series,
            max_samples: query.max_samples,
            series: BTreeMap::new(),
            samples: 0,
        }
    }

    /// Takes a day, later than those before; how many chunks were damaged. A panic inside is damage: redb trusts the pages
    /// it reads.
    pub(super) fn take(&mut self, snapshot: &Snapshot) -> Result<u64, Failure> {
        let read = catch_unwind(AssertUnwindSafe(|| {
            let mut damaged = 0;
            for selected in &snapshot.series {
                damaged += self.take_series(snapshot, selected)?;
            }
            Ok(damaged)
        }));
        let panicked = || redb::Error::Corrupted("reading it panicked".to_owned());
        read.unwrap_or_else(|_| Err(Failure::Disk(panicked())))
    }

    fn take_series(&mut self, snapshot: &Snapshot, selected: &Selected) -> Result<u64, Failure> {
        let labels = Arc::clone(&selected.labels);
        let answer = self.series.entry(labels).or_insert_with(|| Gathered::new(self.buckets));
        let before = answer.len();
        let (range, limit, so_far) = (self.range, self.max_samples, self.samples - before);
        let mut head = selected.head.iter().copied().peekable();
        let mut full = false;
        let damaged = table::read(&snapshot.file, selected.number, range, |chunk| {
            if full {
                return;
            }
            for sample in chunk.into_iter().filter(|sample| range.contains(sample.at_ms)) {
                while let Some(early) = head.next_if(|early| early.at_ms < sample.at_ms) {
                    answer.push(early);
                }
                // What is in both came later in the head.
                answer.push(head.next_if(|same| same.at_ms == sample.at_ms).unwrap_or(sample));
            }
            full = so_far + answer.len() > limit;
        })
        .map_err(Failure::Disk)?;
        head.for_each(|sample| answer.push(sample));
        self.samples = so_far + answer.len();
        if self.samples > limit { Err(Failure::TooMuch(limit)) } else { Ok(damaged) }
    }

    /// All series that have samples, by labels.
    pub(super) fn finish(self) -> Result<Vec<SeriesSamples>, Error> {
        let done = self
            .series
            .into_iter()
            .map(|(labels, answer)| SeriesSamples { labels: (*labels).clone(), samples: answer.finish() });
        let done: Vec<_> = done.filter(|series| !series.samples.is_empty()).collect();
        at_most("series", done.len(), self.max_series)?;
        at_most("samples", done.iter().map(|series| series.samples.len()).sum(), self.max_samples)?;
        Ok(done)
    }
}
