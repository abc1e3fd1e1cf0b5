use proptest::prelude::*;

use super::*;
use crate::sources::scheduler::fixture::{BtfBuilder, rustland_1_0, rustland_1_1};

/// A section of one variable `v` of a type that `make` builds.
fn one(size: u32, make: impl Fn(&mut BtfBuilder) -> u32) -> Layout {
    let mut btf = BtfBuilder::default();
    let ty = make(&mut btf);
    let var = btf.variable("v", ty);
    btf.section(".bss", size, &[(var, 0, size)]);
    of_section(&btf.build(), ".bss").expect("honest BTF")
}

fn names(layout: &Layout) -> Vec<(&str, u32, u8, &str)> {
    layout.variables.iter().map(|v| (v.name.as_str(), v.offset, v.size, v.ty.as_str())).collect()
}

fn unread(layout: &Layout) -> Vec<(&str, &str, u32, &str)> {
    layout.unread.iter().map(|u| (u.name.as_str(), u.ty.as_str(), u.size, u.why)).collect()
}

#[test]
fn both_layouts_of_rustland_decode_by_name() {
    let old = of_section(&rustland_1_0().btf, ".bss").expect("decodes");
    assert_eq!(names(&old)[0], ("usersched_pid", 0, 4, "u32"));
    assert_eq!(names(&old)[5], ("nr_user_dispatches", 40, 8, "u64"));
    assert_eq!(old.variables.len(), 12);
    let new = of_section(&rustland_1_1().btf, ".bss").expect("decodes");
    assert_eq!(names(&new)[0], ("__scx_prolog_disables_migration", 0, 1, "_Bool"));
    assert_eq!(names(&new)[8], ("nr_user_dispatches", 56, 8, "u64"), "the same name, another place");
    assert_eq!(new.variables.len(), 16);
    assert!(names(&new).iter().all(|(name, ..)| *name != "usersched_pid"));
}

#[test]
fn struct_members_are_joined_with_dots_and_unnamed_ones_looked_through() {
    let layout = one(40, |btf| {
        let (int, long) = (btf.int("int", 4, 1), btf.int("unsigned long", 8, 0));
        let inner = btf.structure("", 8, &[("a", int, 0), ("b", int, 4)]);
        let named = btf.structure("inner", 16, &[("", inner, 0), ("c", long, 8)]);
        let kind = btf.enumeration("kind", &[("NONE", -1), ("SOME", 5)]);
        btf.structure(
            "outer",
            40,
            &[("x", named, 0), ("", inner, 16), ("kind", kind, 24), ("last", long, 32)],
        )
    });
    let expected = [
        ("v.x.a", 0, 4, "int"),
        ("v.x.b", 4, 4, "int"),
        ("v.x.c", 8, 8, "unsigned long"),
        ("v.a", 16, 4, "int"),
        ("v.b", 20, 4, "int"),
        ("v.kind", 24, 4, "enum kind"),
        ("v.last", 32, 8, "unsigned long"),
    ];
    assert_eq!(names(&layout), expected);
    let values = Arc::from([(-1, "NONE".to_owned()), (5, "SOME".to_owned())]);
    assert_eq!(layout.variables[5].kind, ScalarKind::Enum(values));
}

#[test]
fn wide_enumerations_keep_their_64_bits() {
    let layout = one(8, |btf| btf.enumeration64("flags", &[("HIGH", 1 << 40), ("LOW", 1)]));
    let values = Arc::from([(1 << 40, "HIGH".to_owned()), (1, "LOW".to_owned())]);
    assert_eq!(layout.variables[0].kind, ScalarKind::Enum(values));
}

#[test]
fn what_is_not_one_word_is_listed_with_its_type_and_the_reason() {
    let layout = one(200, |btf| {
        let (char, int) = (btf.int("char", 1, 1), btf.int("int", 4, 1));
        let (text, matrix) = (btf.array(char, int, 128), btf.array(int, int, 3));
        let matrix = btf.array(matrix, int, 2);
        let (pointer, function) = (btf.ptr(int), btf.function());
        let (callback, pointers) = (btf.ptr(function), btf.array(pointer, int, 4));
        let either = btf.union("either", 8, &[("a", int), ("b", pointer)]);
        let (float, huge) = (btf.float("double", 8), btf.int("__int128", 16, 1));
        let bits = btf.bit_fields("bits", 4, &[("low", int, 0, 3), ("whole", int, 0, 0)]);
        let members = [
            ("text", text, 0),
            ("matrix", matrix, 128),
            ("p", pointer, 152),
            ("f", callback, 160),
            ("ps", pointers, 168),
            ("either", either, 176),
            ("d", float, 184),
            ("h", huge, 184),
            ("bits", bits, 196),
        ];
        btf.structure("all", 200, &members)
    });
    let expected = [
        ("v.text", "char[128]", 128, "arrays are not read"),
        ("v.matrix", "int[2][3]", 24, "arrays are not read"),
        ("v.p", "int *", 8, "a pointer's value says nothing outside the kernel"),
        ("v.f", "function pointer", 8, "a pointer's value says nothing outside the kernel"),
        ("v.ps", "int *[4]", 32, "arrays are not read"),
        ("v.either", "union either", 8, "a union does not say which of its members holds"),
        ("v.d", "double", 8, "floating point is not read"),
        ("v.h", "__int128", 16, "only integers of 1, 2, 4 and 8 bytes are read"),
        ("v.bits.low", "int", 4, BIT_FIELD),
    ];
    assert_eq!(unread(&layout), expected);
    assert_eq!(names(&layout), [("v.bits.whole", 196, 4, "int")], "a whole member beside bit fields is read");
}

