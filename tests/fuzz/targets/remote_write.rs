//! The body of `POST /api/v1/write`. The first byte chooses the version, and whether the rest is packed already.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::series::remote::wire::{Version, decode, encode};

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let version = if choice & 1 == 0 { Version::One } else { Version::Two };
    // Few random bytes are a block of snappy; what is in one is the larger half of what is read.
    let packed = match choice & 2 {
        0 => snap::raw::Encoder::new().compress_vec(body).expect("far below 4 GiB"),
        _ => body.to_owned(),
    };
    let Ok(received) = decode(version, &packed) else { return };
    assert!(received.refused == 0 || received.why.is_some(), "a reason for what is not stored");
    for one in &received.series {
        assert!(!one.samples.is_empty() && one.samples.is_sorted_by_key(|sample| sample.at_ms));
    }
    // Said again in our own words, in either version, it is understood the same.
    for version in [Version::One, Version::Two] {
        let again = decode(version, &encode(version, &received.series)).expect("our own form is accepted");
        assert_eq!(again.series, received.series);
        assert_eq!((again.refused, again.histograms, again.exemplars), (0, 0, 0));
    }
});
