//! What happens on the run queues: what the loader tells the program, and what it finds in the maps.
//!
//! The program hangs on `sched_switch` alone. Everything else it takes from the kernel's own scheduling statistics
//! (`task_struct.sched_info`), which the kernel keeps for every class, sched_ext included: when a task was put on a run
//! queue, and how long it has waited in all. A wait is what that total has grown by between two arrivals on a CPU, so
//! a wait that is spread over several run queues is one wait, and the sum of all waits is `/proc/PID/schedstat`'s.

use core::mem::offset_of;

/// The name of the program in the object: a tracepoint of type `tp_btf/sched_switch`.
pub const PROGRAM: &str = "sched_switch";
/// The global variable that holds [`Settings`].
pub const SETTINGS: &str = "SETTINGS";
/// The global variable that holds one [`CpuPlace`] per CPU.
pub const CPU_PLACES: &str = "CPU_PLACES";
/// The map from cgroup id to [`CgroupStats`], per CPU.
pub const CGROUPS: &str = "CGROUPS";
/// The map from [`Pair`] to [`Blame`].
pub const BLAMES: &str = "BLAMES";
/// The map from thread id to what the program remembers of the thread; the loader only sets its size.
pub const THREADS: &str = "THREADS";
/// The per-CPU array of [`LOSSES`] counters, by [`Loss`].
pub const LOST: &str = "LOST";

/// Slots of a histogram: slot `n` counts waits of at least `2^n` ns and less than twice that; the first also those
/// of 0 ns, the last (34 s and more) everything above. The longest stall timeout that the kernel allows is 30 s.
pub const SLOTS: usize = 36;
/// CPUs that can be placed; more are counted without saying how far a migration went.
pub const CPUS: usize = 1024;
/// The id under which tasks of cgroups are counted that found no room in [`CGROUPS`]. No cgroup has it.
pub const BEYOND: u64 = 0;
/// The runner of a [`Pair`] when the CPU was idle. No cgroup has it.
pub const IDLE: u64 = 0;
/// [`CgroupStats::longest_wait_ns`] covers the running window and the one before it; windows are this long, as a
/// power of two of ns: 8.6 s.
pub const WINDOW_BITS: u32 = 33;

/// Where this kernel keeps the fields that the program reads, offsets in bytes, and the loader's choices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `task_struct.pid`
    pub pid: u32,
    /// `task_struct.cgroups`
    pub cgroups: u32,
    /// `task_struct.sched_info.pcount`
    pub pcount: u32,
    /// `task_struct.sched_info.run_delay`
    pub run_delay: u32,
    /// `task_struct.sched_info.last_arrival`
    pub last_arrival: u32,
    /// `task_struct.sched_info.last_queued`
    pub last_queued: u32,
    /// `task_struct.se.sum_exec_runtime`
    pub sum_exec_runtime: u32,
    /// `task_struct.se.cfs_rq`
    pub cfs_rq: u32,
    /// `cfs_rq.rq`
    pub rq: u32,
    /// `rq.clock`
    pub clock: u32,
    /// In `css_set`: `dfl_cgrp` for the unified hierarchy, or one element of `subsys` for a legacy one.
    pub css: u32,
    /// `cgroup_subsys_state.cgroup`, where `css` leads to a subsystem's state; [`Settings::UNIFIED`] where it leads to
    /// the cgroup.
    pub css_cgroup: u32,
    /// `cgroup.kn`
    pub kn: u32,
    /// `kernfs_node.id`
    pub id: u32,
    /// Waits shorter than this are not blamed on anybody, ns.
    pub blame_from_ns: u32,
    /// `task_struct.__state`, `state` before 5.14.
    pub state: u32,
}

impl Settings {
    /// See [`Settings::css_cgroup`].
    pub const UNIFIED: u32 = u32::MAX;

    /// The value of the global variable, as loaders that want plain words take it.
    #[must_use]
    pub const fn words(&self) -> [u32; 16] {
        [
            self.pid,
            self.cgroups,
            self.pcount,
            self.run_delay,
            self.last_arrival,
            self.last_queued,
            self.sum_exec_runtime,
            self.cfs_rq,
            self.rq,
            self.clock,
            self.css,
            self.css_cgroup,
            self.kn,
            self.id,
            self.blame_from_ns,
            self.state,
        ]
    }
}

