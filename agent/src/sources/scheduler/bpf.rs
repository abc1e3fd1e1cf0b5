//! The few bpf() commands that reading another program's maps takes, and the mapped memory itself.
//!
//! The only file of this room that is not safe Rust. Every function here is safe to call: descriptors are
//! owned, buffers outlive the call and are as long as the kernel was told. Commands, attributes and info
//! structs are those of `include/uapi/linux/bpf.h`; trailing fields the kernel may add are left out, which it
//! permits.
#![expect(unsafe_code, reason = "bpf() takes pointers, and mapped kernel memory changes under our eyes")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use memmap2::{Mmap, MmapOptions};

use super::maps::{Mapped, Run, Word};

const MAP_LOOKUP_ELEM: libc::c_long = 1;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Open for reading only: the kernel then refuses every write through this descriptor.
const F_RDONLY: u32 = 1 << 3;

/// A kind of BPF object: the command that yields the next id, and the one that opens an id.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object {
    Program,
    Map,
    Btf,
    Link,
}

impl Object {
    const fn next_id_command(self) -> libc::c_long {
        match self {
            Self::Program => 11,
            Self::Map => 12,
            Self::Btf => 23,
            Self::Link => 31,
        }
    }

    const fn open_command(self) -> libc::c_long {
        match self {
            Self::Program => 13,
            Self::Map => 14,
            Self::Btf => 19,
            Self::Link => 30,
        }
    }
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

#[repr(C)]
struct LookupAttr {
    fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The start of `struct bpf_prog_info`, up to the list of maps.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    unused: [u32; 13],
    nr_map_ids: u32,
    map_ids: u64,
}

#[repr(C)]
#[derive(Default)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
}

