//! One cgroup: its directories, its files, and one reading of them.
//!
//! A file is opened below its group's directory and read with one call; its descriptor is kept while the budget lasts,
//! because opening costs several times what reading does. What is absent is remembered, and tried again once in a while.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};

use super::files::{File, PARTS, Pace, Part};
use super::hierarchy::{Dirs, Hierarchies, Home};
use crate::domain::usage::{Limits, Target, Usage};

/// Readings between two looks at limits and absent files: a minute at the default interval.
pub(super) const SELDOM: u64 = 12;

/// The most of one file: `io.stat` of three hundred devices, sixteen times a `memory.stat`.
pub(super) const BUFFER_BYTES: usize = 64 << 10;

/// Why a part of a group has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// No file: the controller is not enabled for the group, or the kernel has none.
    NoFile,
    /// v1 has no such thing.
    V1,
    /// v2 has the group, but its processes are in v1's only.
    Unpopulated,
    /// EACCES, EPERM.
    Permission,
    /// EMFILE, ENFILE.
    OpenFiles,
    /// The file is longer than any that the kernel writes, or not what it writes.
    Malformed,
    /// Anything else the kernel answered.
    Io,
}

/// The words of [`Why`], in its order.
pub(super) const WHYS: [&str; 7] =
    ["no_file", "cgroup_v1", "unpopulated", "permission", "open_files", "malformed", "io"];

/// Groups without a part, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacks(pub(super) [[u64; WHYS.len()]; PARTS.len()]);

/// What all groups share during a collection.
pub(super) struct Shared<'a> {
    pub(super) trees: &'a Hierarchies,
    pub(super) buffer: &'a mut [u8],
    pub(super) budget: &'a mut Budget,
    pub(super) lacks: &'a mut Lacks,
    /// Files read.
    pub(super) reads: &'a mut u64,
}

/// Descriptors that may stay open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Budget {
    /// Directories and files.
    pub(super) open: usize,
    /// Of both.
    pub(super) limit: usize,
    /// Files among them, each of which costs the kernel a page once it was read.
    pub(super) files: usize,
    /// Of files.
    pub(super) max_files: usize,
}

impl Budget {
    const fn take_dirs(&mut self, count: usize) -> bool {
        let fits = self.open + count <= self.limit;
        if fits {
            self.open += count;
        }
        fits
    }

    const fn take_file(&mut self) -> bool {
        let fits = self.files < self.max_files && self.take_dirs(1);
        if fits {
            self.files += 1;
        }
        fits
    }
}

/// The group was removed.
#[derive(Debug)]
pub(super) struct Gone;

/// A group between collections.
pub(super) struct Group {
    epoch: u64,
    /// Collection that saw it last.
    pub(super) seen: u64,
    readings: u64,
    dirs: Option<Dirs>,
    files: [Slot; File::COUNT],
    /// Descriptors taken from the budget, and the files among them.
    held: usize,
    held_files: usize,
    limits: Limits,
    /// Why one of them is missing: they are not looked at every time.
    limits_lack: Option<Why>,
    populated: bool,
}

enum Slot {
    Untried,
    /// It exists and is opened each time.
    Plain,
    Kept(OwnedFd),
    Absent(Why),
}

impl Group {
    /// `epoch` is a number that no group had before.
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            seen: 0,
            readings: 0,
            dirs: None,
            files: [const { Slot::Untried }; File::COUNT],
            held: 0,
            held_files: 0,
            limits: Limits::default(),
            limits_lack: None,
            populated: true,
        }
    }

    /// Gives its descriptors back.
    pub(super) const fn release(&self, budget: &mut Budget) {
        budget.open = budget.open.saturating_sub(self.held);
        budget.files = budget.files.saturating_sub(self.held_files);
    }

    /// Reads everything once; `mono_ns` is the time now. Rates are left to the caller.
    ///
    /// After [`Gone`] the group must be released and forgotten: what comes back under its path is another one.
    pub(super) fn read(
        &mut self,
        target: &Target,
        shared: &mut Shared<'_>,
        mono_ns: u64,
    ) -> Result<Usage, Gone> {
        let kept = self.dirs.take();
        let were_kept = kept.is_some();
        let dirs = match kept {
            Some(dirs) => dirs,
            None => match shared.trees.group(&target.cgroup, target.cgroup_id) {
                Ok(dirs) => dirs.ok_or(Gone)?,
                Err(errno) => {
                    shared.lacks.0.iter_mut().for_each(|part| part[why(errno) as usize] += 1);
                    return Ok(Usage { epoch: self.epoch, mono_ns, ..Usage::default() });
                }
            },
        };
        // The first reading looks at everything; later ones are spread over the minute by the group's number.
        let seldom = self.readings == 0 || (self.readings + self.epoch).is_multiple_of(SELDOM);
        self.readings += 1;
        let lacking = [None; PARTS.len()];
        let mut reader = Reader { group: self, dirs: &dirs, shared, seldom, lacking, any: false };
        let usage = reader.everything(mono_ns)?;
        if !reader.any {
            // Not one file could be read: it is being removed.
            return Err(Gone);
        }
        let mut lacking = reader.lacking;
        let limits = &mut lacking[Part::Limits as usize];
        if seldom {
            self.limits_lack = *limits;
        }
        *limits = self.limits_lack;
        for (part, why) in lacking.into_iter().enumerate() {
            if let Some(why) = why {
                shared.lacks.0[part][why as usize] += 1;
            }
        }
        if were_kept {
            self.dirs = Some(dirs);
        } else if shared.budget.take_dirs(dirs.count()) {
            self.held += dirs.count();
            self.dirs = Some(dirs);
        }
        Ok(usage)
    }
}

