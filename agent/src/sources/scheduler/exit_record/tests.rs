use super::*;
use crate::sources::scheduler::fixture::{BtfBuilder, UEI_KIND_OFFSET, rustland_1_0};

fn find(blob: &[u8], section: &str) -> Option<ExitRecord> {
    let btf = Btf::parse(blob).expect("honest BTF");
    let datasec = btf.find(Kind::Datasec, section).expect("the section");
    ExitRecord::find(&btf, &datasec, datasec.size_or_type).expect("honest BTF")
}

#[test]
fn the_record_is_found_by_shape_and_read_once_its_kind_is_set() {
    let record = find(&rustland_1_0().btf, ".data").expect("uei is there");
    assert_eq!(record.name, "uei");
    assert_eq!(record.range(), (UEI_KIND_OFFSET, 1168));
    let mut bytes = vec![0; 1168];
    bytes[8..16].copy_from_slice(&(-5_i64).to_le_bytes());
    bytes[16..30].copy_from_slice(b"runnable task ");
    bytes[144..150].copy_from_slice(b"a\xffb\0no");
    assert_eq!(record.decode(&bytes), None, "kind is written last");
    bytes[..4].copy_from_slice(&1026_u32.to_le_bytes());
    let info = record.decode(&bytes).expect("written");
    assert_eq!((info.kind, info.exit_code), (ExitKind::ErrorStall, -5));
    assert_eq!((info.reason.as_str(), info.msg.as_str()), ("runnable task ", "a\u{fffd}b"));
    assert_eq!(record.decode(&bytes[..100]), None, "too few bytes");
    assert_eq!(find(&rustland_1_0().btf, ".bss"), None, "negative control: no such struct there");
}

#[test]
fn near_misses_are_not_the_record_and_uei_wins() {
    let build = |kind_size, text_len, names: &[&str]| {
        let btf = &mut BtfBuilder::default();
        let (int, long) = (btf.int("int", kind_size, 1), btf.int("long", 8, 1));
        let char = btf.int("char", 1, 1);
        let text = btf.array(char, long, text_len);
        let members =
            [("kind", int, 0), ("exit_code", long, 8), ("reason", text, 16), ("msg", text, 16 + text_len)];
        let info = btf.structure("anything", 16 + 2 * text_len, &members);
        let size = 16 + 2 * text_len;
        let entries: Vec<_> =
            (0..).zip(names).map(|(at, name)| (btf.variable(name, info), at * size, size)).collect();
        btf.section(".bss.own", size * 2, &entries);
        find(&btf.build(), ".bss.own").map(|record| record.name)
    };
    assert_eq!(build(4, 64, &["first", "uei"]), Some("uei".to_owned()));
    assert_eq!(build(4, 64, &["first", "second"]), Some("first".to_owned()));
    assert_eq!(build(8, 64, &["first"]), None, "kind is an int");
    assert_eq!(build(4, 1 << 20, &["first"]), None, "no text is that long");
    assert_eq!(build(4, 64, &["a", "b", "uei"]), Some("a".to_owned()), "the third lies outside its section");
}
