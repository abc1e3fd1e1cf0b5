//! What becomes of processes: what the loader tells the programs, and what they tell it.
//!
//! One program per tracepoint, each named after it, all writing [`Event`]s into one ring buffer. Only processes count,
//! not threads: a process starts when its leader is forked and ends with its last thread. The loader may leave out the
//! programs for cgroups where a kernel has no such tracepoint.

use core::mem::offset_of;

use crate::task::TaskRecord;

/// The name of the ring buffer of [`Event`]s.
pub const EVENTS: &str = "EVENTS";
/// The per-CPU array of one counter: events that found no room.
pub const LOST: &str = "LOST";

/// The program and tracepoint that tells of starts.
pub const FORK: &str = "sched_process_fork";
/// The one that tells of new programs in old processes.
pub const EXEC: &str = "sched_process_exec";
/// The one that tells of ends.
pub const EXIT: &str = "sched_process_exit";
/// The one that tells of processes moved to another cgroup.
pub const ATTACH: &str = "cgroup_attach_task";
/// The one that tells of new cgroups.
pub const MKDIR: &str = "cgroup_mkdir";
/// The one that tells of cgroups removed.
pub const RMDIR: &str = "cgroup_rmdir";

/// What happened.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A process started, as a copy of its parent.
    Fork = 1,
    /// It runs another program now.
    Exec = 2,
    /// Its last thread ends.
    Exit = 3,
    /// It is in another cgroup of some hierarchy now.
    Attach = 4,
    /// A cgroup was made, in some hierarchy; of the record only `cgroup_id` is set.
    Mkdir = 5,
    /// A cgroup was removed, likewise.
    Rmdir = 6,
}

/// One of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The process as it is then.
    pub task: TaskRecord,
    /// A [`Kind`].
    pub kind: u32,
    /// Always 0.
    pub reserved: u32,
}

impl Event {
    /// Size of an event, bytes.
    pub const BYTES: usize = size_of::<Self>();

    /// The event in the bytes that a program wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let mut task = [0; TaskRecord::BYTES];
        task.copy_from_slice(bytes.split_at(TaskRecord::BYTES).0);
        Self { task: TaskRecord::from_bytes(&task), kind: u32::from_ne_bytes(words[12]), reserved: 0 }
    }

    /// What happened; `None` for a kind that is not known here.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        Some(match self.kind {
            1 => Kind::Fork,
            2 => Kind::Exec,
            3 => Kind::Exit,
            4 => Kind::Attach,
            5 => Kind::Mkdir,
            6 => Kind::Rmdir,
            _ => return None,
        })
    }
}

const _: () = assert!(Event::BYTES == 56);
const _: () = assert!(offset_of!(Event, kind) == 48);
