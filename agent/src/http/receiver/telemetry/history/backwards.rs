//! The newest samples of some series as records, read backwards in slices of time until there are enough.
//!
//! Slices grow as long as they hold little, and shrink where one holds more than may be read at once. No time is read twice,
//! and no slice begins within a bucket, unless the range does.

use std::collections::BinaryHeap;

use super::super::wire::TelemetryRecord;
use super::super::{MAX_SAMPLES, MAX_SERIES};
use crate::domain::series::{Aggregation, Range, Selection, SeriesSamples, end_of};
use crate::http::ApiError;
use crate::receiver::telemetry::to_record;
use crate::series::{Error, Query, Series};

/// The first slice: two rounds of an exporter, a thousand records of a GPU that says 20 things a second.
const FIRST_MS: i64 = 60_000;

/// How much longer the next slice is, or how much shorter one that holds too much: all times since the epoch are ten.
const GROWTH: i64 = 8;

/// Slices of one question: ten, and for a few of them each size that they can shrink by.
const MAX_SLICES: usize = 64;

/// What is read.
pub(super) struct Question {
    pub(super) selection: Selection,
    pub(super) range: Range,
    /// Where it begins: what is after it in the range is read with it.
    pub(super) last_ms: i64,
    pub(super) buckets: Option<(i64, Aggregation)>,
    /// Records that are enough.
    pub(super) limit: usize,
    /// Samples of a slice.
    pub(super) max_samples: usize,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            selection: Selection::default(),
            range: Range { from_ms: 0, to_ms: 0 },
            last_ms: 0,
            buckets: None,
            limit: 0,
            max_samples: MAX_SAMPLES,
        }
    }
}

/// The newest records, by time, then labels.
///
/// # Errors
/// Those of a question for samples; [`Error::TooMuch`] where a moment alone, or a bucket, holds too much.
pub(super) async fn read(series: &Series, question: Question) -> Result<Vec<TelemetryRecord>, ApiError> {
    let Question { selection, range, last_ms, buckets, limit, max_samples } = question;
    let step_ms = buckets.map(|(step_ms, _)| step_ms);
    let mut slices = Slices { left: range, last_ms, width_ms: FIRST_MS, step_ms };
    let mut query = Query { selection, range, buckets, max_series: MAX_SERIES, max_samples };
    let mut records = Vec::new();
    for _ in 0..MAX_SLICES {
        let Some(slice) = slices.slice().filter(|_| records.len() < limit) else {
            records.reverse();
            return Ok(records);
        };
        query.range = slice;
        let found = match series.read(&query).await {
            Err(Error::TooMuch { .. }) if slices.shrink() => continue,
            found => found?,
        };
        let left = limit - records.len();
        // Ten thousand records are a hundred thousand strings.
        let making = tokio::task::spawn_blocking(move || newest(&found, left));
        records.append(&mut making.await.map_err(|error| ApiError::Encode(error.to_string()))?);
        slices.grow();
    }
    Err(Error::TooMuch { what: "reads of values that are no numbers", limit: MAX_SLICES }.into())
}

/// What is not read yet, and how much of it is read next.
struct Slices {
    left: Range,
    last_ms: i64,
    width_ms: i64,
    /// A bucket's width, where there are any.
    step_ms: Option<i64>,
}

impl Slices {
    /// The next one; none when all is read.
    fn slice(&self) -> Option<Range> {
        let from_ms = self.last_ms.saturating_sub(self.width_ms);
        let from_ms = self.step_ms.map_or(from_ms, |step_ms| bucket_start(from_ms, step_ms));
        let from_ms = from_ms.max(self.left.from_ms);
        (self.left.from_ms <= self.left.to_ms).then_some(Range { from_ms, ..self.left })
    }

    /// A shorter one in its place; false where it is as short as can be.
    const fn shrink(&mut self) -> bool {
        let was_ms = self.width_ms;
        self.width_ms /= GROWTH;
        was_ms > 0
    }

    /// It was read.
    fn grow(&mut self) {
        let Some(slice) = self.slice() else { return };
        self.left.to_ms = slice.from_ms - 1;
        self.last_ms = self.left.to_ms;
        self.width_ms = self.width_ms.max(1).saturating_mul(GROWTH);
    }
}

