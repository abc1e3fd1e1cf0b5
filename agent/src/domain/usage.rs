//! What cgroups use: CPU, memory, IO, processes, pressure, and the limits that hold for them.
//!
//! Counters keep the kernel's names and restart with each life of a cgroup ([`Usage::epoch`]). What a kernel or a
//! controller does not give is `None`, never 0. Source of the words: the kernel's `Documentation/admin-guide/`
//! `cgroup-v2.rst`, `cgroup-v1/*.rst` and `accounting/psi.rst`.

use std::collections::HashMap;

use super::pod::{CgroupKind, Container, Pod, PodMap, Runtime};
use super::rate::{Reading, per_second};

pub mod request;
pub mod sum;

pub use sum::Tally;

/// A cgroup whose usage is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path below the cgroup root.
    pub cgroup: String,
    /// Inode of the directory in the hierarchy that the pods were walked in: a path can be given out again, this is not.
    pub cgroup_id: u64,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// All of it, us.
    pub usage_usec: u64,
    /// In user space, us.
    pub user_usec: Option<u64>,
    /// In the kernel, us.
    pub system_usec: Option<u64>,
    /// What the quota did.
    pub throttling: Option<Throttling>,
}

/// What a CPU quota did to a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Enforcement periods in which it wanted to run.
    pub nr_periods: u64,
    /// Of these, periods in which it was stopped.
    pub nr_throttled: u64,
    /// How long its CPUs' shares of it were stopped, us: two CPUs stopped for a second are two seconds.
    pub throttled_usec: u64,
}

/// Memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Everything charged, page cache and kernel memory included.
    pub current_bytes: u64,
    /// `current` without `inactive_file`, floored at 0: what the kubelet evicts by.
    pub working_set_bytes: Option<u64>,
    /// Anonymous memory.
    pub rss_bytes: Option<u64>,
    /// Page cache, tmpfs included.
    pub file_bytes: Option<u64>,
    /// Swap.
    pub swap_bytes: Option<u64>,
    /// Times that something happened; v1 tells only two of them.
    pub events: MemoryEvents,
}

/// `memory.events`, each a number of times since the cgroup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// It was reclaimed although below `memory.low`.
    pub low: Option<u64>,
    /// It was slowed down and reclaimed above `memory.high`.
    pub high: Option<u64>,
    /// It was about to exceed its limit (v1: `memory.failcnt`).
    pub max: Option<u64>,
    /// Allocations were about to fail.
    pub oom: Option<u64>,
    /// Processes killed for lack of memory.
    pub oom_kill: Option<u64>,
}

impl MemoryEvents {
    /// The kernel's word for each.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        let Self { low, high, max, oom, oom_kill } = *self;
        [("low", low), ("high", high), ("max", max), ("oom", oom), ("oom_kill", oom_kill)].into_iter()
    }
}

/// Block IO, all devices together.
///
/// A bio on a stacked device (device-mapper, RAID) is counted there and again on the disks below it: [`Io::devices`]
/// tells them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Read operations; v1 keeps them in another file.
    pub rios: Option<u64>,
    /// Write operations.
    pub wios: Option<u64>,
    /// The first devices in the kernel's order.
    pub devices: Vec<DeviceIo>,
}

/// Block IO on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Read operations.
    pub rios: Option<u64>,
    /// Write operations.
    pub wios: Option<u64>,
}

/// Pressure on one resource: how long tasks waited for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks that had something to do waited; kernels before 5.13 have no such line for the CPU.
    pub full: Option<Stall>,
}

/// One line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// Share of the last 10 s, hundredths of a percent.
    pub avg10_bp: u32,
    /// Share of the last 60 s, hundredths of a percent.
    pub avg60_bp: u32,
    /// Share of the last 300 s, hundredths of a percent.
    pub avg300_bp: u32,
    /// Since the cgroup was made, us.
    pub total_usec: u64,
}

/// Pressure on each resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    /// Waiting for a CPU.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for IO.
    pub io: Option<Pressure>,
}

/// What a cgroup may use, and what it asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU quota per period.
    pub cpu: Option<Bound<CpuQuota>>,
    /// Share of contended CPUs.
    pub cpu_share: Option<CpuShare>,
    /// Memory, hard.
    pub memory_max: Option<Bound<u64>>,
    /// Memory, slowed down above it.
    pub memory_high: Option<Bound<u64>>,
    /// Memory that is not reclaimed.
    pub memory_min_bytes: Option<u64>,
    /// Memory that is reclaimed last.
    pub memory_low_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<Bound<u64>>,
}

/// A limit that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound<T> {
    /// There is none.
    Unlimited,
    /// This much.
    At(T),
}

impl<T> Bound<T> {
    /// The limit, if there is one.
    pub fn at(self) -> Option<T> {
        match self {
            Self::Unlimited => None,
            Self::At(limit) => Some(limit),
        }
    }
}

/// A CPU quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Time per period, us.
    pub quota_usec: u64,
    /// The period, us; never 0.
    pub period_usec: u64,
}

