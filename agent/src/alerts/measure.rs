//! From samples to the values that rules look at, one for each alert's labels.

use std::collections::BTreeMap;

use super::rule::{Measure, Rule};
use crate::domain::series::{
    Aggregation, Labels, NAME, Sample, SeriesSamples, Statistics, bucketed, increase,
};

/// An alert's labels.
pub(super) type Group = BTreeMap<String, String>;

/// A rule's values. `over` are the series that it divides by.
pub(super) fn values(rule: &Rule, series: &[SeriesSamples], over: &[SeriesSamples]) -> BTreeMap<Group, f64> {
    let mut groups: BTreeMap<Group, Vec<&SeriesSamples>> = BTreeMap::new();
    for one in series {
        groups.entry(group(rule, &one.labels)).or_default().push(one);
    }
    let divisors: BTreeMap<_, _> = over
        .iter()
        .filter_map(|one| {
            Some((
                group(rule, &one.labels),
                one.samples.iter().rev().find(|sample| !sample.value.is_nan())?.value,
            ))
        })
        .collect();
    let value = |(group, of): (Group, Vec<&SeriesSamples>)| {
        let value = match rule.quantile {
            Some(quantile) => of_buckets(quantile, &of)?,
            None => measured(rule.measure, &of)?,
        };
        let value = match (&rule.over, divisors.get(&group)) {
            (None, _) => value,
            (Some(_), Some(divisor)) if *divisor != 0.0 => value / divisor,
            (Some(_), _) => return None,
        };
        (!value.is_nan()).then_some((group, value))
    };
    groups.into_iter().filter_map(value).collect()
}

