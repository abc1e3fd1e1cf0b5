//! The walk over all processes: what the loader tells the program `tasks`, and what it gets back.
//!
//! The program is a task iterator (section `iter/task`). Every read of its file descriptor yields whole
//! [`TaskRecord`]s, one per process, back to back, in the order of process ids of the reader's pid namespace.

use core::mem::offset_of;

/// The name of the program in the object.
pub const PROGRAM: &str = "tasks";
/// The name of the global variable that holds [`TaskOffsets`]; all zeros until the loader sets it.
pub const OFFSETS: &str = "TASK_OFFSETS";
/// `TASK_COMM_LEN` of the kernel.
pub const COMM_BYTES: usize = 16;

/// Where this kernel keeps the fields that the walk reads: offsets in bytes from the start of the struct, which the
/// loader takes from the kernel's BTF. One object thus serves every kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `task_struct.pid`
    pub pid: u32,
    /// `task_struct.tgid`
    pub tgid: u32,
    /// `task_struct.real_parent`
    pub real_parent: u32,
    /// `task_struct.start_boottime`
    pub start_boottime: u32,
    /// `task_struct.comm`
    pub comm: u32,
    /// `task_struct.signal`
    pub signal: u32,
    /// `signal_struct.nr_threads`
    pub nr_threads: u32,
    /// `task_struct.cgroups`
    pub cgroups: u32,
    /// `css_set.dfl_cgrp`
    pub dfl_cgrp: u32,
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub id: u32,
}

/// One process (thread group), as its leader says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// The leader's thread id, equal to `tgid`; of the initial pid namespace, as are the two below.
    pub pid: u32,
    /// The process id.
    pub tgid: u32,
    /// The process id of the parent; 0 for the first process and for kthreadd.
    pub ppid: u32,
    /// Threads in the process, at least 1.
    pub nr_threads: u32,
    /// When it started, nanoseconds since boot, time asleep included.
    pub start_boottime_ns: u64,
    /// Its cgroup in the unified hierarchy: the inode number of the cgroup's directory. 1 is the root.
    pub cgroup_id: u64,
    /// Name of the leader, NUL-padded, without a NUL if it is as long as the field.
    pub comm: [u8; COMM_BYTES],
}

impl TaskOffsets {
    /// The value of the global variable, as loaders that want plain words take it.
    #[must_use]
    pub const fn words(&self) -> [u32; 11] {
        let Self {
            pid,
            tgid,
            real_parent,
            start_boottime,
            comm,
            signal,
            nr_threads,
            cgroups,
            dfl_cgrp,
            kn,
            id,
        } = *self;
        [pid, tgid, real_parent, start_boottime, comm, signal, nr_threads, cgroups, dfl_cgrp, kn, id]
    }
}

impl TaskRecord {
    /// Size of a record, bytes.
    pub const BYTES: usize = size_of::<Self>();

    /// The record in the bytes that the walk wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let (longs, _) = bytes.as_chunks::<8>();
        let (_, comm) = bytes.split_at(offset_of!(Self, comm));
        let mut record = Self {
            pid: u32::from_ne_bytes(words[0]),
            tgid: u32::from_ne_bytes(words[1]),
            ppid: u32::from_ne_bytes(words[2]),
            nr_threads: u32::from_ne_bytes(words[3]),
            start_boottime_ns: u64::from_ne_bytes(longs[2]),
            cgroup_id: u64::from_ne_bytes(longs[3]),
            comm: [0; COMM_BYTES],
        };
        record.comm.copy_from_slice(comm);
        record
    }
}

const _: () = assert!(size_of::<TaskOffsets>() == size_of::<[u32; 11]>());
const _: () = assert!(offset_of!(TaskOffsets, id) == 40);
const _: () = assert!(TaskRecord::BYTES == 48);
const _: () = assert!(offset_of!(TaskRecord, start_boottime_ns) == 16);
const _: () = assert!(offset_of!(TaskRecord, comm) == 32);
