//! What an exporter of GPUs answers a scrape with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::domain::series::Labels;
use sextant::sources::gpu::exposition_for_fuzzing as samples;

fuzz_target!(|text: &str| {
    let read = samples(text);
    // No line is lost, and none is two.
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(read.len(), lines.count());
    for (name, labels, value) in read.into_iter().flatten() {
        // A value may be too long for a series, or there be too many labels with the name.
        let Ok(series) = Labels::new(&name, labels) else { continue };
        let again = samples(&format!("{series} {value}"));
        let [Ok((name, labels, same))] = &*again else { panic!("{series} {value}: {again:?}") };
        assert_eq!(Labels::new(name, labels.clone()), Ok(series));
        assert!(same.to_bits() == value.to_bits() || (same.is_nan() && value.is_nan()));
    }
});
