//! The task that waits longest for the sched_ext scheduler: what the loader tells the program `stall`, and what it gets
//! back.
//!
//! The program is a task iterator (section `iter/task`). Its file descriptor yields one [`Longest`].

use core::mem::offset_of;

use crate::task::TaskRecord;

/// The name of the program in the object. It also wants [`crate::task::OFFSETS`].
pub const PROGRAM: &str = "stall";
/// The name of the global variable that holds [`StallOffsets`]; all zeros until the loader sets it.
pub const OFFSETS: &str = "STALL_OFFSETS";

/// Where this kernel keeps what sched_ext's watchdog looks at: offsets in bytes in `task_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallOffsets {
    /// `task_struct.scx.runnable_node`
    pub runnable_node: u32,
    /// `task_struct.scx.runnable_at`
    pub runnable_at: u32,
}

/// What one walk found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Longest {
    /// The kernel's clock at the end of the walk.
    pub jiffies: u64,
    /// For how long the task waits.
    pub wait_jiffies: u64,
    /// Tasks that wait; 0 where nobody does, and then nothing else here means anything.
    pub waiting: u64,
    /// Its thread id, of the initial pid namespace.
    pub tid: u32,
    /// Zero.
    pub reserved: u32,
    /// The thread as [`TaskRecord`]: its process, its cgroup in the unified hierarchy, its own name.
    pub task: TaskRecord,
}

impl StallOffsets {
    /// The value of the global variable, as loaders that want plain words take it.
    #[must_use]
    pub const fn words(&self) -> [u32; 2] {
        [self.runnable_node, self.runnable_at]
    }
}

impl Longest {
    /// Size, bytes.
    pub const BYTES: usize = size_of::<Self>();

    /// Nobody.
    pub const NONE: Self = Self {
        jiffies: 0,
        wait_jiffies: 0,
        waiting: 0,
        tid: 0,
        reserved: 0,
        task: TaskRecord {
            pid: 0,
            live: 0,
            ppid: 0,
            nr_threads: 0,
            start_boottime_ns: 0,
            cgroup_id: 0,
            comm: [0; crate::task::COMM_BYTES],
        },
    };

    /// The record in the bytes that the walk wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (longs, _) = bytes.as_chunks::<8>();
        let (words, _) = bytes.as_chunks::<4>();
        let mut task = [0; TaskRecord::BYTES];
        task.copy_from_slice(bytes.split_at(offset_of!(Self, task)).1);
        Self {
            jiffies: u64::from_ne_bytes(longs[0]),
            wait_jiffies: u64::from_ne_bytes(longs[1]),
            waiting: u64::from_ne_bytes(longs[2]),
            tid: u32::from_ne_bytes(words[6]),
            reserved: u32::from_ne_bytes(words[7]),
            task: TaskRecord::from_bytes(&task),
        }
    }
}

const _: () = assert!(size_of::<StallOffsets>() == size_of::<[u32; 2]>());
const _: () = assert!(Longest::BYTES == 80);
const _: () = assert!(offset_of!(Longest, task) == 32);
