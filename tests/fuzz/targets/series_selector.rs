//! The selector of series in questions to the receiver: PromQL's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::domain::series::Escaped;
use sextant::http::receiver::series::selector_for_fuzzing as parse;

/// Half of what is read, less a metric's own condition: escaped, a text may be twice as long.
const MAX_BYTES: usize = 4_000;

fuzz_target!(|text: &str| {
    let Ok(selection) = parse(text) else { return };
    assert!(!selection.matchers.is_empty());
    if text.len() > MAX_BYTES {
        return;
    }
    // Said again with every condition in braces, it is understood the same.
    let conditions: Vec<_> = selection
        .matchers
        .iter()
        .map(|one| format!("{}{}\"{}\"", one.label, one.operator.symbol(), Escaped(&one.value)))
        .collect();
    assert_eq!(parse(&format!("{{{}}}", conditions.join(","))), Ok(selection));
});