#[test]
fn a_place_outside_the_section_is_never_read() {
    let layout = one(8, |btf| {
        let long = btf.int("unsigned long", 8, 0);
        btf.structure("lie", 8, &[("inside", long, 0), ("half", long, 4), ("beyond", long, 64)])
    });
    assert_eq!(names(&layout), [("v.inside", 0, 8, "unsigned long")]);
    assert_eq!(unread(&layout).len(), 2);
    assert!(layout.unread.iter().all(|unread| unread.why == "lies outside its section"));
}

#[test]
fn limits_end_the_walk_and_say_so() {
    let wide = one(80_000, |btf| {
        let int = btf.int("int", 4, 1);
        let members: Vec<_> = (0..10_000).map(|at| ("m", int, at * 4)).collect();
        btf.structure("wide", 40_000, &members)
    });
    assert_eq!(wide.variables.len(), MAX_VARIABLES);
    assert_eq!(unread(&wide).last().expect("the end is said").0, "...");

    let deep = one(8, |btf| {
        let mut ty = btf.int("int", 4, 1);
        for _ in 0..40 {
            ty = btf.structure("d", 4, &[("m", ty, 0)]);
        }
        ty
    });
    assert_eq!(deep.variables.len(), 0);
    assert_eq!(deep.unread[0].why, "nested deeper than 16 structs");

    let empty_structs = one(8, |btf| {
        let mut ty = btf.structure("e", 0, &[]);
        for _ in 0..12 {
            let members = vec![("m", ty, 0); 1000];
            ty = btf.structure("e", 0, &members);
        }
        ty
    });
    assert_eq!(unread(&empty_structs), [("...", "", 0, "the section holds more variables than are read")]);
}

#[test]
fn lies_are_errors() {
    let section_of = |make: fn(&mut BtfBuilder) -> u32| {
        let mut btf = BtfBuilder::default();
        let ty = make(&mut btf);
        let var = btf.variable("v", ty);
        btf.section(".bss", 8, &[(var, 0, 8)]);
        of_section(&btf.build(), ".bss").expect_err("a lie")
    };
    assert_eq!(section_of(|_| 99), BtfError::NoSuchType { id: 99 });
    assert_eq!(section_of(|btf| btf.typedef("me", 1)), BtfError::EndlessChain { id: 1 });
    assert_eq!(section_of(|btf| btf.array(1, 1, 2)), BtfError::EndlessChain { id: 1 });
    assert_eq!(section_of(|btf| btf.structure("s", 4, &[("m", 77, 0)])), BtfError::NoSuchType { id: 77 });
    let itself = one(8, |btf| btf.structure("s", 4, &[("m", 1, 0)]));
    assert_eq!(itself.unread[0].why, "nested deeper than 16 structs");

    let good = rustland_1_0().btf;
    assert_eq!(
        of_section(&good, ".data.none").expect_err("none"),
        BtfError::NoSuchSection { section: ".data.none".to_owned() }
    );
    assert_eq!(of_section(b"", ".bss").expect_err("empty"), BtfError::Truncated { what: "the header" });
    assert_eq!(of_section(&[0; 64], ".bss").expect_err("zeros"), BtfError::NotBtf);
    let mut unknown = good.clone();
    unknown[24 + 7] = 31;
    assert_eq!(of_section(&unknown, ".bss").expect_err("kind"), BtfError::UnknownKind { id: 1, kind: 31 });
    for cut in 0..good.len() {
        assert!(of_section(&good[..cut], ".bss").is_err(), "cut at {cut}");
    }
}

/// Whatever is read lies inside the section: the one promise that unread memory depends on.
fn holds(layout: &Layout) -> bool {
    let size = layout.sections.first().map_or(0, |section| section.size);
    let inside = |v: &Variable| u64::from(v.offset) + u64::from(v.size) <= u64::from(size);
    layout.variables.iter().all(inside)
        && layout.variables.len() <= MAX_VARIABLES
        && layout.unread.len() <= MAX_UNREAD
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        if let Ok(layout) = of_section(&bytes, ".bss") {
            prop_assert!(holds(&layout));
        }
    }

    #[test]
    fn changed_blobs_are_decoded_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut bytes = rustland_1_1().btf;
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for section in [".bss", ".data", ".rodata"] {
            if let Ok(layout) = of_section(&bytes, section) {
                prop_assert!(holds(&layout));
            }
        }
    }
}

#[test]
fn the_promise_can_be_broken() {
    let mut layout = of_section(&rustland_1_0().btf, ".bss").expect("decodes");
    assert!(holds(&layout));
    layout.sections[0].size -= 1;
    assert!(!holds(&layout), "negative control: one byte less and the last variable lies outside");
}
