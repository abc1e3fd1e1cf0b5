//! What is read of a group, and what it means: the same figures from v2's files or from v1's.
//!
//! On hybrid hosts a controller's v1 tree is believed where the group is in it, and v2 gives the rest: a v1 controller
//! has no files in v2. Pressure is v2's only.

use super::files::{File, Part};
use super::group::{Gone, Reader, Why};
use super::hierarchy::Home;
use super::parse::{self, MemoryStat};
use crate::domain::usage::{Cpu, CpuShare, Io, Memory, MemoryEvents, Pressures, Usage};

impl Reader<'_, '_> {
    /// Every part.
    pub(super) fn everything(&mut self, mono_ns: u64) -> Result<Usage, Gone> {
        if self.seldom {
            self.read_limits()?;
        }
        Ok(Usage {
            epoch: self.epoch(),
            mono_ns,
            cpu: self.cpu()?,
            memory: if self.is_in(Home::Memory) { self.memory_v1()? } else { self.memory_v2()? },
            io: if self.is_in(Home::Blkio) {
                self.io_v1()?
            } else {
                self.file(File::IoStat, parse::io_stat)?
            },
            pids: if self.is_in(Home::Pids) {
                self.file(File::V1PidsCurrent, parse::number)?
            } else {
                self.file(File::PidsCurrent, parse::number)?
            },
            pressure: self.pressure()?,
            limits: *self.limits(),
            ..Usage::default()
        })
    }

    fn cpu(&mut self) -> Result<Option<Cpu>, Gone> {
        let v1_throttling = if self.is_in(Home::Cpu) {
            let stat = self.file(File::V1CpuStat, parse::cpu_stat)?;
            stat.and_then(|stat| stat.throttling)
        } else {
            None
        };
        if self.is_in(Home::Cpuacct) {
            let Some(usage_ns) = self.file(File::V1CpuacctUsage, parse::number)? else { return Ok(None) };
            let user_ns = self.file(File::V1CpuacctUser, parse::number)?;
            let system_ns = self.file(File::V1CpuacctSys, parse::number)?;
            return Ok(Some(Cpu {
                usage_usec: usage_ns / 1_000,
                user_usec: user_ns.map(|ns| ns / 1_000),
                system_usec: system_ns.map(|ns| ns / 1_000),
                throttling: v1_throttling,
            }));
        }
        let stat = self.file(File::CpuStat, parse::cpu_stat)?;
        let Some((stat, usage_usec)) = stat.and_then(|stat| Some((stat, stat.usage_usec?))) else {
            return Ok(None);
        };
        let throttling = v1_throttling.or(stat.throttling);
        if throttling.is_none() {
            self.lack(Part::Throttling, Why::NoFile);
        }
        Ok(Some(Cpu { usage_usec, user_usec: stat.user_usec, system_usec: stat.system_usec, throttling }))
    }

    fn memory_v2(&mut self) -> Result<Option<Memory>, Gone> {
        let Some(current_bytes) = self.file(File::MemoryCurrent, parse::number)? else { return Ok(None) };
        let stat = self.file(File::MemoryStat, parse::memory_stat_v2)?;
        let swap_bytes = self.file(File::MemorySwapCurrent, parse::number)?;
        let events = self.file(File::MemoryEvents, parse::memory_events)?.unwrap_or_default();
        Ok(Some(memory(current_bytes, stat, swap_bytes, events)))
    }

    fn memory_v1(&mut self) -> Result<Option<Memory>, Gone> {
        let Some(current_bytes) = self.file(File::V1MemoryUsage, parse::number)? else { return Ok(None) };
        let stat = self.file(File::V1MemoryStat, parse::memory_stat_v1)?;
        let max = self.file(File::V1MemoryFailcnt, parse::number)?;
        let oom_kill = self.file(File::V1MemoryOomControl, |file| parse::word(file, b"oom_kill"))?;
        let swap_bytes = stat.and_then(|stat| stat.swap);
        if stat.is_some() && swap_bytes.is_none() {
            self.lack(Part::Swap, Why::NoFile);
        }
        let events = MemoryEvents { max, oom_kill, ..MemoryEvents::default() };
        self.lack(Part::MemoryEvents, Why::V1);
        Ok(Some(memory(current_bytes, stat, swap_bytes, events)))
    }

    fn io_v1(&mut self) -> Result<Option<Io>, Gone> {
        let Some(mut io) = self.file(File::V1BlkioBytes, parse::blkio_bytes)? else { return Ok(None) };
        self.file(File::V1BlkioOperations, |file| parse::blkio_operations(file, &mut io))?;
        Ok(Some(io))
    }

    fn pressure(&mut self) -> Result<Pressures, Gone> {
        if !self.is_in(Home::V2) {
            let why = if self.host_has(Home::V2) { Why::Unpopulated } else { Why::V1 };
            self.lack(Part::Pressure, why);
            return Ok(Pressures::default());
        }
        // Where v1 has the group too its processes may be in v1's only: v2 would say that they never waited.
        if self.is_in(Home::Cpuacct) && self.seldom {
            let populated = self.file(File::CgroupEvents, |file| parse::word(file, b"populated"))?;
            *self.populated() = populated == Some(1);
        }
        if !*self.populated() {
            self.lack(Part::Pressure, Why::Unpopulated);
            return Ok(Pressures::default());
        }
        Ok(Pressures {
            cpu: self.file(File::CpuPressure, parse::pressure)?,
            memory: self.file(File::MemoryPressure, parse::pressure)?,
            io: self.file(File::IoPressure, parse::pressure)?,
        })
    }

    fn read_limits(&mut self) -> Result<(), Gone> {
        let mut limits = *self.limits();
        if self.is_in(Home::Cpu) {
            let period_usec = self.file(File::V1CfsPeriod, parse::number)?.unwrap_or(0);
            limits.cpu = self.file(File::V1CfsQuota, |file| parse::cfs_quota(file, period_usec))?;
            limits.cpu_share = self.file(File::V1CpuShares, parse::number)?.map(CpuShare::Shares);
        } else {
            limits.cpu = self.file(File::CpuMax, parse::cpu_max)?;
            limits.cpu_share = self.file(File::CpuWeight, parse::number)?.map(CpuShare::Weight);
        }
        if self.is_in(Home::Memory) {
            limits.memory_max = self.file(File::V1MemoryLimit, parse::limit_v1)?;
        } else {
            limits.memory_max = self.file(File::MemoryMax, parse::limit)?;
            limits.memory_high = self.file(File::MemoryHigh, parse::limit)?;
            limits.memory_min_bytes = self.file(File::MemoryMin, parse::number)?;
            limits.memory_low_bytes = self.file(File::MemoryLow, parse::number)?;
        }
        limits.pids_max = if self.is_in(Home::Pids) {
            self.file(File::V1PidsMax, parse::limit)?
        } else {
            self.file(File::PidsMax, parse::limit)?
        };
        *self.limits() = limits;
        Ok(())
    }
}

fn memory(
    current_bytes: u64,
    stat: Option<MemoryStat>,
    swap_bytes: Option<u64>,
    events: MemoryEvents,
) -> Memory {
    Memory {
        current_bytes,
        // The two files are read one after the other: the second may say more than the first.
        working_set_bytes: stat.map(|stat| current_bytes.saturating_sub(stat.inactive_file)),
        rss_bytes: stat.map(|stat| stat.anon),
        file_bytes: stat.map(|stat| stat.file),
        swap_bytes,
        events,
    }
}
