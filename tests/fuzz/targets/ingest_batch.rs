//! The body of `POST /api/v1/ingest`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::api::batch::Batch;

fuzz_target!(|body: &[u8]| {
    let Ok(batch) = serde_json::from_slice::<Batch>(body) else { return };
    // A receiver that stored and forwarded it would say the same.
    let text = serde_json::to_vec(&batch).expect("a batch is plain data");
    let again: Batch = serde_json::from_slice(&text).expect("our own form is accepted");
    assert_eq!(again.first_seq, batch.first_seq);
    assert_eq!(again.accounts, batch.accounts);
    let texts = |batch: &Batch| batch.records.iter().map(|record| record.get().to_owned()).collect::<Vec<_>>();
    assert_eq!(texts(&again), texts(&batch));
});
