//! Every file that is read, and how: its tree, its name, what it is for, how often.

use std::ffi::CStr;

use super::hierarchy::Home;

/// A kind of figure, as health names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Cpu,
    Throttling,
    Memory,
    MemoryEvents,
    Swap,
    Io,
    Pids,
    Pressure,
    Limits,
}

/// The words of [`Part`], in its order.
pub(super) const PARTS: [&str; 9] =
    ["cpu", "throttling", "memory", "memory events", "swap", "io", "pids", "pressure", "limits"];

/// How often a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Every time; its descriptor is worth keeping.
    Every,
    /// Limits: people change them, not the kernel.
    Seldom,
}

/// What is needed to read a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    pub(super) home: Home,
    pub(super) name: &'static CStr,
    pub(super) part: Part,
    pub(super) pace: Pace,
}

macro_rules! files {
    ($($file:ident: $home:ident $name:literal $part:ident $pace:ident,)*) => {
        /// The files, v2's first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum File { $($file,)* }

        const SPECS: &[Spec] = &[$(Spec { home: Home::$home, name: $name, part: Part::$part, pace: Pace::$pace },)*];
    };
}

files! {
    CpuStat: V2 c"cpu.stat" Cpu Every,
    MemoryCurrent: V2 c"memory.current" Memory Every,
    MemoryStat: V2 c"memory.stat" Memory Every,
    MemoryEvents: V2 c"memory.events" MemoryEvents Every,
    MemorySwapCurrent: V2 c"memory.swap.current" Swap Every,
    IoStat: V2 c"io.stat" Io Every,
    PidsCurrent: V2 c"pids.current" Pids Every,
    CpuPressure: V2 c"cpu.pressure" Pressure Every,
    MemoryPressure: V2 c"memory.pressure" Pressure Every,
    IoPressure: V2 c"io.pressure" Pressure Every,
    CgroupEvents: V2 c"cgroup.events" Pressure Seldom,
    CpuMax: V2 c"cpu.max" Limits Seldom,
    CpuWeight: V2 c"cpu.weight" Limits Seldom,
    MemoryMax: V2 c"memory.max" Limits Seldom,
    MemoryHigh: V2 c"memory.high" Limits Seldom,
    MemoryMin: V2 c"memory.min" Limits Seldom,
    MemoryLow: V2 c"memory.low" Limits Seldom,
    PidsMax: V2 c"pids.max" Limits Seldom,
    V1CpuacctUsage: Cpuacct c"cpuacct.usage" Cpu Every,
    V1CpuacctUser: Cpuacct c"cpuacct.usage_user" Cpu Every,
    V1CpuacctSys: Cpuacct c"cpuacct.usage_sys" Cpu Every,
    V1CpuStat: Cpu c"cpu.stat" Throttling Every,
    V1MemoryUsage: Memory c"memory.usage_in_bytes" Memory Every,
    V1MemoryStat: Memory c"memory.stat" Memory Every,
    V1MemoryFailcnt: Memory c"memory.failcnt" MemoryEvents Every,
    V1MemoryOomControl: Memory c"memory.oom_control" MemoryEvents Every,
    V1BlkioBytes: Blkio c"blkio.throttle.io_service_bytes_recursive" Io Every,
    V1BlkioOperations: Blkio c"blkio.throttle.io_serviced_recursive" Io Every,
    V1PidsCurrent: Pids c"pids.current" Pids Every,
    V1CfsQuota: Cpu c"cpu.cfs_quota_us" Limits Seldom,
    V1CfsPeriod: Cpu c"cpu.cfs_period_us" Limits Seldom,
    V1CpuShares: Cpu c"cpu.shares" Limits Seldom,
    V1MemoryLimit: Memory c"memory.limit_in_bytes" Limits Seldom,
    V1PidsMax: Pids c"pids.max" Limits Seldom,
}

impl File {
    /// How many there are.
    pub(super) const COUNT: usize = SPECS.len();

    pub(super) const fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }
}