/// One reading under way.
pub(super) struct Reader<'a, 'b> {
    group: &'a mut Group,
    dirs: &'a Dirs,
    shared: &'a mut Shared<'b>,
    /// Limits and absent files are due.
    pub(super) seldom: bool,
    /// Parts that a file was missing for, and why.
    lacking: [Option<Why>; PARTS.len()],
    /// Some file could be read.
    any: bool,
}

impl Reader<'_, '_> {
    /// Which life of the group this is.
    pub(super) const fn epoch(&self) -> u64 {
        self.group.epoch
    }

    /// The group is in this tree.
    pub(super) fn is_in(&self, home: Home) -> bool {
        self.dirs.get(home).is_some()
    }

    /// This host has this tree.
    pub(super) const fn host_has(&self, home: Home) -> bool {
        self.shared.trees.has(home)
    }

    /// What was read of limits before, or is about to be.
    pub(super) const fn limits(&mut self) -> &mut Limits {
        &mut self.group.limits
    }

    /// v2 has processes in this group, as far as was looked.
    pub(super) const fn populated(&mut self) -> &mut bool {
        &mut self.group.populated
    }

    /// Notes that a part has no value; the first reason stays.
    pub(super) const fn lack(&mut self, part: Part, why: Why) {
        let slot = &mut self.lacking[part as usize];
        if slot.is_none() {
            *slot = Some(why);
        }
    }

    /// A file's content, decoded; `None` with a note where there is none.
    pub(super) fn file<T>(
        &mut self,
        file: File,
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Gone> {
        let part = file.spec().part;
        match self.bytes(file)? {
            Ok(length) => {
                self.any = true;
                *self.shared.reads += 1;
                let decoded = self.shared.buffer.get(..length).and_then(decode);
                if decoded.is_none() {
                    self.lack(part, Why::Malformed);
                }
                Ok(decoded)
            }
            Err(why) => {
                self.lack(part, why);
                Ok(None)
            }
        }
    }

    /// Fills the buffer; how far, or why not.
    fn bytes(&mut self, file: File) -> Result<Result<usize, Why>, Gone> {
        let slot = &mut self.group.files[file as usize];
        let existed = match slot {
            Slot::Kept(fd) => return read(fd.as_fd(), self.shared.buffer),
            Slot::Absent(why) if !self.seldom => return Ok(Err(*why)),
            Slot::Absent(_) | Slot::Untried => false,
            Slot::Plain => true,
        };
        let spec = file.spec();
        let Some(dir) = self.dirs.get(spec.home) else { return Ok(Err(Why::NoFile)) };
        let fd = match openat(dir, spec.name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NODEV) if existed => return Err(Gone),
            Err(errno @ (Errno::MFILE | Errno::NFILE)) => return Ok(Err(why(errno))),
            Err(errno) => {
                *slot = Slot::Absent(why(errno));
                return Ok(Err(why(errno)));
            }
        };
        let length = read(fd.as_fd(), self.shared.buffer)?;
        *slot = match length {
            Ok(_) if spec.pace == Pace::Every && self.shared.budget.take_file() => {
                self.group.held += 1;
                self.group.held_files += 1;
                Slot::Kept(fd)
            }
            Ok(_) => Slot::Plain,
            Err(why) => Slot::Absent(why),
        };
        Ok(length)
    }
}

/// The whole file with one call: the kernel makes its text anew for each reading from the start.
fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Result<usize, Why>, Gone> {
    match pread(fd, &mut *buffer, 0) {
        // A full buffer may be the beginning of something longer.
        Ok(length) if length == buffer.len() => Ok(Err(Why::Malformed)),
        Ok(length) => Ok(Ok(length)),
        Err(Errno::NODEV | Errno::NOENT) => Err(Gone),
        Err(errno) => Ok(Err(why(errno))),
    }
}

const fn why(errno: Errno) -> Why {
    match errno {
        // EOPNOTSUPP: pressure that was switched off, for this group or at boot.
        Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP => Why::NoFile,
        Errno::ACCESS | Errno::PERM => Why::Permission,
        Errno::MFILE | Errno::NFILE => Why::OpenFiles,
        _ => Why::Io,
    }
}
