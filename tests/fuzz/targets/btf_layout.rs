//! Type information of a foreign map, and the words read by it. The first byte chooses the section.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::sources::scheduler::layout::{of_section, words};

const SECTIONS: [&str; 3] = [".bss", ".data", ".rodata"];
/// Larger sections are not allocated here; the kernel would not have given them memory either.
const MAX_SECTION: u32 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((choice, btf)) = input.split_first() else { return };
    let Ok(layout) = of_section(btf, SECTIONS[usize::from(*choice) % SECTIONS.len()]) else { return };
    let size = layout.sections.first().expect("the section that was asked for").size;
    if size > MAX_SECTION {
        return;
    }
    // What is listed as readable lies inside the section.
    let section = vec![0xa5; size as usize];
    for word in words(&layout.variables) {
        assert!(word.read(&section).is_some(), "{word:?} of {size} bytes");
    }
});
