//! The body of `POST /api/v1/metrics`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::http::bss_body::{MAX_BATCH, decode};

fuzz_target!(|body: &[u8]| {
    let Ok(posted) = decode(body) else { return };
    assert!((1..=MAX_BATCH).contains(&posted.records.len()));
    // What was understood, said again in our own words, is understood the same.
    let ours = serde_json::to_vec(&posted.records).expect("records are plain numbers");
    let again = decode(&ours).expect("our own form is accepted");
    assert_eq!(again.records, posted.records);
});
