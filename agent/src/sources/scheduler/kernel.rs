//! The real [`MapReader`]: the running kernel, through bpf().

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use super::bpf::{self, Memory, Object};
use super::maps::{FLAG_MMAPABLE, MAX_VALUE_BYTES, MapInfo, MapReader, Mapped, OpenMap, ReadError};
use crate::host::HostRoots;
use crate::kernel::btf;

/// Most maps or links looked at: a node full of network and security agents has a few thousand.
const MAX_OBJECTS: usize = 65_536;
/// Most maps of one program: the verifier's own limit is 64 (`MAX_USED_MAPS`).
const MAX_PROGRAM_MAPS: u32 = 256;
/// `BPF_LINK_TYPE_STRUCT_OPS`.
const LINK_TYPE_STRUCT_OPS: u32 = 9;

/// Reads the running kernel's maps. Needs CAP_SYS_ADMIN; without it every call says so.
#[derive(Debug)]
pub struct KernelReader {
    kernel_btf: PathBuf,
}

impl KernelReader {
    /// A reader that finds the kernel's own BTF below `roots.sys`.
    pub fn new(roots: &HostRoots) -> Self {
        Self { kernel_btf: roots.sys.join("kernel/btf/vmlinux") }
    }
}

impl MapReader for KernelReader {
    fn map_ids(&mut self) -> Result<Vec<u32>, ReadError> {
        ids(Object::Map)
    }

    fn map_info(&mut self, map_id: u32) -> Result<MapInfo, ReadError> {
        open(Object::Map, map_id).and_then(|fd| map_info(&fd))
    }

    fn open(&mut self, map_id: u32) -> Result<Box<dyn OpenMap>, ReadError> {
        let fd = open(Object::Map, map_id)?;
        let mut info = map_info(&fd)?;
        info.frozen = frozen(&fd);
        if info.value_size > MAX_VALUE_BYTES {
            let (size, limit) = (info.value_size.into(), MAX_VALUE_BYTES.into());
            return Err(ReadError::TooLarge { what: format!("an element of map {map_id}"), size, limit });
        }
        // A kernel that refuses the mapping still allows the copy.
        let mappable = info.flags & FLAG_MMAPABLE != 0;
        let memory = mappable.then(|| Memory::map(map_id, info.value_size as usize).ok()).flatten();
        Ok(Box::new(KernelMap { fd, info, memory }))
    }

    fn program_map_ids(&mut self, program_id: u32) -> Result<Vec<u32>, ReadError> {
        let fd = open(Object::Program, program_id)?;
        bpf::program_map_ids(&fd, MAX_PROGRAM_MAPS)
            .map_err(|error| failed(Object::Program, program_id, error))
    }

    fn linked_struct_ops(&mut self) -> Result<Vec<u32>, ReadError> {
        let mut maps = Vec::new();
        for id in ids(Object::Link)? {
            // A link that ends between the two calls is no scheduler's any more.
            let Ok(fd) = open(Object::Link, id) else { continue };
            let Ok(words) = bpf::info_words::<16>(&fd) else { continue };
            if words[0] == LINK_TYPE_STRUCT_OPS {
                maps.push(words[4]);
            }
        }
        Ok(maps)
    }

    fn btf(&mut self, btf_id: u32) -> Result<Vec<u8>, ReadError> {
        let fd = open(Object::Btf, btf_id)?;
        let bytes = bpf::btf_bytes(&fd, btf::MAX_SIZE_BYTES);
        let bytes = bytes.map_err(|error| failed(Object::Btf, btf_id, error))?;
        bytes.ok_or_else(|| {
            let limit = btf::MAX_SIZE_BYTES as u64;
            ReadError::TooLarge { what: format!("BTF {btf_id}"), size: limit + 1, limit }
        })
    }

    fn kernel_btf(&mut self) -> Result<Vec<u8>, ReadError> {
        let read = || {
            let mut bytes = Vec::new();
            let limit = btf::MAX_SIZE_BYTES as u64 + 1; // one more, so that parsing sees it is too large
            File::open(&self.kernel_btf)?.take(limit).read_to_end(&mut bytes).map(|_| bytes)
        };
        let what = || format!("read {}", self.kernel_btf.display());
        read().map_err(|source| ReadError::Failed { what: what(), source })
    }
}

struct KernelMap {
    fd: OwnedFd,
    info: MapInfo,
    memory: Option<Memory>,
}

impl OpenMap for KernelMap {
    fn info(&self) -> &MapInfo {
        &self.info
    }

    fn mapped(&self) -> Option<&dyn Mapped> {
        self.memory.as_ref().map(|memory| memory as &dyn Mapped)
    }

    fn lookup(&self, value: &mut [u8]) -> Result<(), ReadError> {
        bpf::lookup(&self.fd, self.info.value_size, value)
            .map_err(|error| failed(Object::Map, self.info.id, error))
    }
}

fn ids(object: Object) -> Result<Vec<u32>, ReadError> {
    let mut ids = Vec::new();
    let mut last = 0;
    while ids.len() < MAX_OBJECTS {
        let next = bpf::next_id(object, last).map_err(|error| failed(object, last, error))?;
        let Some(next) = next else { break };
        ids.push(next);
        last = next;
    }
    Ok(ids)
}

fn open(object: Object, id: u32) -> Result<OwnedFd, ReadError> {
    bpf::open(object, id).map_err(|error| failed(object, id, error))
}

/// Words of `struct bpf_map_info`, by position.
fn map_info(fd: &OwnedFd) -> Result<MapInfo, ReadError> {
    let words = bpf::info_words::<22>(fd);
    let words = words.map_err(|source| ReadError::Failed { what: "read a map's info".to_owned(), source })?;
    Ok(MapInfo {
        map_type: words[0],
        id: words[1],
        value_size: words[3],
        max_entries: words[4],
        flags: words[5],
        btf_vmlinux_value_type_id: words[11],
        btf_id: words[16],
        btf_value_type_id: words[18],
        frozen: false,
    })
}

/// Only our own descriptor's fdinfo says whether a map is frozen; without a /proc of our own: not known to be.
fn frozen(fd: &OwnedFd) -> bool {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap_or_default();
    text.lines().any(|line| line.strip_prefix("frozen:").is_some_and(|value| value.trim() == "1"))
}

fn failed(object: Object, id: u32, source: io::Error) -> ReadError {
    let object = match object {
        Object::Program => "program",
        Object::Map => "map",
        Object::Btf => "BTF",
        Object::Link => "link",
    };
    let what = if id == 0 { format!("list every {object}") } else { format!("{object} {id}") };
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ReadError::NotPermitted { what, source },
        Some(libc::ENOENT) => ReadError::Gone { what },
        _ => ReadError::Failed { what, source },
    }
}

#[cfg(test)]
mod tests;