/// The labels that an alert has: those that the rule names, else the series' own.
pub(super) fn group(rule: &Rule, labels: &Labels) -> Group {
    let all = labels.iter().filter(|(name, _)| *name != NAME && (rule.quantile.is_none() || *name != "le"));
    let wanted = all.filter(|(name, _)| rule.by.is_empty() || rule.by.iter().any(|label| label == name));
    wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// One value of several series: rates and counts add up, of the others the largest counts, or the smallest.
fn measured(measure: Measure, of: &[&SeriesSamples]) -> Option<f64> {
    match measure.aggregation() {
        None => Statistics::of(of.iter().copied())?.rate,
        Some(how) => {
            let values = of.iter().filter_map(|one| whole(how, &one.samples));
            values.reduce(match how {
                Aggregation::Min => f64::min,
                Aggregation::Sum | Aggregation::Count => |one, other| one + other,
                Aggregation::Last | Aggregation::Max | Aggregation::Avg => f64::max,
            })
        }
    }
}

/// All samples as one bucket.
fn whole(how: Aggregation, samples: &[Sample]) -> Option<f64> {
    let one: Vec<_> = samples
        .iter()
        .map(|sample| Sample { at_ms: 0, ..*sample })
        .filter(|sample| !sample.is_stale())
        .collect();
    bucketed(&one, 1, how).first().map(|bucket| bucket.value)
}

/// The quantile of what the buckets grew by, within a bucket as if spread evenly: what Prometheus' `histogram_quantile` of
/// rates says.
fn of_buckets(quantile: f64, of: &[&SeriesSamples]) -> Option<f64> {
    let mut below: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for one in of {
        let end = match one.labels.get("le")? {
            "+Inf" => f64::INFINITY,
            text => text.parse().ok().filter(|end: &f64| *end >= 0.0)?,
        };
        // Ends are not negative: their bits are in their order.
        below.entry(end.to_bits()).or_insert((end, 0.0)).1 += increase(&one.samples);
    }
    let all = below.values().next_back().filter(|(end, _)| end.is_infinite())?.1;
    if all <= 0.0 {
        return None;
    }
    let rank = quantile * all;
    let (mut start, mut before) = (0.0, 0.0);
    for (end, count) in below.into_values() {
        if count >= rank {
            return Some(match end.is_infinite() {
                true => start,
                false if count > before => start + (end - start) * (rank - before) / (count - before),
                false => end,
            });
        }
        (start, before) = (end, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::rule::parse;
    use super::*;

    fn rule(more: &str) -> Rule {
        parse(&format!("[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 1\n{more}")).unwrap().remove(0)
    }

    fn series(labels: &[(&str, &str)], values: &[f64]) -> SeriesSamples {
        let samples =
            values.iter().enumerate().map(|(n, value)| Sample { at_ms: n as i64 * 10_000, value: *value });
        SeriesSamples {
            labels: Labels::new("m", labels.iter().copied()).unwrap(),
            samples: samples.collect(),
        }
    }

    fn one(rule: &Rule, series: &[SeriesSamples], over: &[SeriesSamples]) -> Option<f64> {
        let values = values(rule, series, over);
        assert!(values.len() <= 1);
        values.into_values().next()
    }

    #[test]
    fn measures_are_of_the_window() {
        let counter = [series(&[("node", "a")], &[1.0, 5.0, 2.0, 4.0])];
        let of = |measure: &str| one(&rule(&format!("measure = \"{measure}\"")), &counter, &[]);
        assert_eq!((of("last"), of("min"), of("max")), (Some(4.0), Some(1.0), Some(5.0)));
        assert_eq!((of("avg"), of("sum"), of("count")), (Some(3.0), Some(12.0), Some(4.0)));
        assert_eq!(of("rate"), Some((4.0 + 2.0 + 2.0) / 30.0));
        assert_eq!(one(&rule(""), &[series(&[], &[f64::NAN])], &[]), None);
    }

    #[test]
    fn series_come_together_by_their_labels() {
        let two =
            [series(&[("node", "a"), ("c", "1")], &[1.0]), series(&[("node", "a"), ("c", "2")], &[3.0])];
        assert_eq!(one(&rule("by = [\"node\"]"), &two, &[]), Some(3.0));
        assert_eq!(one(&rule("by = [\"node\"]\nmeasure = \"sum\""), &two, &[]), Some(4.0));
        assert_eq!(values(&rule(""), &two, &[]).len(), 2);
        let over = [series(&[("node", "a")], &[6.0])];
        assert_eq!(one(&rule("by = [\"node\"]\nover = \"o\""), &two, &over), Some(0.5));
        assert_eq!(one(&rule("by = [\"node\"]\nover = \"o\""), &two, &[]), None);
        assert_eq!(
            one(&rule("by = [\"node\"]\nover = \"o\""), &two, &[series(&[("node", "a")], &[0.0])]),
            None
        );
    }

    /// The example of Prometheus' documentation of `histogram_quantile`: within a bucket a line.
    #[test]
    fn a_quantile_is_of_what_the_buckets_grew_by() {
        let bucket = |end, values: &[f64]| series(&[("le", end)], values);
        let all =
            [bucket("0.1", &[0.0, 50.0]), bucket("0.2", &[100.0, 190.0]), bucket("+Inf", &[100.0, 200.0])];
        let of = |quantile: f64| one(&rule(&format!("quantile = {quantile}")), &all, &[]);
        assert_eq!(of(0.5), Some(0.1));
        assert!((of(0.7).unwrap() - 0.15).abs() < 1e-9);
        assert_eq!(of(0.99), Some(0.2), "the last bucket has no end");
        // Where a series ended, by its own word or for want of a number, it has no value, and goes on behind it.
        let mut ended = [
            bucket("0.1", &[0.0, f64::NAN, 50.0]),
            bucket("0.2", &[100.0, 190.0]),
            bucket("+Inf", &[100.0, 200.0]),
        ];
        ended[2].samples.push(Sample::stale(20_000));
        assert_eq!(one(&rule("quantile = 0.5"), &ended, &[]), Some(0.1));
        assert_eq!(one(&rule("quantile = 0.5"), &[bucket("+Inf", &[5.0, 5.0])], &[]), None);
        assert_eq!(one(&rule("quantile = 0.5"), &[bucket("x", &[5.0, 6.0])], &[]), None);
    }
}
