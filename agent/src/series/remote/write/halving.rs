//! A part that the store refuses, halved until the samples that it does not take are alone.
//!
//! Each request costs one of a number that is left, each that stores something gives some back, and what waits for its turn
//! keeps what finding one bad sample in it costs: so neither many bad samples nor a store that refuses everything cost
//! the good ones behind them, and the latter is not asked for ever. Within a series the older half goes first: behind a
//! newer sample it would not be taken.
//!
//! A part is in doubt when it was sent before and had no answer: then "out of order" may mean that it is there, or the same
//! as ever. A half of it that is stored now, though it has a sample older than the part's newest of its series, says that
//! the part never arrived. Then nothing is in doubt any more. Until then the newest samples of its series are taken either way,
//! and give nothing back where there are older ones that would tell.

use std::collections::BTreeMap;

use super::part::halves;
use crate::domain::series::{Labels, SeriesSamples};

/// Requests that a part may cost of which nothing is stored: ten samples among 5,000 are found with them.
pub(super) const MAX_HALVES: usize = 256;

/// The same while a part is in doubt: most often it is there, and only ends of its series are taken again. They are enough
/// to come down to a single sample, in more than one place.
const MAX_IN_DOUBT: usize = 64;

/// What one that stores something gives back: bad samples may be every twentieth.
const GIVEN_BACK: usize = 4;

/// Whatever is given back: with some ms each, still less than a minute.
const MAX_REQUESTS: usize = 4_096;

/// What is sent as one request.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) series: Vec<SeriesSamples>,
    /// It may be there already.
    pub(super) doubt: bool,
    /// Requests that are kept for it while it waits.
    reserve: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Halving {
    /// The next is the last.
    waiting: Vec<Piece>,
    left: usize,
    requests: usize,
    /// The newest sample of each series of what is in doubt.
    newest: BTreeMap<Labels, i64>,
    /// It has older ones too.
    tells: bool,
}

impl Halving {
    pub(super) fn of(part: Vec<SeriesSamples>) -> Self {
        let whole = Piece { series: part, doubt: false, reserve: 1 };
        Self { waiting: vec![whole], left: MAX_HALVES, requests: 0, newest: BTreeMap::new(), tells: false }
    }

    /// What is to be sent now.
    pub(super) fn next(&mut self) -> Option<Piece> {
        let piece = self.waiting.pop()?;
        self.requests += 1;
        self.left = self.left.saturating_sub(1);
        Some(piece)
    }

    /// The store has this, and had not said so before. True where it says that nothing is in doubt any more.
    pub(super) fn was_stored(&mut self, piece: &Piece) -> bool {
        let older = |one: &SeriesSamples| {
            let newest = self.newest.get(&one.labels);
            one.samples.iter().any(|sample| newest.is_some_and(|newest| sample.at_ms < *newest))
        };
        let never_arrived = piece.doubt && piece.series.iter().any(older);
        if never_arrived || !piece.doubt || !self.tells {
            self.left += GIVEN_BACK;
        }
        if never_arrived {
            self.waiting.iter_mut().for_each(|piece| piece.doubt = false);
            self.left = self.left.max(MAX_HALVES);
        }
        never_arrived
    }

    /// Halves what was refused; false where it cannot be, or has cost enough.
    pub(super) fn halve(&mut self, piece: &Piece, doubt: bool) -> bool {
        if doubt && !piece.doubt {
            let newest = |one: &SeriesSamples| {
                let newest = one.samples.iter().map(|sample| sample.at_ms).max();
                newest.map(|at_ms| (one.labels.clone(), at_ms))
            };
            self.newest = piece.series.iter().filter_map(newest).collect();
            self.tells = piece.series.iter().any(|one| one.samples.len() > 1);
            if self.waiting.is_empty() {
                self.left = self.left.min(MAX_IN_DOUBT);
            }
        }
        let kept: usize = self.waiting.iter().map(|piece| piece.reserve).sum();
        let free = self.left.saturating_sub(kept);
        if free < 2 || self.requests >= MAX_REQUESTS {
            return false;
        }
        let Some([first, second]) = halves(&piece.series) else { return false };
        // Half of what is free, but what the first half needs to come down to one sample.
        let reserve = free.saturating_sub(to_find_one(&first)).clamp(1, free / 2);
        let doubt = doubt || piece.doubt;
        self.waiting.push(Piece { series: second, doubt, reserve });
        self.waiting.push(Piece { series: first, doubt, reserve: 1 });
        true
    }
}

/// Requests that find one bad sample.
fn to_find_one(series: &[SeriesSamples]) -> usize {
    let samples: usize = series.iter().map(|one| one.samples.len()).sum();
    1 + 2 * usize::try_from(samples.max(1).next_power_of_two().ilog2()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::series::Sample;

    /// What a store took of so many series of one sample each, and what it was asked.
    fn asked(count: usize, bad: impl Fn(usize) -> bool) -> (usize, usize) {
        let series = |n: usize| SeriesSamples {
            labels: Labels::new("m", [("n", format!("{n:05}"))]).unwrap(),
            samples: vec![Sample { at_ms: n as i64, value: 1.0 }],
        };
        let mut halving = Halving::of((0..count).map(series).collect());
        let mut taken = 0;
        while let Some(piece) = halving.next() {
            let bad = |one: &SeriesSamples| bad(usize::try_from(one.samples[0].at_ms).unwrap());
            if !piece.series.iter().any(bad) {
                taken += piece.series.len();
                assert!(!halving.was_stored(&piece), "nothing was in doubt");
            } else {
                let _ = halving.halve(&piece, false);
            }
        }
        (taken, halving.requests)
    }

    #[test]
    fn good_samples_are_found_among_many_bad_ones() {
        let all_good = |bad: fn(usize) -> bool| {
            let good = (0..5_000).filter(|n| !bad(*n)).count();
            let (taken, requests) = asked(5_000, bad);
            assert_eq!(taken, good, "{requests} requests");
            requests
        };
        assert_eq!(all_good(|_| false), 1);
        assert!(all_good(|n| n == 3_333) < 30);
        // All of the first half, and one in the other.
        assert!(all_good(|n| n < 2_500 || n == 4_000) < MAX_HALVES);
        assert!(all_good(|n| n < 2_500 || n % 125 == 0) < 1_000);
        // Every hundredth and every twentieth, everywhere.
        assert!(all_good(|n| n % 100 == 7) < 1_000);
        assert!(all_good(|n| n % 20 == 3) < MAX_REQUESTS);
    }

    #[test]
    fn a_store_that_refuses_everything_is_not_asked_for_ever() {
        let (taken, requests) = asked(5_000, |_| true);
        assert!(taken == 0 && requests <= MAX_HALVES, "{requests}");
        let (_, requests) = asked(50_000, |n| n % 2 == 0);
        assert!(requests < MAX_REQUESTS + 30, "{requests}");
    }

    #[test]
    fn one_sample_is_no_two() {
        assert_eq!(asked(1, |_| true), (0, 1));
        assert_eq!(asked(0, |_| true), (0, 1));
    }
}
