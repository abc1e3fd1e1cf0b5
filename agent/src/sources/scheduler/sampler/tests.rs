use super::*;
use crate::sources::scheduler::fixture::{FakeMap, FakeReader};
use crate::sources::scheduler::maps::{FLAG_MMAPABLE, MAP_TYPE_ARRAY, MapInfo, MapReader};

const MS: u64 = 1_000_000;

fn section(reader: &mut FakeReader, id: u32, size: u32, flags: u32, frozen: bool) -> Section {
    let info = MapInfo {
        id,
        map_type: MAP_TYPE_ARRAY,
        value_size: size,
        max_entries: 1,
        flags,
        frozen,
        ..MapInfo::default()
    };
    let mut bytes = vec![0; size as usize];
    bytes[..8].copy_from_slice(&u64::from(id).to_le_bytes());
    let map = FakeMap { info, value: std::sync::Arc::new(std::sync::Mutex::new(bytes)) };
    reader.kernel().maps.insert(id, map);
    let map = reader.open(id).expect("just made");
    Section::new(map, vec![Word { offset: 0, size: 8 }, Word { offset: 0, size: 1 }]).expect("readable")
}

fn set(reader: &FakeReader, id: u32, value: u8) {
    reader.kernel().maps[&id].value.lock().expect("no panic holds it")[0] = value;
}

#[test]
fn each_section_is_read_as_often_as_its_kind_needs() {
    let mut reader = FakeReader::default();
    let sections = vec![
        section(&mut reader, 10, 64, FLAG_MMAPABLE, false),
        section(&mut reader, 20, 64, 0, false),
        section(&mut reader, 30, 64, FLAG_MMAPABLE, true),
        section(&mut reader, 40, LARGE_SECTION_BYTES + 8, 0, false),
    ];
    let mut sampler = Sampler::new(sections, 10 * MS);
    let mut out = vec![99; 3];
    sampler.sample(0, &mut out).expect("readable");
    assert_eq!(out, [10, 10, 20, 20, 30, 30, 40, 40]);
    assert_eq!(reader.kernel().lookups, 2);

    for id in [10, 20, 30, 40] {
        set(&reader, id, 7);
    }
    sampler.sample(5 * MS, &mut out).expect("readable");
    assert_eq!(out, [7, 7, 7, 7, 30, 30, 40, 40], "frozen stays, large is not due");
    assert_eq!(reader.kernel().lookups, 3);
    sampler.sample(10 * MS, &mut out).expect("readable");
    assert_eq!(out, [7, 7, 7, 7, 30, 30, 7, 7]);
    assert_eq!(reader.kernel().lookups, 5);
}

#[test]
fn a_word_outside_is_refused_when_the_section_is_opened() {
    for flags in [0, FLAG_MMAPABLE] {
        let mut reader = FakeReader::default();
        let good = section(&mut reader, 1, 64, flags, false);
        for (offset, inside) in [(56, true), (57, false), (u32::MAX, false)] {
            let map = reader.open(1).expect("still there");
            let made = Section::new(map, vec![Word { offset, size: 8 }]);
            assert_eq!(made.is_ok(), inside, "{offset}");
            assert!(matches!(made, Ok(_) | Err(ReadError::Outside { .. })));
        }
        let sampler = Sampler::new(vec![good], 0);
        assert!(sampler.copy(0, 60, 8).is_err());
        assert!(sampler.copy(0, u32::MAX, usize::MAX).is_err());
        assert!(sampler.copy(9, 0, 1).is_err());
        assert_eq!(sampler.copy(0, 0, 2).expect("inside"), [1, 0]);
    }
}

#[test]
fn a_failed_copy_leaves_nothing_behind() {
    let mut reader = FakeReader::default();
    let sections =
        vec![section(&mut reader, 1, 64, FLAG_MMAPABLE, false), section(&mut reader, 2, 64, 0, false)];
    let mut sampler = Sampler::new(sections, 0);
    let mut out = Vec::new();
    sampler.sample(0, &mut out).expect("readable");
    assert_eq!(out.len(), 4, "the control");
    reader.kernel().maps[&2].value.lock().expect("no panic holds it").truncate(4);
    assert!(sampler.sample(0, &mut out).is_err());
    assert!(out.is_empty());
}