/// The first moment of the bucket that a moment belongs to.
fn bucket_start(at_ms: i64, step_ms: i64) -> i64 {
    end_of(at_ms, step_ms).saturating_sub(step_ms).saturating_add(1)
}

/// The newest samples as records, newest first; of those of one time, the last by labels. What JSON has no number for is
/// left out: the reference's clients read numbers.
fn newest(found: &[SeriesSamples], limit: usize) -> Vec<TelemetryRecord> {
    let before = |place: usize, end: usize| {
        let samples = &found[place].samples[..end];
        let at = samples.iter().rposition(|sample| sample.value.is_finite())?;
        // Series come by labels: their places have the same order.
        Some((samples[at].at_ms, place, at))
    };
    let lasts = (0..found.len()).filter_map(|place| before(place, found[place].samples.len()));
    let mut heap: BinaryHeap<_> = lasts.collect();
    let mut records = Vec::new();
    while records.len() < limit
        && let Some((_, place, at)) = heap.pop()
    {
        records.push(to_record(&found[place].labels, found[place].samples[at]));
        heap.extend(before(place, at));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::series::{Labels, Operator, Sample};
    use crate::series;

    const DAY_MS: i64 = 86_400_000;
    const NOW_MS: i64 = 20_000 * DAY_MS + 60_000;

    async fn stored(samples: Vec<Sample>) -> (Series, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (config, metrics) = (series::Config::default(), series::Metrics::default());
        let series = Series::open(dir.path(), &config, metrics, || NOW_MS * 1_000_000).await.unwrap();
        let labels = Labels::new("m", [("UUID", "u")]).unwrap();
        series.append("s", vec![SeriesSamples { labels, samples }]).await.unwrap();
        (series, dir)
    }

    fn question(limit: usize, max_samples: usize) -> Question {
        Question {
            selection: Selection::default().and("UUID", Operator::Equal, "u"),
            range: Range { from_ms: 0, to_ms: NOW_MS },
            last_ms: NOW_MS,
            limit,
            max_samples,
            ..Question::default()
        }
    }

    fn values(records: &[TelemetryRecord]) -> Vec<f64> {
        records.iter().map(|record| record.value).collect()
    }

    /// Dense, four days ago, and then nothing: all of it is more than may be read at once.
    #[tokio::test]
    async fn what_is_too_much_at_once_is_read_in_parts() {
        let at = |n: i64| Sample { at_ms: NOW_MS - 4 * DAY_MS - n * 10, value: n as f64 };
        let (series, _dir) = stored((0..5_000).map(at).collect()).await;
        let whole = Query {
            selection: question(0, 0).selection,
            range: question(0, 0).range,
            buckets: None,
            max_series: 10,
            max_samples: 1_000,
        };
        assert!(matches!(series.read(&whole).await, Err(Error::TooMuch { .. })), "the control");
        assert_eq!(values(&read(&series, question(3, 1_000)).await.unwrap()), [2.0, 1.0, 0.0]);
        let most = read(&series, question(4_999, 1_000)).await.unwrap();
        let expected: Vec<_> = (0..4_999).rev().map(f64::from).collect();
        assert_eq!(values(&most), expected, "slice behind slice, none twice");
        assert_eq!(read(&series, question(6_000, 1_000)).await.unwrap().len(), 5_000);
        assert_eq!(read(&series, question(1, 0)).await.unwrap_err().status(), 413, "no moment fits");
    }

    #[test]
    fn the_newest_of_all_series_are_taken_and_what_is_no_number_is_not() {
        let series = |metric: &str, samples: &[(i64, f64)]| SeriesSamples {
            labels: Labels::new(metric, [("UUID", "u")]).unwrap(),
            samples: samples.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect(),
        };
        let found = [
            series("a", &[(1, 1.0), (2, 2.0), (5, f64::NAN)]),
            series("b", &[(2, 3.0), (4, 4.0), (6, f64::INFINITY)]),
            series("c", &[(9, f64::NAN)]),
        ];
        assert_eq!(values(&newest(&found, 10)), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(values(&newest(&found, 2)), [4.0, 3.0]);
        assert_eq!(newest(&[], 2), []);
    }
}
