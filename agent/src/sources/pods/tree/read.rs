//! One cgroup's files: the names of its child groups and the pids in `cgroup.procs`.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
use rustix::io::Errno;

/// Read buffer: a page, since the kernel fills at most one at a time for these files.
const BUFFER_BYTES: usize = 4096;

/// A read this short is the last one: the kernel fills the page until the next line has no room, and a line is a
/// number of at most ten digits.
const LAST_READ_BYTES: usize = BUFFER_BYTES - 12;

/// A buffer reused for every directory and file of every walk.
pub(super) struct Buffer(Box<[MaybeUninit<u8>]>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(vec![MaybeUninit::uninit(); BUFFER_BYTES].into_boxed_slice())
    }
}

/// Names of the directories in `path`, sorted.
pub(super) fn child_names(
    root: BorrowedFd<'_>,
    path: &CStr,
    buffer: &mut Buffer,
) -> Result<Vec<Box<[u8]>>, Errno> {
    let dir = openat(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    let mut entries = RawDir::new(dir.as_fd(), &mut buffer.0);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        let is_dir = match entry.file_type() {
            FileType::Directory => true,
            // Not every file system tells the type; cgroupfs does.
            FileType::Unknown => statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            _ => false,
        };
        if is_dir && name != c"." && name != c".." {
            names.push(name.to_bytes().into());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Pids of a `cgroup.procs` file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Procs {
    /// Processes visible in our pid namespace.
    pub(super) pids: Vec<u32>,
    /// Processes of other pid namespaces: the kernel prints 0 for them.
    pub(super) foreign: u64,
    /// The file held more than `limit` pids; the rest was not read.
    pub(super) cut: bool,
}

/// Reads `path` (a `cgroup.procs`); `limit` is the most pids that are kept.
pub(super) fn procs(
    root: BorrowedFd<'_>,
    path: &CStr,
    limit: usize,
    buffer: &mut Buffer,
) -> Result<Procs, Errno> {
    let file = openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut procs = Procs::default();
    let mut pid: Option<u32> = None;
    loop {
        let (read, _) = rustix::io::read(&file, &mut *buffer.0)?;
        let length = read.len();
        for &byte in &*read {
            if byte.is_ascii_digit() {
                let digit = u32::from(byte - b'0');
                pid = Some(pid.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            } else {
                procs.push(pid.take());
            }
        }
        if procs.pids.len() > limit || (procs.pids.len() == limit && length > LAST_READ_BYTES) {
            procs.pids.truncate(limit);
            procs.cut = true;
            return Ok(procs);
        }
        if length <= LAST_READ_BYTES {
            break;
        }
    }
    procs.push(pid);
    Ok(procs)
}

impl Procs {
    fn push(&mut self, pid: Option<u32>) {
        match pid {
            Some(0) => self.foreign += 1,
            Some(pid) => self.pids.push(pid),
            None => {}
        }
    }
}
