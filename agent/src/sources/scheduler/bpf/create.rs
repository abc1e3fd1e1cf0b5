//! Makes a section map as a BPF loader would: for tests and benches that need a real one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::{bpf, raw};
use crate::sources::scheduler::maps::MAP_TYPE_ARRAY;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const BTF_LOAD: libc::c_long = 18;
const MAP_FREEZE: libc::c_long = 22;

/// `union bpf_attr` of `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
    btf_vmlinux_value_type_id: u32,
}

#[repr(C)]
struct BtfLoadAttr {
    btf: u64,
    log: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
}

#[repr(C)]
struct UpdateAttr {
    fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Loads a BTF blob into the kernel.
pub(in crate::sources::scheduler) fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let btf_size = u32::try_from(btf.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attr = BtfLoadAttr { btf: btf.as_ptr() as u64, log: 0, btf_size, log_size: 0, log_level: 0 };
    // SAFETY: the kernel reads btf_size bytes of `btf`.
    let fd = unsafe { bpf(BTF_LOAD, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Creates an array map of one element whose type is the section type `datasec` of `btf`.
pub(in crate::sources::scheduler) fn section(
    btf: &OwnedFd,
    datasec: u32,
    size: u32,
    map_flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = CreateAttr {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: size,
        max_entries: 1,
        map_flags,
        map_name: *b"sextant_test.bss",
        btf_fd: raw(btf),
        btf_value_type_id: datasec,
        ..CreateAttr::default()
    };
    attr.map_name[15] = 0;
    // SAFETY: the attribute holds no pointers.
    let fd = unsafe { bpf(MAP_CREATE, &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes element 0, which is as long as `value`.
pub(in crate::sources::scheduler) fn write(map: &OwnedFd, value: &[u8]) -> io::Result<()> {
    let key = 0_u32;
    let (key, value) = ((&raw const key) as u64, value.as_ptr() as u64);
    let mut attr = UpdateAttr { fd: raw(map), pad: 0, key, value, flags: 0 };
    // SAFETY: key and value live through the call and are as long as the map's.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(|_| ())
}

/// Ends writing for good.
pub(in crate::sources::scheduler) fn freeze(map: &OwnedFd) -> io::Result<()> {
    let mut attr = [raw(map); 1];
    // SAFETY: the attribute holds no pointers.
    unsafe { bpf(MAP_FREEZE, &mut attr) }.map(|_| ())
}
