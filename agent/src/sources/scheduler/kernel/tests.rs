//! The real kernel. Where the right is missing, what is tested is that the reader says so.

use super::*;
use crate::sources::scheduler::fixture::{RealSection, rustland_1_0};
use crate::sources::scheduler::image::Image;
use crate::sources::scheduler::maps::Word;
use crate::sources::scheduler::struct_ops;

/// A real rustland `.bss`, or `None` where this process may not make one.
fn section(mappable: bool) -> Option<RealSection> {
    let scheduler = rustland_1_0();
    let (datasec, _, size) = scheduler.sections[0];
    match RealSection::create(&scheduler.btf, datasec, size, mappable) {
        Ok(section) => Some(section),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let refused = KernelReader::new(&HostRoots::default()).map_ids().expect_err("no right, no maps");
            assert!(refused.to_string().starts_with("CAP_SYS_ADMIN is needed to open another program's map"));
            None
        }
        Err(error) => panic!("the kernel refuses the built BTF or map: {error}"),
    }
}

fn value(first: u32, queued: u64, needed: u32) -> [u8; 92] {
    let mut bytes = [0; 92];
    bytes[..4].copy_from_slice(&first.to_le_bytes());
    bytes[8..16].copy_from_slice(&queued.to_le_bytes());
    bytes[88..].copy_from_slice(&needed.to_le_bytes());
    bytes
}

fn image(id: u32) -> (KernelReader, Image) {
    let mut reader = KernelReader::new(&HostRoots::default());
    assert!(reader.map_ids().expect("may be listed").contains(&id));
    let maps = vec![reader.open(id).expect("opens")];
    let image = Image::of_maps(&mut reader, 0, maps, 0).expect("decodes");
    (reader, image)
}

#[test]
fn live_values_are_read_by_mapping_and_by_copy() {
    for mappable in [true, false] {
        let Some(section) = section(mappable) else { return };
        section.write(&value(131, 7, 1)).expect("written");
        let (_, mut image) = image(section.id().expect("known"));
        assert_eq!(image.layout.sections[0].mapped, mappable);
        assert_eq!(&*image.layout.sections[0].name, ".bss");
        let mut out = Vec::new();
        image.sampler.sample(0, &mut out).expect("readable");
        assert_eq!((out.len(), out[0], out[1], out[11]), (12, 131, 7, 1));
        section.write(&value(131, u64::MAX, 2)).expect("written");
        image.sampler.sample(0, &mut out).expect("readable");
        assert_eq!((out[1], out[11]), (u64::MAX, 2), "the next sample sees the change");
        let mut copied = [0; 92];
        copied.copy_from_slice(&image.sampler.copy(0, 0, 92).expect("inside"));
        assert_eq!(copied, value(131, u64::MAX, 2));
    }
}

#[test]
fn mapped_words_of_every_width_and_alignment_equal_the_copied_bytes() {
    let Some(section) = section(true) else { return };
    let bytes: Vec<u8> = (0..92).map(|at: u8| at.wrapping_mul(37) ^ 0x5a).collect();
    section.write(&bytes).expect("written");
    let map = KernelReader::new(&HostRoots::default()).open(section.id().expect("known")).expect("opens");
    let mapped = map.mapped().expect("it is mappable");
    for size in [1, 2, 4, 8] {
        let words: Vec<_> = (0..=92 - u32::from(size)).map(|offset| Word { offset, size }).collect();
        let every_other: Vec<_> = words.iter().copied().step_by(size.into()).collect();
        for words in [words, every_other] {
            let mut out = vec![0; words.len()];
            mapped.plan(&words).expect("inside").read(&mut out);
            let expected: Vec<_> = words.iter().map(|word| word.read(&bytes).expect("inside")).collect();
            assert_eq!(out, expected, "{size} bytes wide");
        }
    }
    for outside in [Word { offset: 89, size: 4 }, Word { offset: 0, size: 16 }, Word { offset: 0, size: 0 }] {
        assert!(mapped.plan(&[outside]).is_none(), "{outside:?}");
    }
    assert_eq!(mapped.copy(90, &mut [0; 3]), None);
}

#[test]
fn an_open_map_outlives_its_owner() {
    let Some(section) = section(true) else { return };
    section.write(&value(1, 2, 3)).expect("written");
    let id = section.id().expect("known");
    let (mut reader, mut image) = image(id);
    drop(section);
    let mut out = Vec::new();
    image.sampler.sample(0, &mut out).expect("still readable");
    assert_eq!((out[0], out[1], out[11]), (1, 2, 3));
    drop(image);
    // The kernel frees maps a moment later; until then the id may still open.
    let gone = (0..2000).any(|_| {
        std::thread::yield_now();
        matches!(reader.open(id), Err(ReadError::Gone { .. }))
    });
    assert!(gone, "nothing else holds it");
}

#[test]
fn frozen_sections_are_known_as_such() {
    let Some(section) = section(true) else { return };
    section.write(&value(5, 0, 0)).expect("written");
    section.freeze().expect("frozen");
    assert!(section.write(&value(6, 0, 0)).is_err(), "negative control: it is frozen indeed");
    let (_, image) = image(section.id().expect("known"));
    assert!(image.layout.sections[0].frozen);
}

#[test]
fn a_handle_cannot_write() {
    let Some(section) = section(true) else { return };
    let fd = bpf::open(Object::Map, section.id().expect("known")).expect("opens");
    let error = bpf::create::write(&fd, &value(9, 9, 9)).expect_err("opened for reading only");
    assert_eq!(error.raw_os_error(), Some(libc::EPERM));
}

#[test]
fn ids_that_do_not_exist_are_gone() {
    if section(true).is_none() {
        return;
    }
    let mut reader = KernelReader::new(&HostRoots::default());
    for error in [
        reader.open(u32::MAX).err(),
        reader.program_map_ids(u32::MAX).err(),
        reader.btf(u32::MAX).err(),
        reader.map_info(u32::MAX).err(),
    ] {
        assert!(matches!(error, Some(ReadError::Gone { .. })), "{error:?}");
    }
    reader.linked_struct_ops().expect("links may be listed");
}

#[test]
fn the_running_kernels_btf_yields_the_shape_of_its_struct_ops() {
    // Every kernel with struct_ops has TCP congestion control among them; its value is built like sched_ext's.
    let mut reader = KernelReader::new(&HostRoots::default());
    let shape = struct_ops::kernel_shape(&mut reader, "tcp_congestion_ops").expect("this kernel has BTF");
    let text = format!("{shape:?}");
    assert!(text.contains(", 16)"), "the name is char[16]: {text}");
    assert!(struct_ops::kernel_shape(&mut reader, "no_such_ops").is_err());
}

#[test]
fn a_kernel_without_btf_is_named() {
    let roots = HostRoots { sys: "/nonexistent".into(), ..HostRoots::default() };
    let error = KernelReader::new(&roots).kernel_btf().expect_err("no such file");
    assert_eq!(error.to_string(), "read /nonexistent/kernel/btf/vmlinux");
}
