//! A file for `sextant replay`. Its first byte chooses whether the columns are named in it, or as they should be.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sextant::domain::gpu::usable;
use sextant::domain::series::is_name;
use sextant::sources::gpu::csv::{Item, MAX_TOLD_BYTES, Reader};
use sextant::sources::gpu::labels;

const COLUMNS: &[u8] =
    b"timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw\n";

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let file = match choice & 1 {
        0 => rest.to_owned(),
        _ => [COLUMNS, rest].concat(),
    };
    let Ok(mut reader) = Reader::new(&file[..]) else { return };
    let mut items = 0;
    while let Some(item) = reader.next_item().expect("memory can be read") {
        items += 1;
        match item {
            Item::Row(row) => {
                assert!(is_name(&row.metric, true) && usable(row.value) == Ok(row.value), "{row:?}");
                assert!(labels::parse(&row.labels_raw).is_ok(), "{row:?}");
                let device = &row.device;
                assert!(!device.uuid.is_empty() || !device.hostname.is_empty(), "{row:?}");
            }
            // A byte that is no UTF-8 becomes a letter of three.
            Item::Bad(bad) => assert!(bad.text.len() <= 3 * MAX_TOLD_BYTES && bad.line > 1),
            Item::Blank(_) => {}
        }
    }
    // Every line but the first and empty ones is an item.
    let lines = file.split(|byte| *byte == b'\n').skip(1);
    let lines = lines.filter(|line| !line.is_empty() && *line != b"\r").count();
    assert_eq!(items, lines);
    assert_eq!(reader.read_bytes(), file.len() as u64);
});
