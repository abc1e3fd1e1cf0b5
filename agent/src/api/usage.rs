//! What containers and pods use, as `GET /api/v1/pods` shows it; [`record`] is what a node forwards.
//!
//! Counters keep the kernel's names and restart with the cgroup: a reader compares `epoch` before it subtracts. Null is
//! "not known", never 0; why is in the usage source's health.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::usage as domain;
use crate::domain::usage::request::{Conversion, cores};
use crate::domain::usage::{Bound, CpuShare};

pub mod record;

/// What one cgroup uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Changes whenever the counters may have restarted.
    pub epoch: u64,
    /// CPU time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Block IO.
    pub io: Option<Io>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Pressure stall information.
    pub pressure: Pressures,
    /// Limits and requests.
    pub limits: Limits,
}

/// CPU time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cpu {
    /// All of it, us.
    pub usage_usec: u64,
    /// In user space, us.
    pub user_usec: Option<u64>,
    /// In the kernel, us.
    pub system_usec: Option<u64>,
    /// Enforcement periods of the quota.
    pub nr_periods: Option<u64>,
    /// Of these, periods in which it was throttled.
    pub nr_throttled: Option<u64>,
    /// Time throttled, us, over all CPUs.
    pub throttled_usec: Option<u64>,
    /// CPUs used between the last two readings.
    pub cores: Option<f64>,
    /// Share of the periods between the last two readings in which it was throttled, 0 to 1.
    pub throttled_ratio: Option<f64>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Memory {
    /// Everything charged.
    pub current_bytes: u64,
    /// Without inactive page cache: what the kubelet evicts by.
    pub working_set_bytes: Option<u64>,
    /// Anonymous.
    pub rss_bytes: Option<u64>,
    /// Page cache.
    pub file_bytes: Option<u64>,
    /// Swap.
    pub swap_bytes: Option<u64>,
    /// `memory.events`.
    pub events: MemoryEvents,
}

/// How often something happened since the cgroup was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryEvents {
    /// Reclaimed although below `memory.low`.
    pub low: Option<u64>,
    /// Above `memory.high`.
    pub high: Option<u64>,
    /// About to exceed the limit.
    pub max: Option<u64>,
    /// Allocations about to fail.
    pub oom: Option<u64>,
    /// Processes killed.
    pub oom_kill: Option<u64>,
}

/// Block IO, all devices together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Io {
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Read operations.
    pub rios: Option<u64>,
    /// Write operations.
    pub wios: Option<u64>,
    /// Between the last two readings.
    pub read_bytes_per_second: Option<f64>,
    /// Between the last two readings.
    pub write_bytes_per_second: Option<f64>,
    /// The first eight devices: what a stacked one does is counted again on the disks below it.
    pub devices: Vec<DeviceIo>,
}

/// Block IO on one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceIo {
    /// `MAJOR:MINOR`.
    pub device: String,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
    /// Read operations.
    pub rios: Option<u64>,
    /// Write operations.
    pub wios: Option<u64>,
}

/// Pressure on each resource; cgroup v1 has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pressures {
    /// Waiting for a CPU.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for IO.
    pub io: Option<Pressure>,
}

/// Pressure on one resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// Every task waited.
    pub full: Option<Stall>,
}

/// Shares of time, percent, and the total.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stall {
    /// Of the last 10 s, percent.
    pub avg10: f64,
    /// Of the last 60 s, percent.
    pub avg60: f64,
    /// Of the last 300 s, percent.
    pub avg300: f64,
    /// Since the cgroup was made, us.
    pub total_usec: u64,
}

/// Limits and requests; a limit that is not set is null, as one that is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// CPUs that the quota allows.
    pub cpu_cores: Option<f64>,
    /// CPUs asked for, from the weight; null where the weight's meaning is not known.
    pub cpu_request_cores: Option<f64>,
    /// v2 `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// v1 `cpu.shares`.
    pub cpu_shares: Option<u64>,
    /// `memory.max`.
    pub memory_max_bytes: Option<u64>,
    /// `memory.high`.
    pub memory_high_bytes: Option<u64>,
    /// `memory.min`.
    pub memory_min_bytes: Option<u64>,
    /// `memory.low`.
    pub memory_low_bytes: Option<u64>,
    /// `pids.max`.
    pub pids_max: Option<u64>,
}

