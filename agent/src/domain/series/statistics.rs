//! What a series' values are like.

use super::{Sample, SeriesSamples};

/// What a counter grew by, a fall taken as a beginning at zero; a NaN, such as the mark of a series' end, is no value.
#[must_use]
pub fn increase<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> f64 {
    let values = samples.into_iter().map(|sample| sample.value).filter(|value| !value.is_nan());
    let step = |(sum, before): (f64, Option<f64>), value: f64| {
        let grown = before.map_or(0.0, |before| if value < before { value } else { value - before });
        (sum + grown, Some(value))
    };
    values.fold((0.0, None), step).0
}

/// Statistics of some series together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Samples.
    pub samples: usize,
    /// The smallest value.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Their mean.
    pub avg: f64,
    /// By nearest rank: the value that so many of the samples are at most.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// The newest.
    pub last: f64,
    /// Growth by the second, resets taken into account, of all of them together.
    pub rate: Option<f64>,
}

impl Statistics {
    /// Of samples that ascend within each series; `None` where there is no value. A NaN is no value here.
    #[must_use]
    pub fn of<'a>(series: impl IntoIterator<Item = &'a SeriesSamples>) -> Option<Self> {
        let (mut values, mut last, mut rate) = (Vec::new(), None, None);
        for one in series {
            let known = one.samples.iter().filter(|sample| !sample.value.is_nan());
            values.extend(known.clone().map(|sample| sample.value));
            if let Some(newest) = known.clone().next_back()
                && last.is_none_or(|(at_ms, _)| at_ms <= newest.at_ms)
            {
                last = Some((newest.at_ms, newest.value));
            }
            if let Some((first, newest)) = known.clone().next().zip(known.clone().next_back())
                && newest.at_ms > first.at_ms
            {
                let of_one = increase(&one.samples) / seconds(newest.at_ms - first.at_ms);
                rate = Some(rate.unwrap_or(0.0) + of_one);
            }
        }
        let (_, last) = last?;
        values.sort_unstable_by(f64::total_cmp);
        let rank = |percent: usize| {
            let at = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(at).copied().unwrap_or(f64::NAN)
        };
        Some(Self {
            samples: values.len(),
            min: rank(0),
            max: rank(100),
            avg: values.iter().sum::<f64>() / count(values.len()),
            p50: rank(50),
            p90: rank(90),
            p99: rank(99),
            last,
            rate,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "ms of centuries fit 53 bits")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "so many samples are never read at once")]
const fn count(of: usize) -> f64 {
    of as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::series::Labels;

    fn series(values: &[(i64, f64)]) -> SeriesSamples {
        let samples = values.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
        SeriesSamples { labels: Labels::new("m", [("a", "b")]).unwrap(), samples }
    }

    #[test]
    fn ranks_are_values_that_were_there() {
        let hundred = series(&(1..=100).map(|n| (i64::from(n), f64::from(n))).collect::<Vec<_>>());
        let all = Statistics::of([&hundred]).unwrap();
        assert_eq!((all.min, all.p50, all.p90, all.p99, all.max), (1.0, 50.0, 90.0, 99.0, 100.0));
        assert_eq!((all.avg, all.last, all.samples), (50.5, 100.0, 100));
        assert_eq!(Statistics::of([&series(&[])]), None);
        assert_eq!(Statistics::of([&series(&[(1, f64::NAN)])]), None);
    }

    #[test]
    fn a_reset_is_no_fall() {
        let counter = series(&[(0, 10.0), (10_000, 30.0), (20_000, 5.0), (40_000, 15.0)]);
        assert_eq!(Statistics::of([&counter]).unwrap().rate, Some(35.0 / 40.0));
        let two = Statistics::of([&counter, &counter]).unwrap();
        assert_eq!((two.rate, two.samples), (Some(70.0 / 40.0), 8));
        assert_eq!(Statistics::of([&series(&[(1, 1.0)])]).unwrap().rate, None);
    }

    #[test]
    fn what_a_counter_grew_by_is_of_its_values_alone() {
        let of = |values: &[f64]| {
            let all: Vec<_> = values.iter().map(|value| (0, *value)).collect();
            increase(&series(&all).samples)
        };
        assert_eq!((of(&[]), of(&[5.0]), of(&[f64::NAN])), (0.0, 0.0, 0.0));
        assert_eq!(of(&[1.0, f64::NAN, 4.0, 2.0, f64::NAN]), 5.0);
        let ended = [Sample { at_ms: 0, value: 1.0 }, Sample::stale(1), Sample { at_ms: 2, value: 3.0 }];
        assert_eq!(increase(&ended), 2.0);
    }
}