/// Where a CPU is: numbers that are equal for CPUs that share the thing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuPlace {
    /// Core: hardware threads share it.
    pub core: u16,
    /// Last-level cache.
    pub llc: u16,
    /// NUMA node.
    pub node: u16,
    /// Always 0.
    pub reserved: u16,
}

/// How far a task moved when it was next put on a CPU: indexes of [`CgroupStats::migrations`].
#[repr(usize)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// To another hardware thread of the same core.
    Core = 0,
    /// To another core that shares the last-level cache.
    Llc = 1,
    /// To another last-level cache of the same NUMA node.
    Node = 2,
    /// To another NUMA node.
    Far = 3,
}

/// What happened to the tasks of one cgroup, on one CPU. Stints count when they end, and so do the waits before them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupStats {
    /// Waits by length; their sum is the number of times that a task was put on the CPU.
    pub waits: [u64; SLOTS],
    /// All waits together.
    pub wait_ns: u64,
    /// Time on the CPU.
    pub on_cpu_ns: u64,
    /// Time neither on a CPU nor waiting for one.
    pub blocked_ns: u64,
    /// Stints that ended because the task had to wait for something.
    pub voluntary_switches: u64,
    /// Stints that ended though the task could have gone on.
    pub involuntary_switches: u64,
    /// Stints on another CPU than the one before, by [`Distance`].
    pub migrations: [u64; 4],
    /// The longest wait of the window `longest_wait_window`, and of the one before it.
    pub longest_wait_ns: [u64; 2],
    /// The window of the first of them: the kernel's scheduler clock, divided by `2^WINDOW_BITS`.
    pub longest_wait_window: u64,
}

impl CgroupStats {
    /// Size of the value on one CPU, bytes.
    pub const BYTES: usize = size_of::<Self>();
    /// Nothing happened.
    pub const NONE: Self = Self {
        waits: [0; SLOTS],
        wait_ns: 0,
        on_cpu_ns: 0,
        blocked_ns: 0,
        voluntary_switches: 0,
        involuntary_switches: 0,
        migrations: [0; 4],
        longest_wait_ns: [0; 2],
        longest_wait_window: 0,
    };

    /// The value in the words that the kernel gave.
    #[must_use]
    pub fn from_words(words: &[u64; Self::BYTES / 8]) -> Self {
        let (waits, rest) = words.split_at(SLOTS);
        let mut stats = Self::NONE;
        stats.waits.copy_from_slice(waits);
        stats.wait_ns = rest[0];
        stats.on_cpu_ns = rest[1];
        stats.blocked_ns = rest[2];
        stats.voluntary_switches = rest[3];
        stats.involuntary_switches = rest[4];
        stats.migrations.copy_from_slice(&rest[5..9]);
        stats.longest_wait_ns.copy_from_slice(&rest[9..11]);
        stats.longest_wait_window = rest[11];
        stats
    }
}

/// Who waited, and who had the CPU meanwhile: cgroup ids.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The cgroup of the task that waited.
    pub waiter: u64,
    /// The cgroup of the task that ran on the CPU which the waiter got in the end; [`IDLE`] if none did.
    pub runner: u64,
}

/// How much of a cgroup's waiting went by while another one ran.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// Time.
    pub wait_ns: u64,
    /// Stints of the runner during it.
    pub stints: u64,
}

/// Indexes of [`LOST`]: what could not be counted as it should.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Stints of cgroups that found no room in [`CGROUPS`]; counted under [`BEYOND`].
    Cgroups = 0,
    /// Threads that found no room in [`THREADS`]: their wait counts from the last run queue that they were put on.
    Threads = 1,
    /// Blames that found no room in [`BLAMES`].
    Blames = 2,
    /// Stints that ended without our having seen them begin, the first on each CPU aside: a switch was missed.
    Stints = 3,
}

/// Number of [`Loss`] kinds.
pub const LOSSES: u32 = 4;

const _: () = assert!(size_of::<Settings>() == size_of::<[u32; 16]>());
const _: () = assert!(offset_of!(Settings, blame_from_ns) == 56);
const _: () = assert!(size_of::<CpuPlace>() == 8);
const _: () = assert!(CgroupStats::BYTES == (SLOTS + 12) * 8);
const _: () = assert!(offset_of!(CgroupStats, migrations) == (SLOTS + 5) * 8);
const _: () = assert!(offset_of!(CgroupStats, longest_wait_window) == (SLOTS + 11) * 8);
const _: () = assert!(size_of::<Pair>() == 16 && size_of::<Blame>() == 16);
