use proptest::prelude::*;

use super::*;
use crate::domain::series::NAME;

fn series(metric: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> SeriesSamples {
    let samples = samples.iter().map(|(at_ms, value)| Sample { at_ms: *at_ms, value: *value }).collect();
    SeriesSamples { labels: Labels::new(metric, labels.iter().copied()).unwrap(), samples }
}

fn pack(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

/// Two labels and a sample at 1 s, written down by hand from the two formats.
const ONE: &[u8] = b"\x0a\x25\x0a\x0d\x0a\x08__name__\x12\x01m\x0a\x06\x0a\x01a\x12\x01b\x12\x0c\x09\0\0\0\0\0\0\xf8\x3f\x10\xe8\x07";
const TWO: &[u8] =
    b"\x22\0\x22\x08__name__\x22\x01m\x22\x01a\x22\x01b\x2a\x14\x0a\x04\x01\x02\x03\x04\x12\x0c\x09\0\0\0\0\0\0\xf8\x3f\x10\xe8\x07";

#[test]
fn bytes_are_those_of_the_specifications() {
    let batch = [series("m", &[("a", "b")], &[(1_000, 1.5)])];
    for (version, plain) in [(Version::One, ONE), (Version::Two, TWO)] {
        assert_eq!(snap::raw::Decoder::new().decompress_vec(&encode(version, &batch)).unwrap(), plain);
        assert_eq!(decode(version, &pack(plain)).unwrap().series, batch);
    }
}

#[test]
fn a_zero_keeps_its_sign() {
    let batch = [series("m", &[], &[(1, -0.0), (2, 0.0)])];
    for version in [Version::One, Version::Two] {
        assert_eq!(decode(version, &encode(version, &batch)).unwrap().series, batch);
    }
}

#[test]
fn a_body_of_one_version_is_nothing_in_the_other() {
    // Which is how a store that knows the first alone stores nothing of the second, and says that all is well.
    let batch = [series("m", &[], &[(1, 1.0)])];
    assert_eq!(decode(Version::One, &encode(Version::Two, &batch)).unwrap(), Received::default());
}

#[test]
fn a_series_that_cannot_be_costs_no_other() {
    let label = |name: &str, value: &str| v1::Label { name: name.to_owned(), value: value.to_owned() };
    let sample = |timestamp| message::Sample { value: Some(1.0), timestamp };
    let good = v1::Series {
        labels: vec![label("__name__", "good")],
        samples: vec![sample(2), sample(1)],
        exemplars: vec![message::Unread {}],
        histograms: vec![message::Unread {}; 2],
    };
    let bad = v1::Series {
        labels: vec![label("__name__", "bad"), label("a.b", "1")],
        samples: vec![sample(1); 3],
        ..v1::Series::default()
    };
    let plain = v1::Request { timeseries: vec![bad, good] }.encode_to_vec();
    let received = decode(Version::One, &pack(&plain)).unwrap();
    assert_eq!(received.series, [series("good", &[], &[(1, 1.0), (2, 1.0)])]);
    assert_eq!((received.refused, received.histograms, received.exemplars), (3, 2, 1));
    assert_eq!(received.why, Some(LabelError::Name("a.b".to_owned())));
}

#[test]
fn what_is_no_body_is_told_before_it_costs_memory() {
    // A block that promises 4 GiB, and is ten bytes.
    let bomb = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], b"aaaaa"].concat();
    assert!(matches!(decode(Version::One, &bomb), Err(Error::TooLarge(Over { size: 0xffff_ffff, .. }))));
    let zeros = pack(&vec![0; MAX_PLAIN_BYTES + 1]);
    assert!(
        zeros.len() < MAX_PACKED_BYTES && matches!(decode(Version::One, &zeros), Err(Error::TooLarge(_)))
    );
    assert!(matches!(decode(Version::One, b"plain"), Err(Error::Snappy(_))));
    assert!(matches!(decode(Version::One, &pack(b"\x0a\xff")), Err(Error::Protobuf(_) | Error::Content(_))));
    assert!(matches!(decode(Version::One, &pack(&ONE[..20])), Err(Error::Content(_))));
    let too_many = pack(&b"\x22\0".repeat(MAX_SYMBOLS + 1));
    assert!(matches!(decode(Version::Two, &too_many), Err(Error::TooLarge(Over { what: "strings", .. }))));
    let samples = [b"\x12\0".repeat(100), Vec::new()].concat();
    let one = [&[0x0a, 0xc8, 0x01][..], &samples].concat();
    assert!(matches!(
        decode(Version::One, &pack(&one.repeat(2_001))),
        Err(Error::TooLarge(Over { what: "samples", .. }))
    ));
}

