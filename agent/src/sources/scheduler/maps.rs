//! The seam to the kernel: bytes of BPF maps and their BTF.
//!
//! [`super::kernel::KernelReader`] is the real one; tests put recorded blobs behind the same trait. Everything
//! above this file is arithmetic on bytes.

use std::io;

use thiserror::Error;

use crate::kernel::btf::BtfError;

/// A map that may hold one section of global data: `BPF_MAP_TYPE_ARRAY`.
pub const MAP_TYPE_ARRAY: u32 = 2;
/// A set of kernel callbacks implemented in BPF: `BPF_MAP_TYPE_STRUCT_OPS`.
pub const MAP_TYPE_STRUCT_OPS: u32 = 26;
/// The map can be mapped into memory: `BPF_F_MMAPABLE`.
pub const FLAG_MMAPABLE: u32 = 1 << 10;
/// Largest element that is copied: lavd's largest section is 256 KB; 16 MiB is no section any more.
pub const MAX_VALUE_BYTES: u32 = 16 << 20;

/// What the kernel says of a map (`struct bpf_map_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// The map's id: ids only grow within a boot.
    pub id: u32,
    /// `BPF_MAP_TYPE_*`.
    pub map_type: u32,
    /// Size of one element, bytes.
    pub value_size: u32,
    /// Elements.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// The BTF that describes it; 0 for none.
    pub btf_id: u32,
    /// Its value's type in that BTF.
    pub btf_value_type_id: u32,
    /// A struct_ops value's type in the kernel's own BTF.
    pub btf_vmlinux_value_type_id: u32,
    /// Writing is over for good.
    pub frozen: bool,
}

/// Why the kernel's maps could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The privilege is missing.
    #[error("CAP_SYS_ADMIN is needed to open another program's map: {what}")]
    NotPermitted {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// It vanished between two looks: the scheduler is gone or going.
    #[error("{what} is gone")]
    Gone {
        /// What was looked for.
        what: String,
    },
    /// Any other failure.
    #[error("{what}")]
    Failed {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Larger than this program copies.
    #[error("{what} is {size} bytes long, more than the limit of {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// Its size, bytes.
        size: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// Bytes that the section does not have.
    #[error("byte {offset} lies outside its section")]
    Outside {
        /// Where, bytes.
        offset: u32,
    },
    /// The type information makes no sense.
    #[error("type information of {what}: {source}")]
    Btf {
        /// Whose.
        what: String,
        /// What is wrong with it.
        #[source]
        source: BtfError,
    },
    /// No struct_ops map carries the running scheduler's name.
    #[error("no struct_ops map belongs to scheduler `{ops}`")]
    NoStructOps {
        /// `root/ops`.
        ops: String,
    },
}

/// A scalar's place in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Offset, bytes.
    pub offset: u32,
    /// Width: 1, 2, 4 or 8 bytes.
    pub size: u8,
}

/// Bytes of the kernel's BPF maps, and of the BTF that describes them.
pub trait MapReader: Send {
    /// Ids of all maps, ascending.
    ///
    /// # Errors
    /// [`ReadError::NotPermitted`], [`ReadError::Failed`].
    fn map_ids(&mut self) -> Result<Vec<u32>, ReadError>;

    /// What the kernel says of a map.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and the like.
    fn map_info(&mut self, map_id: u32) -> Result<MapInfo, ReadError>;

    /// Opens a map for reading; the map lives on for as long as the handle does.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and the like.
    fn open(&mut self, map_id: u32) -> Result<Box<dyn OpenMap>, ReadError>;

    /// Ids of the maps a program uses.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and the like.
    fn program_map_ids(&mut self, program_id: u32) -> Result<Vec<u32>, ReadError>;

    /// Ids of the struct_ops maps attached through a link, ascending by link.
    ///
    /// # Errors
    /// [`ReadError::NotPermitted`], [`ReadError::Failed`].
    fn linked_struct_ops(&mut self) -> Result<Vec<u32>, ReadError>;

    /// A BTF blob.
    ///
    /// # Errors
    /// [`ReadError::Gone`] and the like.
    fn btf(&mut self, btf_id: u32) -> Result<Vec<u8>, ReadError>;

    /// The kernel's own BTF.
    ///
    /// # Errors
    /// [`ReadError::Failed`] where the kernel exposes none.
    fn kernel_btf(&mut self) -> Result<Vec<u8>, ReadError>;
}

/// One opened map, of which the first element is read.
pub trait OpenMap: Send {
    /// What the kernel says of it.
    fn info(&self) -> &MapInfo;

    /// The element in our own memory, where the map allows it.
    fn mapped(&self) -> Option<&dyn Mapped>;

    /// Copies the element; `value` is exactly as long as it.
    ///
    /// # Errors
    /// [`ReadError::Failed`].
    fn lookup(&self, value: &mut [u8]) -> Result<(), ReadError>;
}

/// An element mapped into memory, which the scheduler changes under our eyes: each word is read once, whole.
pub trait Mapped {
    /// Checks once, so that every reading after it is loads only; `None` if a word lies outside, or has no width
    /// of 1 to 8 bytes.
    fn plan(&self, words: &[Word]) -> Option<Box<dyn Plan>>;

    /// Copies bytes from `offset` on; `None` if they lie outside.
    fn copy(&self, offset: u32, out: &mut [u8]) -> Option<()>;
}

/// Words in memory that stays mapped for as long as the plan lives.
pub trait Plan: Send {
    /// Reads every word, zero-extended, into the front of `out`, which has room for them.
    fn read(&self, out: &mut [u64]);
}

impl Word {
    /// The word in `bytes`, zero-extended; `None` if it lies outside.
    pub fn read(self, bytes: &[u8]) -> Option<u64> {
        let start = self.offset as usize;
        let bytes = bytes.get(start..start.checked_add(usize::from(self.size))?)?;
        let mut word = [0; 8];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }
}
