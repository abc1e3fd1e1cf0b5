//! The few bpf() commands that reading another program's maps takes, and the mapped memory itself.
//!
//! The only file of this room that is not safe Rust. Every function here is safe to call: descriptors are
//! owned, buffers outlive the call and are as long as the kernel was told. Commands, attributes and info
//! structs are those of `include/uapi/linux/bpf.h`; trailing fields the kernel may add are left out, which it
//! permits.
#![expect(unsafe_code, reason = "bpf() takes pointers, and mapped kernel memory changes under our eyes")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use memmap2::{Mmap, MmapOptions};

use super::maps::{Mapped, Plan, Word};

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

/// Memory is read in whole units of this many bytes, aligned to them: a word of any width inside one is read whole.
const UNIT_BYTES: usize = 8;

/// The elements of an array map, shared with the kernel, for reading.
#[derive(Clone)]
pub(super) struct Memory {
    /// Whole units: the kernel rounds an array's elements up to them, and a mapping to pages.
    units: Arc<Mmap>,
    len: usize,
}

impl Memory {
    /// Maps `len` bytes of the elements of the map with this id, for reading for as long as it is mapped.
    ///
    /// The kernel takes a mapping of a read-only descriptor for a private one and refuses it, so the mapping
    /// is made through a descriptor of its own, closed at once.
    pub(super) fn map(id: u32, len: usize) -> io::Result<Self> {
        let fd = open_with(Object::Map, id, 0)?;
        let whole = len.next_multiple_of(UNIT_BYTES);
        // SAFETY: no reference into this memory is ever made but to atomics. An array map's pages cannot be cut off
        // while they are mapped.
        let units = unsafe { MmapOptions::new().len(whole).map(fd.as_raw_fd()) }?;
        Ok(Self { units: Arc::new(units), len })
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        if offset >= self.len {
            return None;
        }
        // SAFETY: inside the mapping; an atomic may share memory with the kernel's writers.
        Some(unsafe { &*self.units.as_ptr().add(offset).cast::<AtomicU8>() }.load(Ordering::Relaxed))
    }
}

impl Mapped for Memory {
    fn plan(&self, words: &[Word]) -> Option<Box<dyn Plan>> {
        let (mut runs, mut parts, mut torn) = (Vec::<Run>::new(), Vec::new(), Vec::new());
        for (at, &word) in words.iter().enumerate() {
            let (offset, size) = (word.offset as usize, usize::from(word.size));
            if !(1..=UNIT_BYTES).contains(&size) || offset.checked_add(size)? > self.len {
                return None;
            }
            let unit = offset / UNIT_BYTES;
            let shift = u32::try_from(offset % UNIT_BYTES * 8).ok()?;
            let unused_bits = 64 - 8 * u32::from(word.size);
            if shift > unused_bits {
                torn.push((at, word));
            } else if unused_bits > 0 {
                parts.push(Part { at, unit, mask: u64::MAX >> unused_bits, shift });
            } else if let Some(run) = runs.last_mut().filter(|run| run.continues_at(at, unit)) {
                run.len += 1;
            } else {
                runs.push(Run { at, unit, len: 1 });
            }
        }
        let units = self.units.as_ptr().cast();
        let (runs, parts, torn) = (runs.into(), parts.into(), torn.into());
        Some(Box::new(MemoryPlan { units, memory: self.clone(), runs, parts, torn }))
    }

    fn copy(&self, offset: u32, out: &mut [u8]) -> Option<()> {
        for (at, byte) in (offset as usize..).zip(out) {
            *byte = self.byte(at)?;
        }
        Some(())
    }
}

/// Words that are whole units and follow one another, in memory and among the values, as counters do. Invariant: the
/// units lie inside the memory.
struct Run {
    /// Number of the first value.
    at: usize,
    unit: usize,
    len: usize,
}

impl Run {
    const fn continues_at(&self, at: usize, unit: usize) -> bool {
        self.at + self.len == at && self.unit + self.len == unit
    }
}

/// A word that is part of a unit. Invariant: the unit lies inside the memory.
struct Part {
    /// Number of the value.
    at: usize,
    unit: usize,
    mask: u64,
    shift: u32,
}

struct MemoryPlan {
    /// Where `memory` begins: one step less to it for each reading.
    units: *const AtomicU64,
    memory: Memory,
    runs: Box<[Run]>,
    parts: Box<[Part]>,
    /// Words that lie in two units, in packed structs, with their number: read by the byte, torn like every reader's.
    torn: Box<[(usize, Word)]>,
}

// SAFETY: the pointer leads into the mapping that is sent along with it, and only to atomics.
unsafe impl Send for MemoryPlan {}

impl Plan for MemoryPlan {
    fn read(&self, out: &mut [u64]) {
        for run in &self.runs {
            // A value that nobody has room for is not read.
            let values = out.get_mut(run.at..).unwrap_or_default().iter_mut().take(run.len);
            for (value, unit) in values.zip(run.unit..) {
                *value = self.unit(unit);
            }
        }
        for part in &self.parts {
            if let Some(value) = out.get_mut(part.at) {
                *value = self.unit(part.unit) >> part.shift & part.mask;
            }
        }
        if !self.torn.is_empty() {
            self.read_torn(out);
        }
    }
}

impl MemoryPlan {
    /// One of a run's or a part's units.
    #[inline]
    fn unit(&self, unit: usize) -> u64 {
        // SAFETY: the places of runs and parts were checked when the plan was made: they lie inside the mapping, which
        // the plan keeps, and are aligned, since mappings begin at a page; an atomic may share memory with the kernel's
        // writers.
        u64::from_le(unsafe { &*self.units.add(unit) }.load(Ordering::Relaxed))
    }

    #[cold]
    fn read_torn(&self, out: &mut [u64]) {
        for &(at, word) in &self.torn {
            let mut bytes = [0; UNIT_BYTES];
            for (byte, offset) in bytes.iter_mut().zip(word.offset as usize..).take(word.size.into()) {
                *byte = self.memory.byte(offset).unwrap_or_default();
            }
            if let Some(value) = out.get_mut(at) {
                *value = u64::from_le_bytes(bytes);
            }
        }
    }
}

#[cfg(any(test, feature = "fixture"))]
pub(super) mod create;