#[test]
fn a_few_bytes_that_name_many_are_too_large() {
    let value = "x".repeat(1_000);
    let mut symbols: Vec<_> = ["", NAME, "m"].map(str::to_owned).into();
    symbols.extend((0..39).flat_map(|n| [format!("l{n}"), format!("{value}{n}")]));
    let refs: Vec<u32> = (1..81).collect();
    let samples = vec![message::Sample { value: Some(1.0), timestamp: 1 }];
    let of = |count: usize, labels_refs: &[u32]| {
        let one = v2::Series {
            labels_refs: labels_refs.to_vec(),
            samples: samples.clone(),
            ..v2::Series::default()
        };
        let request = v2::Request { symbols: symbols.clone(), timeseries: vec![one; count] };
        pack(&request.encode_to_vec())
    };
    let too_large = |body: &[u8]| {
        let error = decode(Version::Two, body).unwrap_err();
        assert!(error.to_string().contains("bytes of labels in a body"), "{error}");
    };
    let many = of(2_000, &refs);
    assert!(many.len() < 100_000);
    too_large(&many);
    // One series is enough, and is none.
    too_large(&of(1, &[1, 4].repeat(100_000)));
    // The control: as many as senders send at once.
    assert_eq!(decode(Version::Two, &of(1_000, &refs)).unwrap().series.len(), 1_000);
    assert_eq!(decode(Version::Two, &of(10_000, &refs[..8])).unwrap().series.len(), 10_000);

    // Of the first version, where each is written out, a body of the shortest.
    let label = v1::Label { name: "a".to_owned(), value: "b".to_owned() };
    let one = v1::Series { labels: vec![label; 10_000], ..v1::Series::default() };
    let plain = v1::Request { timeseries: vec![one; 150] }.encode_to_vec();
    assert!(matches!(decode(Version::One, &pack(&plain)), Err(Error::TooLarge(_))));
}

#[test]
fn a_table_that_does_not_fit_is_told() {
    let body = |symbols: &[&str], refs: &[u32]| {
        let one = v2::Series { labels_refs: refs.to_vec(), ..v2::Series::default() };
        let symbols = symbols.iter().map(|text| (*text).to_owned()).collect();
        pack(&v2::Request { symbols, timeseries: vec![one] }.encode_to_vec())
    };
    let refusal =
        |symbols: &[&str], refs: &[u32]| decode(Version::Two, &body(symbols, refs)).unwrap_err().to_string();
    assert!(refusal(&["", "__name__", "m"], &[1, 3]).ends_with("not in the table"));
    assert!(refusal(&["", "__name__", "m"], &[1]).ends_with("without a value"));
    assert!(refusal(&["__name__", "m"], &[0, 1]).ends_with("not the empty one"));
}

#[test]
fn versions_are_named_by_the_content_type() {
    for (text, version) in [
        ("", Some(Version::One)),
        ("application/x-protobuf", Some(Version::One)),
        ("application/x-protobuf; proto=prometheus.WriteRequest", Some(Version::One)),
        ("application/x-protobuf;proto=io.prometheus.write.v2.Request", Some(Version::Two)),
        ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
        ("application/json", None),
    ] {
        assert_eq!(Version::of(text), version, "{text}");
    }
    for version in [Version::One, Version::Two] {
        assert_eq!(Version::of(version.content_type()), Some(version));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        values in prop::collection::vec((any::<i64>(), any::<u64>().prop_map(f64::from_bits)), 0..20),
        label in "\\PC{0,20}",
    ) {
        let mut batch = vec![
            series("m", &[("a", &label)], &values),
            series("m", &[("b", &label)], &[(1, f64::from_bits(0x7ff0_0000_0000_0002))]),
        ];
        for version in [Version::One, Version::Two] {
            let received = decode(version, &encode(version, &batch)).unwrap();
            batch[0].samples.sort_by_key(|sample| sample.at_ms);
            let stored = batch.iter().filter(|one| !one.samples.is_empty()).cloned().collect::<Vec<_>>();
            prop_assert_eq!(received.series, stored);
        }
    }

    #[test]
    fn no_body_is_a_panic(plain in prop::collection::vec(any::<u8>(), 0..200), packed in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [Version::One, Version::Two] {
            let _ = decode(version, &pack(&plain));
            let _ = decode(version, &packed);
        }
    }
}
