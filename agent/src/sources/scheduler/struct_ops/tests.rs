use std::sync::Arc;

use super::*;
use crate::sources::scheduler::fixture::{FakeReader, rustland_1_0, rustland_1_1};
use crate::sources::scheduler::maps::MAP_TYPE_ARRAY;

fn shape(reader: &mut FakeReader) -> Shape {
    kernel_shape(reader, "sched_ext_ops").expect("the built kernel has it")
}

#[test]
fn a_scheduler_is_found_by_the_name_in_its_value() {
    let mut reader = FakeReader::default();
    let old = reader.load(&rustland_1_0(), true);
    let new = reader.load(&rustland_1_1(), true);
    let shape = shape(&mut reader);
    let found = find(&mut reader, &shape, rustland_1_1().ops).expect("loaded");
    assert_eq!(found.info.id, new);
    let found = find(&mut reader, &shape, "rustland").expect("loaded");
    assert_eq!(found.info.id, old);
    assert!(matches!(find(&mut reader, &shape, "rustlan"), Err(ReadError::NoStructOps { .. })));
}

#[test]
fn only_its_own_maps_are_taken_though_all_are_called_alike() {
    let mut reader = FakeReader::default();
    reader.load(&rustland_1_0(), true);
    reader.load(&rustland_1_1(), true);
    let shape = shape(&mut reader);
    let found = find(&mut reader, &shape, "rustland").expect("loaded");
    let own = maps(&mut reader, &found).expect("readable");
    let sizes = |ids: &BTreeSet<u32>| {
        let kernel = reader.kernel();
        let arrays =
            ids.iter().map(|id| kernel.maps[id].info.clone()).filter(|map| map.map_type == MAP_TYPE_ARRAY);
        arrays.map(|map| map.value_size).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&own), [92, 1184], "the second is used by no callback: found by its BTF");
    let all = reader.kernel().maps.keys().copied().collect();
    assert_eq!(sizes(&all).len(), 5, "negative control: every map is not the answer");
}

#[test]
fn of_two_copies_the_attached_one_counts() {
    let mut reader = FakeReader::default();
    let running = reader.load(&rustland_1_0(), true);
    let refused = reader.load(&rustland_1_0(), true);
    reader.kernel().links.retain(|&id| id != refused);
    let shape = shape(&mut reader);
    let id = |reader: &mut FakeReader| find(reader, &shape, "rustland").expect("loaded").info.id;
    assert_eq!(id(&mut reader), running, "the newer was refused");
    reader.kernel().links.push(refused);
    assert_eq!(id(&mut reader), refused, "both attached: the newer replaced the older");
}

#[test]
fn missing_rights_and_vanished_maps_are_told_apart() {
    let mut reader = FakeReader::default();
    reader.load(&rustland_1_0(), true);
    let shape = shape(&mut reader);
    let found = find(&mut reader, &shape, "rustland").expect("loaded");
    reader.unload();
    assert!(maps(&mut reader, &found).expect("gone is no error").is_empty());
    reader.kernel().denied = true;
    let error = find(&mut reader, &shape, "rustland").expect_err("denied");
    assert_eq!(error.to_string(), "CAP_SYS_ADMIN is needed to open another program's map: list every map");
}

#[test]
fn a_kernel_without_the_struct_has_no_such_schedulers() {
    let mut reader = FakeReader::default();
    assert!(matches!(kernel_shape(&mut reader, "hid_bpf_ops"), Err(ReadError::NoStructOps { .. })));
}

#[test]
fn the_timeout_is_the_schedulers_own_or_the_kernels_longest() {
    let mut reader = FakeReader::default();
    let id = reader.load(&rustland_1_0(), true);
    let mut shape = shape(&mut reader);
    let timeout =
        |reader: &mut FakeReader, shape: &Shape| find(reader, shape, "rustland").expect("loaded").timeout_ns;
    assert_eq!(timeout(&mut reader, &shape), None, "this kernel does not name its longest");
    shape.max_timeout_ticks = Some(7_500);
    assert_eq!(timeout(&mut reader, &shape), Some(7_500 * tick_ns()), "none of its own");
    let value = Arc::clone(&reader.kernel().maps[&id].value);
    value.lock().expect("a map")[212..216].copy_from_slice(&5_000_u32.to_le_bytes());
    assert_eq!(timeout(&mut reader, &shape), Some(5_000_000_000));
    shape.timeout_ms = None;
    assert_eq!(timeout(&mut reader, &shape), None, "negative control: without the field nothing is said");
}
