//! A batch in requests: always the same ones of the same samples, whatever order they come in.

use std::collections::BTreeMap;

use crate::domain::series::{Labels, Sample, SeriesSamples};

/// Samples of a request: Prometheus' own senders stay below 10,000, and its receivers take them in some ms.
const MAX_SAMPLES: usize = 5_000;

/// Bytes of a request before it is packed, about: with labels of the greatest length it has fewer samples.
const MAX_BYTES: usize = 2 << 20;

/// A sample's time and value, in the longer of the formats.
const SAMPLE_BYTES: usize = 40;

/// Cuts a batch, each series once and its samples in the order of time, as stores want them; of those with one time the
/// last one stays the last. `labels_each_time` where every sample is written with its labels.
pub(super) fn cut_into_parts(batch: Vec<SeriesSamples>, labels_each_time: bool) -> Vec<Vec<SeriesSamples>> {
    let mut parts = Vec::new();
    let (mut part, mut samples, mut bytes) = (Vec::new(), 0, 0);
    let mut series: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
    for SeriesSamples { labels, samples } in batch {
        series.entry(labels).or_default().extend(samples);
    }
    for (labels, mut all) in series {
        all.sort_by_key(|sample| sample.at_ms);
        let labels_bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        let (once, each) = if labels_each_time { (0, labels_bytes) } else { (labels_bytes, 0) };
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let fit = MAX_BYTES.saturating_sub(bytes + once) / (SAMPLE_BYTES + each);
            let fit = fit.min(MAX_SAMPLES - samples);
            if fit == 0 && samples > 0 {
                parts.push(std::mem::take(&mut part));
                (samples, bytes) = (0, 0);
                continue;
            }
            let (these, others) = rest.split_at(fit.clamp(1, rest.len()));
            part.push(SeriesSamples { labels: labels.clone(), samples: these.to_vec() });
            samples += these.len();
            bytes += once + these.len() * (SAMPLE_BYTES + each);
            rest = others;
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Both halves of a part, in their order; none of a single sample.
pub(super) fn halves(part: &[SeriesSamples]) -> Option<[Vec<SeriesSamples>; 2]> {
    match part {
        [] => None,
        [one] if one.samples.len() < 2 => None,
        [one] => {
            let (first, second) = one.samples.split_at(one.samples.len() / 2);
            let of =
                |samples: &[_]| vec![SeriesSamples { labels: one.labels.clone(), samples: samples.to_vec() }];
            Some([of(first), of(second)])
        }
        several => {
            let (first, second) = several.split_at(several.len() / 2);
            Some([first.to_vec(), second.to_vec()])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    fn batch(sizes: &[usize], value_bytes: usize) -> Vec<SeriesSamples> {
        let one = |(at, size): (usize, &usize)| SeriesSamples {
            labels: Labels::new("m", [("a", format!("{at:0>value_bytes$}"))]).unwrap(),
            samples: (0..*size).map(|n| Sample { at_ms: n as i64, value: 1.0 }).collect(),
        };
        sizes.iter().enumerate().map(one).collect()
    }

    fn joined(parts: Vec<Vec<SeriesSamples>>) -> Vec<SeriesSamples> {
        let mut all: Vec<SeriesSamples> = Vec::new();
        for one in parts.into_iter().flatten() {
            match all.last_mut() {
                Some(last) if last.labels == one.labels => last.samples.extend(one.samples),
                _ => all.push(one),
            }
        }
        all
    }

    #[test]
    fn the_same_samples_are_the_same_requests() {
        let whole = batch(&[3_000, 1, 4_000], 1);
        let mut shuffled: Vec<_> = whole.iter().rev().cloned().collect();
        shuffled.iter_mut().for_each(|one| one.samples.reverse());
        // A series that comes in two.
        let rest = shuffled[0].samples.split_off(2_000);
        shuffled.push(SeriesSamples { labels: shuffled[0].labels.clone(), samples: rest });
        let parts = cut_into_parts(shuffled, false);
        assert_eq!(parts, cut_into_parts(whole.clone(), false));
        assert_eq!(joined(parts), whole);
        // Of one time, the last stays the last.
        let mut twice = batch(&[2], 1);
        twice[0].samples =
            [(5, 1.0), (4, 2.0), (5, 3.0)].map(|(at_ms, value)| Sample { at_ms, value }).into();
        let values =
            cut_into_parts(twice, false)[0][0].samples.iter().map(|sample| sample.value).collect::<Vec<_>>();
        assert_eq!(values, [2.0, 1.0, 3.0]);
    }

    proptest! {
        #[test]
        fn parts_have_all_samples_and_are_small(sizes in prop::collection::vec(1..7_000_usize, 0..6), bytes in 1..1_000_usize, each: bool) {
            let whole = batch(&sizes, bytes);
            let parts = cut_into_parts(whole.clone(), each);
            prop_assert_eq!(&parts, &cut_into_parts(whole.clone(), each));
            for part in &parts {
                let samples: usize = part.iter().map(|one| one.samples.len()).sum();
                prop_assert!((1..=MAX_SAMPLES).contains(&samples));
                let said = if each { samples } else { part.len() };
                prop_assert!(said * bytes <= MAX_BYTES);
            }
            prop_assert_eq!(joined(parts), whole);
        }

        #[test]
        fn halves_are_the_whole(sizes in prop::collection::vec(1..5_usize, 0..5)) {
            let whole = batch(&sizes, 1);
            match halves(&whole) {
                None => prop_assert!(sizes.iter().sum::<usize>() < 2),
                Some(both) => {
                    prop_assert!(both.iter().all(|half| !half.is_empty()));
                    prop_assert_eq!(joined(both.to_vec()), whole);
                }
            }
        }
    }
}