impl CpuQuota {
    /// In CPUs.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of a period fit 53 bits")]
    pub fn cores(self) -> f64 {
        self.quota_usec as f64 / self.period_usec as f64
    }
}

/// A cgroup's weight against its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuShare {
    /// v1 `cpu.shares`, 2 to 262144.
    Shares(u64),
    /// v2 `cpu.weight`, 1 to 10000.
    Weight(u64),
}

/// Between the last two readings of one life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// CPUs used.
    pub cpu_cores: Option<f64>,
    /// Share of the periods in which it was throttled, 0 to 1; none where there was no period.
    pub throttled_ratio: Option<f64>,
    /// Bytes read per second.
    pub read_bytes_per_second: Option<f64>,
    /// Bytes written per second.
    pub write_bytes_per_second: Option<f64>,
}

/// What one cgroup used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Which life of the cgroup: changes whenever its counters may have restarted.
    pub epoch: u64,
    /// Monotonic time of the reading, ns.
    pub mono_ns: u64,
    /// CPU.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// IO.
    pub io: Option<Io>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Pressure.
    pub pressure: Pressures,
    /// Limits.
    pub limits: Limits,
    /// Rates.
    pub rates: Rates,
}

impl Usage {
    /// Rates from the reading before; none where the lives differ or a counter went backwards.
    pub fn rates_since(&self, before: &Self) -> Rates {
        let rate = |counter: &dyn Fn(&Self) -> Option<u64>| {
            let reading = |usage: &Self| {
                Some(Reading { epoch: usage.epoch, value: counter(usage)?, at_ns: usage.mono_ns })
            };
            per_second(reading(before)?, reading(self)?)
        };
        Rates {
            cpu_cores: rate(&|usage| Some(usage.cpu?.usage_usec)).map(|usec| usec / 1e6),
            throttled_ratio: self.throttled_since(before),
            read_bytes_per_second: rate(&|usage| Some(usage.io.as_ref()?.rbytes)),
            write_bytes_per_second: rate(&|usage| Some(usage.io.as_ref()?.wbytes)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share for people; 53 bits of it are enough")]
    fn throttled_since(&self, before: &Self) -> Option<f64> {
        let (now, then) = (self.cpu?.throttling?, before.cpu?.throttling?);
        let periods = now.nr_periods.checked_sub(then.nr_periods)?;
        let throttled = now.nr_throttled.checked_sub(then.nr_throttled)?;
        (self.epoch == before.epoch && periods > 0 && throttled <= periods)
            .then(|| throttled as f64 / periods as f64)
    }
}

/// The usage of all cgroups at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageMap {
    /// Wall time, ns since the epoch; 0 before the first collection.
    pub at_ns: i64,
    /// By [`Target::cgroup_id`].
    pub groups: HashMap<u64, Usage>,
    /// What a `cpu.weight` means on this node, where that is known.
    pub conversion: Option<request::Conversion>,
}

impl UsageMap {
    /// A container's own.
    pub fn container(&self, container: &Container) -> Option<&Usage> {
        self.groups.get(&container.cgroup_id)
    }

    /// A pod's: its own cgroup's where it has one (the pause process and tmpfs volumes included), else the sum of its
    /// containers. It is throttled as much as the most throttled of these: quotas are containers' own.
    pub fn pod(&self, pod: &Pod) -> Option<Usage> {
        let containers: Vec<_> =
            pod.containers.iter().filter_map(|container| self.container(container)).collect();
        let own = pod.group.as_ref().and_then(|group| self.groups.get(&group.cgroup_id));
        let mut usage = own.cloned().or_else(|| sum::of(&containers))?;
        let ratios = containers.iter().filter_map(|usage| usage.rates.throttled_ratio);
        usage.rates.throttled_ratio = ratios.chain(usage.rates.throttled_ratio).max_by(f64::total_cmp);
        Some(usage)
    }
}

/// The cgroups worth reading: containers and pod levels, and containers outside Kubernetes.
///
/// Not the sandboxes: the pause process uses nothing, and the pod level counts it. Kata's is the virtual machine.
pub fn targets(map: &PodMap) -> Vec<Target> {
    let wanted = |container: &&Container| match container.kind {
        CgroupKind::Container | CgroupKind::NestedService | CgroupKind::KataOverhead => true,
        CgroupKind::Sandbox => container.runtime == Some(Runtime::Kata),
        CgroupKind::Pod | CgroupKind::Conmon | CgroupKind::None => false,
    };
    let of_container =
        |container: &Container| Target { cgroup: container.cgroup.clone(), cgroup_id: container.cgroup_id };
    let pods = map.pods.iter().flat_map(|pod| {
        let level = pod.group.iter();
        let level = level.map(|group| Target { cgroup: group.cgroup.clone(), cgroup_id: group.cgroup_id });
        level.chain(pod.containers.iter().filter(wanted).map(of_container))
    });
    pods.chain(map.host.containers.iter().filter(wanted).map(of_container)).collect()
}

#[cfg(test)]
mod tests;
