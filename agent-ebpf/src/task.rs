//! The walk over all processes: what the loader tells the program `tasks`, and what it gets back.
//!
//! The program is a task iterator (section `iter/task`). Every read of its file descriptor yields whole
//! [`TaskRecord`]s, one per process, back to back, in the order of process ids of the reader's pid namespace.

use core::ffi::c_void;
use core::mem::offset_of;

/// The name of the program in the object.
pub const PROGRAM: &str = "tasks";
/// The name of the global variable that holds [`TaskOffsets`]; all zeros until the loader sets it.
pub const OFFSETS: &str = "TASK_OFFSETS";
/// `TASK_COMM_LEN` of the kernel.
pub const COMM_BYTES: usize = 16;

/// Where this kernel keeps the fields that programs read of a task: offsets in bytes from the start of the struct, which
/// the loader takes from the kernel's BTF. One object thus serves every kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `task_struct.pid`
    pub pid: u32,
    /// `task_struct.tgid`
    pub tgid: u32,
    /// `task_struct.group_leader`
    pub group_leader: u32,
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
    /// `signal_struct.live`
    pub live: u32,
    /// `task_struct.cgroups`
    pub cgroups: u32,
    /// In `css_set`: `dfl_cgrp` for the unified hierarchy, or one element of `subsys` for a legacy one.
    pub css: u32,
    /// `cgroup_subsys_state.cgroup`, where `css` leads to a subsystem's state; [`TaskOffsets::UNIFIED`] where it leads to
    /// the cgroup.
    pub css_cgroup: u32,
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub id: u32,
}

/// One process (thread group), as its leader says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskRecord {
    /// The process id (`tgid`); of the initial pid namespace, as is the parent's.
    pub pid: u32,
    /// Threads that have not begun to end; 0 for a process that is waited for, or nearly.
    pub live: u32,
    /// The process id of the parent; 0 for the first process and for kthreadd.
    pub ppid: u32,
    /// Threads in the process, at least 1.
    pub nr_threads: u32,
    /// When it started, nanoseconds since boot, time asleep included.
    pub start_boottime_ns: u64,
    /// Its cgroup in the hierarchy that the loader chose: the inode number of the cgroup's directory. 1 is the root.
    pub cgroup_id: u64,
    /// Name of the leader, NUL-padded, without a NUL if it is as long as the field.
    pub comm: [u8; COMM_BYTES],
}

impl TaskOffsets {
    /// See [`TaskOffsets::css_cgroup`].
    pub const UNIFIED: u32 = u32::MAX;

    /// The value of the global variable, as loaders that want plain words take it.
    #[must_use]
    pub const fn words(&self) -> [u32; 14] {
        [
            self.pid,
            self.tgid,
            self.group_leader,
            self.real_parent,
            self.start_boottime,
            self.comm,
            self.signal,
            self.nr_threads,
            self.live,
            self.cgroups,
            self.css,
            self.css_cgroup,
            self.kn,
            self.id,
        ]
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
            live: u32::from_ne_bytes(words[1]),
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

/// `bpf_iter__task` of the kernel: what a program of type `iter/task` is called with.
#[repr(C)]
#[derive(Debug)]
pub struct TaskContext {
    /// Of the walk.
    pub meta: *const WalkMeta,
    /// `task_struct`; null at the end of the walk.
    pub task: *const u8,
}

/// `bpf_iter_meta` of the kernel, its first fields.
#[repr(C)]
#[derive(Debug)]
pub struct WalkMeta {
    /// `seq_file` that the program writes to.
    pub seq: *mut c_void,
    /// Tells one walk from the next.
    pub session_id: u64,
}

/// What a program needs to make a [`TaskRecord`]: the offsets, a macro `load!` for one field, and the functions
/// `cgroup_id_at` and `record_of`.
#[cfg(target_arch = "bpf")]
#[macro_export]
macro_rules! reader_of_tasks {
    () => {
        /// Set by the loader, then frozen by the kernel.
        #[unsafe(no_mangle)]
        static TASK_OFFSETS: $crate::task::TaskOffsets = $crate::task::TaskOffsets {
            pid: 0,
            tgid: 0,
            group_leader: 0,
            real_parent: 0,
            start_boottime: 0,
            comm: 0,
            signal: 0,
            nr_threads: 0,
            live: 0,
            cgroups: 0,
            css: 0,
            css_cgroup: 0,
            kn: 0,
            id: 0,
        };

        /// An offset. Volatile: the compiler must not take the zeros above for the truth.
        macro_rules! offset {
            ($field:ident) => {
                ::core::ptr::read_volatile(&raw const TASK_OFFSETS.$field)
            };
        }

        /// The field of the struct at `$base`; `$field` names its place in [`TASK_OFFSETS`].
        /// A macro, since the verifier follows the pointers only through code that is inlined.
        macro_rules! load {
            ($base:expr, $field:ident as $type:ty) => {
                *$base.add(offset!($field) as usize).cast::<$type>()
            };
        }

        /// # Safety
        /// `cgroup` is one that the verifier knows as such.
        #[inline(always)]
        unsafe fn cgroup_id_at(cgroup: *const u8) -> u64 {
            // SAFETY: by the caller's promise; loads through pointers that the verifier tracks cannot fault.
            unsafe {
                let kn = load!(cgroup, kn as *const u8);
                load!(kn, id as u64)
            }
        }

        /// The process that `leader` leads.
        ///
        /// # Safety
        /// `leader` is a task that the verifier knows as such.
        #[inline(always)]
        unsafe fn record_of(leader: *const u8) -> $crate::task::TaskRecord {
            // SAFETY: as above; which of the two ways to the cgroup is taken is a constant when the verifier looks.
            unsafe {
                let parent = load!(leader, real_parent as *const u8);
                let signal = load!(leader, signal as *const u8);
                let cgroups = load!(leader, cgroups as *const u8);
                let css = load!(cgroups, css as *const u8);
                let cgroup = if offset!(css_cgroup) == $crate::task::TaskOffsets::UNIFIED {
                    css
                } else {
                    load!(css, css_cgroup as *const u8)
                };
                $crate::task::TaskRecord {
                    pid: load!(leader, tgid as u32),
                    live: load!(signal, live as u32),
                    ppid: load!(parent, tgid as u32),
                    nr_threads: load!(signal, nr_threads as u32),
                    start_boottime_ns: load!(leader, start_boottime as u64),
                    cgroup_id: cgroup_id_at(cgroup),
                    comm: load!(leader, comm as [u8; $crate::task::COMM_BYTES]),
                }
            }
        }
    };
}

const _: () = assert!(size_of::<TaskOffsets>() == size_of::<[u32; 14]>());
const _: () = assert!(offset_of!(TaskOffsets, id) == 52);
const _: () = assert!(TaskRecord::BYTES == 48);
const _: () = assert!(offset_of!(TaskRecord, start_boottime_ns) == 16);
const _: () = assert!(offset_of!(TaskRecord, comm) == 32);