/// The id after `id`, or `None` at the end.
pub(super) fn next_id(object: Object, id: u32) -> io::Result<Option<u32>> {
    let mut attr = IdAttr { id, next_id: 0, open_flags: 0 };
    // SAFETY: the attribute holds no pointers.
    match unsafe { bpf(object.next_id_command(), &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A descriptor of the object with this id; of a map one that only reads.
pub(super) fn open(object: Object, id: u32) -> io::Result<OwnedFd> {
    open_with(object, id, if matches!(object, Object::Map) { F_RDONLY } else { 0 })
}

fn open_with(object: Object, id: u32, open_flags: u32) -> io::Result<OwnedFd> {
    let mut attr = IdAttr { id, next_id: 0, open_flags };
    // SAFETY: the attribute holds no pointers.
    let fd = unsafe { bpf(object.open_command(), &mut attr) }?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The first `N` words of the object's info struct; words the kernel does not know stay 0.
pub(super) fn info_words<const N: usize>(fd: &OwnedFd) -> io::Result<[u32; N]> {
    let mut words = [0; N];
    // SAFETY: any bits are valid words, and none of the info structs read this way has a pointer that the
    // kernel would follow while it is 0.
    unsafe { info(fd, &mut words) }?;
    Ok(words)
}

/// Ids of the maps a program uses, at most `limit`.
pub(super) fn program_map_ids(fd: &OwnedFd, limit: u32) -> io::Result<Vec<u32>> {
    let mut first = ProgramInfo::default();
    // SAFETY: plain words; with nr_map_ids 0 the kernel does not follow map_ids.
    unsafe { info(fd, &mut first) }?;
    let mut ids = vec![0_u32; first.nr_map_ids.min(limit) as usize];
    let nr_map_ids = first.nr_map_ids.min(limit);
    let mut second = ProgramInfo { nr_map_ids, map_ids: ids.as_mut_ptr() as u64, ..ProgramInfo::default() };
    // SAFETY: `ids` has room for the nr_map_ids the kernel is told of and outlives the call.
    unsafe { info(fd, &mut second) }?;
    ids.truncate(second.nr_map_ids as usize);
    Ok(ids)
}

/// The BTF blob behind a descriptor; `None` if it is larger than `limit`.
pub(super) fn btf_bytes(fd: &OwnedFd, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut first = BtfInfo::default();
    // SAFETY: plain words; with btf_size 0 the kernel does not follow `btf`.
    unsafe { info(fd, &mut first) }?;
    if first.btf_size as usize > limit {
        return Ok(None);
    }
    let mut bytes = vec![0_u8; first.btf_size as usize];
    let mut second =
        BtfInfo { btf: bytes.as_mut_ptr() as u64, btf_size: first.btf_size, ..BtfInfo::default() };
    // SAFETY: `bytes` has the btf_size bytes the kernel is told of and outlives the call.
    unsafe { info(fd, &mut second) }?;
    Ok(Some(bytes))
}

/// Copies element 0 of an array or struct_ops map whose elements are `value_size` bytes long.
pub(super) fn lookup(fd: &OwnedFd, value_size: u32, value: &mut [u8]) -> io::Result<()> {
    if value.len() < value_size as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let key = 0_u32;
    let mut attr = LookupAttr {
        fd: raw(fd),
        pad: 0,
        key: (&raw const key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: both kinds of map have u32 keys; the kernel writes value_size bytes, and `value` has them.
    unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }.map(|_| ())
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
/// `T` is the start of the info struct the object's kind has, valid for any bits, and each pointer in it is 0
/// or leads to as much memory as the count beside it says.
unsafe fn info<T>(fd: &OwnedFd, info: &mut T) -> io::Result<()> {
    let len = u32::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attr = InfoAttr { fd: raw(fd), len, info: std::ptr::from_mut(info) as u64 };
    // SAFETY: the kernel writes at most `len` bytes to `info`; what it follows inside is the caller's promise.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }.map(|_| ())
}

/// # Safety
/// `attr` is the command's attribute, and every pointer in it is valid for what the command does with it.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: by the caller's promise; the kernel touches size_of::<T>() bytes of the attribute.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The `n`th word behind a pointer, which the caller proves to be valid and aligned.
macro_rules! load {
    ($atomic:ty, $at:expr, $n:expr) => {
        (*$at.cast::<$atomic>().add($n)).load(Ordering::Relaxed)
    };
}

/// The elements of an array map, shared with the kernel, for reading.
pub(super) struct Memory(Mmap);

impl Memory {
    /// Maps `len` bytes of the elements of the map with this id, for reading for as long as it is mapped.
    ///
    /// The kernel takes a mapping of a read-only descriptor for a private one and refuses it, so the mapping
    /// is made through a descriptor of its own, closed at once.
    pub(super) fn map(id: u32, len: usize) -> io::Result<Self> {
        let fd = open_with(Object::Map, id, 0)?;
        // SAFETY: no reference into this memory is ever made: it is read through atomic loads only. An array
        // map's pages cannot be cut off while they are mapped.
        unsafe { MmapOptions::new().len(len).map(fd.as_raw_fd()) }.map(Self)
    }

    fn at(&self, offset: usize, len: usize) -> Option<*const u8> {
        let inside = offset.checked_add(len)? <= self.0.len();
        // SAFETY: the sum lies inside the mapping, or no pointer is made.
        inside.then(|| unsafe { self.0.as_ptr().add(offset) })
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        let at = self.at(offset, 1)?;
        // SAFETY: inside the mapping; an atomic may share memory with the kernel's writers.
        Some(unsafe { &*at.cast::<AtomicU8>() }.load(Ordering::Relaxed))
    }

    /// Packed structs: such a word may be torn, like every reader's.
    #[cold]
    fn bytewise(&self, word: Word) -> Option<u64> {
        let mut bytes = [0; 8];
        for (at, byte) in (word.offset as usize..).zip(bytes.get_mut(..usize::from(word.size))?) {
            *byte = self.byte(at)?;
        }
        Some(u64::from_le_bytes(bytes))
    }
}

impl Mapped for Memory {
    fn gather(&self, runs: &[Run], out: &mut Vec<u64>) -> Option<()> {
        for run in runs {
            let (size, count) = (usize::from(run.first.size), run.count as usize);
            let at = self.at(run.first.offset as usize, size.checked_mul(count)?)?;
            let aligned = at.addr().is_multiple_of(size.max(1));
            // SAFETY: by `at` the whole run lies inside the mapping, and it is aligned to its words' size;
            // atomics may share memory with the kernel's writers.
            unsafe {
                match size {
                    8 if aligned => out.extend((0..count).map(|n| load!(AtomicU64, at, n))),
                    4 if aligned => out.extend((0..count).map(|n| u64::from(load!(AtomicU32, at, n)))),
                    2 if aligned => out.extend((0..count).map(|n| u64::from(load!(AtomicU16, at, n)))),
                    1 => out.extend((0..count).map(|n| u64::from(load!(AtomicU8, at, n)))),
                    _ => {
                        for word in run.words() {
                            out.push(self.bytewise(word)?);
                        }
                    }
                }
            }
        }
        Some(())
    }

    fn copy(&self, offset: u32, out: &mut [u8]) -> Option<()> {
        for (at, byte) in (offset as usize..).zip(out) {
            *byte = self.byte(at)?;
        }
        Some(())
    }
}

#[cfg(any(test, feature = "fixture"))]
pub(super) mod create;
