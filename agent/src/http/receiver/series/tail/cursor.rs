//! How far a tail has come, series by series.
//!
//! Nodes lag behind each other: one of them stood still, another's batch is tried again. So what is newer than one sample is
//! not all that is new. The last minute is read each time, and of each series what comes behind the last that was sent.

use std::collections::HashMap;

use crate::domain::series::{Labels, Range, SeriesSamples};

/// A series that lags behind the others by no more than this is followed.
const LATE_MS: i64 = 60_000;

/// A client that comes back is given what it lacks so much at a time.
const STEP_MS: i64 = 60_000;

/// What was sent.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Nothing up to here is for this client.
    after_ms: i64,
    /// Up to here everything was read once.
    read_to_ms: i64,
    /// The last sample that was sent, of each series that was seen of late.
    sent: HashMap<Labels, i64>,
}

impl Cursor {
    /// For what is newer than that.
    pub(super) fn new(after_ms: i64) -> Self {
        Self { after_ms, read_to_ms: after_ms, sent: HashMap::new() }
    }

    /// What to read next.
    pub(super) fn range(&self, now_ms: i64) -> Range {
        let to_ms = now_ms.min(self.read_to_ms + STEP_MS);
        // The clock may have been set back.
        let from_ms = (self.after_ms + 1).max(self.read_to_ms - LATE_MS).min(to_ms);
        Range { from_ms, to_ms }
    }

    /// Of what was read in [`Self::range`], what the client was not sent; it is, from now on.
    pub(super) fn unsent(&mut self, range: Range, mut read: Vec<SeriesSamples>) -> Vec<SeriesSamples> {
        self.read_to_ms = range.to_ms;
        // What is not read again needs no memory of where it ended.
        self.sent.retain(|_, sent_ms| *sent_ms >= range.from_ms);
        read.retain_mut(|SeriesSamples { labels, samples }| {
            let sent_ms = self.sent.get(labels).copied().unwrap_or(self.after_ms);
            samples.retain(|sample| sample.at_ms > sent_ms);
            let Some(last) = samples.last() else { return false };
            self.sent.insert(labels.clone(), last.at_ms);
            true
        });
        read
    }

    /// Whoever comes back with this misses nothing: the time up to which no series that was seen of late lacks a sample.
    pub(super) fn id(&self) -> i64 {
        self.sent.values().copied().min().unwrap_or(self.after_ms)
    }

    /// A whole step is there to be read now, without waiting.
    pub(super) fn behind(&self, now_ms: i64) -> bool {
        now_ms - self.read_to_ms >= STEP_MS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::series::Sample;

    fn series(node: &str, times: &[i64]) -> SeriesSamples {
        let labels = Labels::new("m", [("node", node)]).unwrap();
        let samples = times.iter().map(|at_ms| Sample { at_ms: *at_ms, value: 1.0 }).collect();
        SeriesSamples { labels, samples }
    }

    /// What a store with these samples answers.
    fn read(all: &[SeriesSamples], range: Range) -> Vec<SeriesSamples> {
        let within = |sample: &Sample| (range.from_ms..=range.to_ms).contains(&sample.at_ms);
        let of = |one: &SeriesSamples| {
            let samples: Vec<_> = one.samples.iter().copied().filter(within).collect();
            SeriesSamples { labels: one.labels.clone(), samples }
        };
        all.iter().map(of).filter(|one| !one.samples.is_empty()).collect()
    }

    fn next(cursor: &mut Cursor, all: &[SeriesSamples], now_ms: i64) -> Vec<SeriesSamples> {
        let range = cursor.range(now_ms);
        let found = read(all, range);
        cursor.unsent(range, found)
    }

    #[test]
    fn a_series_that_lags_is_followed() {
        let mut cursor = Cursor::new(100_000);
        assert_eq!(next(&mut cursor, &[series("a", &[99_000, 101_000])], 101_000), [series("a", &[101_000])]);
        let later = [series("a", &[101_000, 103_000]), series("b", &[99_500, 100_500])];
        assert_eq!(next(&mut cursor, &later, 103_000), [series("a", &[103_000]), series("b", &[100_500])]);
        assert_eq!(cursor.id(), 100_500, "b may have more behind that");
        assert_eq!(next(&mut cursor, &later, 104_000), []);
    }

    #[test]
    fn who_comes_back_is_given_an_hour_a_minute_at_a_time() {
        let hour: Vec<_> = (0..3_600).map(|second| second * 1_000).collect();
        let all = [series("a", &hour)];
        let mut cursor = Cursor::new(0);
        let (mut steps, mut sent) = (0, Vec::new());
        while cursor.behind(3_600_000) {
            for one in next(&mut cursor, &all, 3_600_000) {
                assert!(one.samples.len() <= 61);
                sent.extend(one.samples.into_iter().map(|sample| sample.at_ms));
            }
            steps += 1;
        }
        assert_eq!((steps, sent), (60, hour[1..].to_vec()));
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_nothing() {
        let mut cursor = Cursor::new(0);
        let all = [series("a", &[1_000, 2_000])];
        assert_eq!(next(&mut cursor, &all, 2_000), all);
        assert_eq!(next(&mut cursor, &all, 500), []);
        assert_eq!(cursor.range(400), Range { from_ms: 1, to_ms: 400 });
        assert_eq!(next(&mut cursor, &all, 2_500), []);
    }

    proptest! {
        /// Whatever comes in whatever order between series, with a lag of less than a minute: each sample once.
        #[test]
        fn each_sample_is_sent_once(lags in prop::collection::vec(0_i64..59_000, 1..6)) {
            let mut cursor = Cursor::new(0);
            let mut sent = vec![Vec::new(); lags.len()];
            for now_ms in (1_000..200_000).step_by(1_000) {
                let stored: Vec<_> = lags.iter().enumerate().map(|(n, lag)| {
                    let times: Vec<_> = (500..=(now_ms - lag)).step_by(1_000).collect();
                    series(&n.to_string(), &times)
                }).collect();
                for one in next(&mut cursor, &stored, now_ms) {
                    let n: usize = one.labels.get("node").unwrap().parse().unwrap();
                    sent[n].extend(one.samples.iter().map(|sample| sample.at_ms));
                }
            }
            for (sent, lag) in sent.iter().zip(&lags) {
                prop_assert_eq!(sent, &(500..=(199_000 - lag)).step_by(1_000).collect::<Vec<_>>());
            }
        }
    }
}
