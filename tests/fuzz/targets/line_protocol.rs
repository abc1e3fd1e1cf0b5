//! The body of `POST /api/v2/write` and `/write`. The first byte chooses the unit of its times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::domain::series::SeriesSamples;
use sextant::series::remote::line::parse::{Given, decode};
use sextant::series::remote::line::{Precision, encode};

const UNITS: [&str; 6] = ["ns", "us", "ms", "s", "m", "h"];

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let unit = |word: &str| Precision::of(word).expect("a unit");
    let given =
        Given { precision: unit(UNITS[usize::from(*choice) % UNITS.len()]), now_ms: 1, database: "d" };
    let series = match decode(text, given) {
        Ok(series) => series,
        Err(error) => {
            assert!((1..=text.lines().count().max(1)).contains(&error.line), "{error}");
            return;
        }
    };
    for one in &series {
        assert!(!one.samples.is_empty() && one.samples.is_sorted_by_key(|sample| sample.at_ms));
        assert!(one.samples.iter().all(|sample| sample.value.is_finite()));
    }
    // A name that cannot be cut into measurement and field gets a field that it had not, and may be too long with it.
    let can_be_cut = |metric: &str| {
        metric
            .rsplit_once('_')
            .is_some_and(|(measurement, field)| !measurement.is_empty() && !field.is_empty())
    };
    if !series.iter().all(|one| can_be_cut(one.labels.metric())) {
        return;
    }
    // What can be said again is understood the same; the rest is counted.
    let (ours, unsaid) = encode(&series);
    let again =
        decode(&ours, Given { precision: unit("ms"), ..Given::default() }).expect("our own form is accepted");
    let count = |series: &[SeriesSamples]| series.iter().map(|one| one.samples.len() as u64).sum::<u64>();
    assert_eq!(count(&again) + unsaid, count(&series));
    assert!(unsaid > 0 || again == series);
});
