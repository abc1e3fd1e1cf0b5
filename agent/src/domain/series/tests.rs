use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Result<Labels, LabelError> {
    Labels::new("m", pairs.iter().copied())
}

#[test]
fn labels_are_sorted_and_an_empty_one_is_none() {
    let one = labels(&[("b", "2"), ("a", "1"), ("c", "")]).unwrap();
    assert_eq!(one, labels(&[("a", "1"), ("b", "2")]).unwrap());
    assert_eq!((one.metric(), one.get("a"), one.get("c")), ("m", Some("1"), None));
    assert_eq!(one.to_string(), "m{a=\"1\",b=\"2\"}");
    assert_eq!(labels(&[]).unwrap().to_string(), "m");
    assert_eq!(labels(&[("a", "x\"\\\n")]).unwrap().to_string(), r#"m{a="x\"\\\n"}"#);
}

#[test]
fn what_cannot_be_labels_is_told() {
    let long = "x".repeat(MAX_VALUE_BYTES + 1);
    assert_eq!(labels(&[("a", "1"), ("a", "2")]), Err(LabelError::Twice("a".to_owned())));
    assert!(matches!(labels(&[("a-b", "1")]), Err(LabelError::Name(_))));
    assert!(matches!(labels(&[("0a", "1")]), Err(LabelError::Name(_))));
    assert!(matches!(labels(&[("a:b", "1")]), Err(LabelError::Name(_))));
    assert!(matches!(labels(&[("a", &long)]), Err(LabelError::Value { size_bytes: 1025, .. })));
    assert_eq!(Labels::new("", [("a", "1")]), Err(LabelError::NoName));
    assert!(Labels::new("a:b", [("a", "1")]).is_ok());
    let many = (0..MAX_LABELS).map(|n| (format!("l{n}"), "1"));
    assert_eq!(Labels::new("m", many), Err(LabelError::TooMany(MAX_LABELS + 1)));
}

#[test]
fn a_bucket_ends_with_its_end_and_a_series_end_is_no_value() {
    let at = |at_ms, value| Sample { at_ms, value };
    let samples = [at(1, 1.0), at(60_000, 3.0), at(60_001, f64::NAN), at(61_000, 5.0), Sample::stale(62_000)];
    let of = |how| bucketed(&samples, 60_000, how);
    assert_eq!(of(Aggregation::Avg)[0], at(60_000, 2.0));
    assert_eq!(of(Aggregation::Max), [at(60_000, 3.0), at(120_000, 5.0)]);
    assert_eq!(of(Aggregation::Last), [at(60_000, 3.0), at(120_000, 5.0)]);
    assert_eq!(of(Aggregation::Count), [at(60_000, 2.0), at(120_000, 2.0)]);
    assert_eq!(bucketed(&[Sample::stale(1)], 10, Aggregation::Last), []);
    assert_eq!(bucketed(&[at(-1, 1.0), at(0, 2.0)], 10, Aggregation::Sum), [at(0, 3.0)]);
}

proptest! {
    /// No sample is lost or counted twice, whatever the times and the width.
    #[test]
    fn buckets_have_all_samples(mut times in prop::collection::vec(any::<i64>(), 0..50), step in 1..i64::MAX) {
        times.sort_unstable();
        let samples: Vec<_> = times.iter().map(|at_ms| Sample { at_ms: *at_ms, value: 1.0 }).collect();
        let buckets = bucketed(&samples, step, Aggregation::Count);
        prop_assert_eq!(buckets.iter().map(|bucket| bucket.value).sum::<f64>(), samples.len() as f64);
        prop_assert!(buckets.is_sorted_by_key(|bucket| bucket.at_ms));
    }
}