impl Usage {
    /// With what a weight means on this node.
    pub fn new(usage: &domain::Usage, conversion: Option<Conversion>) -> Self {
        let rates = usage.rates;
        Self {
            epoch: usage.epoch,
            cpu: usage.cpu.map(|cpu| Cpu {
                usage_usec: cpu.usage_usec,
                user_usec: cpu.user_usec,
                system_usec: cpu.system_usec,
                nr_periods: cpu.throttling.map(|throttling| throttling.nr_periods),
                nr_throttled: cpu.throttling.map(|throttling| throttling.nr_throttled),
                throttled_usec: cpu.throttling.map(|throttling| throttling.throttled_usec),
                cores: rates.cpu_cores,
                throttled_ratio: rates.throttled_ratio,
            }),
            memory: usage.memory.map(Memory::from),
            io: usage.io.as_ref().map(|io| Io {
                rbytes: io.rbytes,
                wbytes: io.wbytes,
                rios: io.rios,
                wios: io.wios,
                read_bytes_per_second: rates.read_bytes_per_second,
                write_bytes_per_second: rates.write_bytes_per_second,
                devices: io.devices.iter().map(DeviceIo::from).collect(),
            }),
            pids: usage.pids,
            pressure: Pressures {
                cpu: usage.pressure.cpu.map(Pressure::from),
                memory: usage.pressure.memory.map(Pressure::from),
                io: usage.pressure.io.map(Pressure::from),
            },
            limits: Limits::new(&usage.limits, conversion),
        }
    }
}

impl From<domain::Memory> for Memory {
    fn from(memory: domain::Memory) -> Self {
        let domain::MemoryEvents { low, high, max, oom, oom_kill } = memory.events;
        Self {
            current_bytes: memory.current_bytes,
            working_set_bytes: memory.working_set_bytes,
            rss_bytes: memory.rss_bytes,
            file_bytes: memory.file_bytes,
            swap_bytes: memory.swap_bytes,
            events: MemoryEvents { low, high, max, oom, oom_kill },
        }
    }
}

impl From<&domain::DeviceIo> for DeviceIo {
    fn from(io: &domain::DeviceIo) -> Self {
        Self {
            device: format!("{}:{}", io.major, io.minor),
            rbytes: io.rbytes,
            wbytes: io.wbytes,
            rios: io.rios,
            wios: io.wios,
        }
    }
}

impl From<domain::Pressure> for Pressure {
    fn from(pressure: domain::Pressure) -> Self {
        let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
        let stall = |stall: domain::Stall| Stall {
            avg10: percent(stall.avg10_bp),
            avg60: percent(stall.avg60_bp),
            avg300: percent(stall.avg300_bp),
            total_usec: stall.total_usec,
        };
        Self { some: stall(pressure.some), full: pressure.full.map(stall) }
    }
}

impl Limits {
    fn new(limits: &domain::Limits, conversion: Option<Conversion>) -> Self {
        let (cpu_weight, cpu_shares) = match limits.cpu_share {
            Some(CpuShare::Weight(weight)) => (Some(weight), None),
            Some(CpuShare::Shares(shares)) => (None, Some(shares)),
            None => (None, None),
        };
        Self {
            cpu_cores: limits.cpu.and_then(Bound::at).map(domain::CpuQuota::cores),
            cpu_request_cores: limits.cpu_share.and_then(|share| cores(share, conversion)),
            cpu_weight,
            cpu_shares,
            memory_max_bytes: limits.memory_max.and_then(Bound::at),
            memory_high_bytes: limits.memory_high.and_then(Bound::at),
            memory_min_bytes: limits.memory_min_bytes,
            memory_low_bytes: limits.memory_low_bytes,
            pids_max: limits.pids_max.and_then(Bound::at),
        }
    }
}
