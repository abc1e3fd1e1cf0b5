//! What cgroup files say, decoded. Pure: bytes in, values out, nothing allocated but a list of devices.
//!
//! Formats: the kernel's `Documentation/admin-guide/cgroup-v2.rst` ("flat keyed", "nested keyed", single values), its
//! `cgroup-v1/{memory,blkio-controller,cpuacct}.rst` and `accounting/psi.rst`. A file without the words that make it what
//! it is gives `None`: malformed. Words of newer kernels are passed over.

use crate::domain::usage::{Bound, CpuQuota, DeviceIo, Io, MemoryEvents, Pressure, Stall, Throttling};

/// Devices kept of one cgroup; the sums hold all of them. A container writes to a disk or two.
pub const MAX_DEVICES: usize = 8;

/// v1 writes "no limit" as the greatest number of whole pages below 2^63; pages are 64 KiB at most.
const V1_UNLIMITED_BYTES: u64 = (1 << 63) - (64 << 10);

/// v1 and v2 `cpu.stat`; the first three are v2's only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// us.
    pub usage_usec: Option<u64>,
    /// us.
    pub user_usec: Option<u64>,
    /// us.
    pub system_usec: Option<u64>,
    /// Only where the cpu controller is enabled for the group.
    pub throttling: Option<Throttling>,
}

/// `cpu.stat` of either version.
pub fn cpu_stat(file: &[u8]) -> Option<CpuStat> {
    let mut stat = CpuStat::default();
    let (mut periods, mut throttled, mut throttled_usec) = (None, None, None);
    for (key, value) in flat_keyed(file) {
        match key {
            b"usage_usec" => stat.usage_usec = Some(value),
            b"user_usec" => stat.user_usec = Some(value),
            b"system_usec" => stat.system_usec = Some(value),
            b"nr_periods" => periods = Some(value),
            b"nr_throttled" => throttled = Some(value),
            b"throttled_usec" => throttled_usec = Some(value),
            // v1, ns.
            b"throttled_time" => throttled_usec = Some(value / 1_000),
            _ => {}
        }
    }
    if let (Some(nr_periods), Some(nr_throttled), Some(throttled_usec)) = (periods, throttled, throttled_usec)
    {
        stat.throttling = Some(Throttling { nr_periods, nr_throttled, throttled_usec });
    }
    (stat.usage_usec.is_some() || stat.throttling.is_some()).then_some(stat)
}

/// What is taken from `memory.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStat {
    /// v2 `anon`, v1 `total_rss`.
    pub anon: u64,
    /// v2 `file`, v1 `total_cache`.
    pub file: u64,
    /// v2 `inactive_file`, v1 `total_inactive_file`.
    pub inactive_file: u64,
    /// v1 `total_swap`; v2 has a file for it.
    pub swap: Option<u64>,
}

/// v2 `memory.stat`.
pub fn memory_stat_v2(file: &[u8]) -> Option<MemoryStat> {
    let (mut anon, mut cache, mut inactive) = (None, None, None);
    for (key, value) in flat_keyed(file) {
        match key {
            b"anon" => anon = Some(value),
            b"file" => cache = Some(value),
            b"inactive_file" => {
                inactive = Some(value);
                // The last of the three: two thirds of the file follow.
                break;
            }
            _ => {}
        }
    }
    Some(MemoryStat { anon: anon?, file: cache?, inactive_file: inactive?, swap: None })
}

/// v1 `memory.stat`: the `total_` words, which hold the groups below it too.
pub fn memory_stat_v1(file: &[u8]) -> Option<MemoryStat> {
    let (mut anon, mut cache, mut inactive, mut swap) = (None, None, None, None);
    for (key, value) in flat_keyed(file) {
        match key {
            b"total_rss" => anon = Some(value),
            b"total_cache" => cache = Some(value),
            b"total_inactive_file" => inactive = Some(value),
            b"total_swap" => swap = Some(value),
            _ => {}
        }
    }
    Some(MemoryStat { anon: anon?, file: cache?, inactive_file: inactive?, swap })
}

/// v2 `memory.events`.
pub fn memory_events(file: &[u8]) -> Option<MemoryEvents> {
    let mut events = MemoryEvents::default();
    for (key, value) in flat_keyed(file) {
        match key {
            b"low" => events.low = Some(value),
            b"high" => events.high = Some(value),
            b"max" => events.max = Some(value),
            b"oom" => events.oom = Some(value),
            b"oom_kill" => events.oom_kill = Some(value),
            _ => {}
        }
    }
    (events != MemoryEvents::default()).then_some(events)
}

/// The number behind a word of a flat keyed file (`oom_kill` of v1's `memory.oom_control`, `populated` of `cgroup.events`).
pub fn word(file: &[u8], wanted: &[u8]) -> Option<u64> {
    flat_keyed(file).find(|(key, _)| *key == wanted).map(|(_, value)| value)
}

/// v2 `io.stat`: a line per device, `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`; devices without IO have none.
pub fn io_stat(file: &[u8]) -> Option<Io> {
    let mut io = Io { rios: Some(0), wios: Some(0), ..Io::default() };
    for line in lines(file) {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (major, minor) = device(words.next()?)?;
        let mut one = DeviceIo { major, minor, rios: Some(0), wios: Some(0), ..DeviceIo::default() };
        for word in words {
            let Some(at) = word.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = (&word[..at], &word[at + 1..]);
            match key {
                b"rbytes" => one.rbytes = decimal(value)?,
                b"wbytes" => one.wbytes = decimal(value)?,
                b"rios" => one.rios = Some(decimal(value)?),
                b"wios" => one.wios = Some(decimal(value)?),
                _ => {}
            }
        }
        io.rbytes = io.rbytes.saturating_add(one.rbytes);
        io.wbytes = io.wbytes.saturating_add(one.wbytes);
        io.rios = plus(io.rios, one.rios);
        io.wios = plus(io.wios, one.wios);
        if io.devices.len() < MAX_DEVICES {
            io.devices.push(one);
        }
    }
    Some(io)
}

/// v1 `blkio.throttle.io_service_bytes_recursive`: lines `8:0 Read 1`, `8:0 Write 2` and others, then `Total 3`.
pub fn blkio_bytes(file: &[u8]) -> Option<Io> {
    let mut io = Io::default();
    blkio(file, |major, minor, write, value| {
        let sum = if write { &mut io.wbytes } else { &mut io.rbytes };
        *sum = sum.saturating_add(value);
        let known = io.devices.iter().position(|one| (one.major, one.minor) == (major, minor));
        let at = known.or_else(|| {
            (io.devices.len() < MAX_DEVICES).then(|| {
                io.devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
                io.devices.len() - 1
            })
        });
        if let Some(at) = at {
            *(if write { &mut io.devices[at].wbytes } else { &mut io.devices[at].rbytes }) = value;
        }
    })?;
    Some(io)
}

/// v1 `blkio.throttle.io_serviced_recursive`, the operations: put into what [`blkio_bytes`] gave.
pub fn blkio_operations(file: &[u8], io: &mut Io) -> Option<()> {
    let (mut reads, mut writes) = (0_u64, 0_u64);
    let devices = &mut io.devices;
    blkio(file, |major, minor, write, value| {
        let sum = if write { &mut writes } else { &mut reads };
        *sum = sum.saturating_add(value);
        if let Some(one) = devices.iter_mut().find(|one| (one.major, one.minor) == (major, minor)) {
            *(if write { &mut one.wios } else { &mut one.rios }) = Some(value);
        }
    })?;
    (io.rios, io.wios) = (Some(reads), Some(writes));
    Some(())
}

fn blkio(file: &[u8], mut found: impl FnMut(u32, u32, bool, u64)) -> Option<()> {
    let mut total = false;
    for line in lines(file) {
        let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        match (words.next()?, words.next()?, words.next()) {
            (b"Total", ..) => total = true,
            (at, b"Read", Some(value)) => {
                let (major, minor) = device(at)?;
                found(major, minor, false, decimal(value)?);
            }
            (at, b"Write", Some(value)) => {
                let (major, minor) = device(at)?;
                found(major, minor, true, decimal(value)?);
            }
            _ => {}
        }
    }
    // The kernel ends the file with it, devices or not.
    total.then_some(())
}

/// A pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then perhaps the same with `full`.
pub fn pressure(file: &[u8]) -> Option<Pressure> {
    let (mut some, mut full) = (None, None);
    for line in lines(file) {
        let mut words = line.split(|byte| *byte == b' ');
        let kind = words.next()?;
        let (mut avg10, mut avg60, mut avg300, mut total) = (None, None, None, None);
        for word in words {
            let at = word.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&word[..at], &word[at + 1..]);
            match key {
                b"avg10" => avg10 = hundredths(value),
                b"avg60" => avg60 = hundredths(value),
                b"avg300" => avg300 = hundredths(value),
                b"total" => total = decimal(value),
                _ => {}
            }
        }
        let stall = Stall { avg10_bp: avg10?, avg60_bp: avg60?, avg300_bp: avg300?, total_usec: total? };
        match kind {
            b"some" => some = Some(stall),
            b"full" => full = Some(stall),
            _ => {}
        }
    }
    Some(Pressure { some: some?, full })
}

/// `cpu.max`: `max 100000` or `50000 100000`, us.
pub fn cpu_max(file: &[u8]) -> Option<Bound<CpuQuota>> {
    let mut words = lines(file).next()?.split(|byte| *byte == b' ');
    let quota = words.next()?;
    let period_usec = decimal(words.next()?).filter(|period| *period > 0)?;
    if quota == b"max" {
        return Some(Bound::Unlimited);
    }
    Some(Bound::At(CpuQuota { quota_usec: decimal(quota)?, period_usec }))
}

/// v1 `cpu.cfs_quota_us` (-1: none) with `cpu.cfs_period_us`.
pub fn cfs_quota(quota: &[u8], period_usec: u64) -> Option<Bound<CpuQuota>> {
    let quota = lines(quota).next()?;
    if quota.starts_with(b"-") {
        return Some(Bound::Unlimited);
    }
    let quota_usec = decimal(quota)?;
    (period_usec > 0).then_some(Bound::At(CpuQuota { quota_usec, period_usec }))
}

/// A file of one number.
pub fn number(file: &[u8]) -> Option<u64> {
    let mut lines = lines(file);
    let number = decimal(lines.next()?)?;
    lines.next().is_none().then_some(number)
}

/// A file of one number or `max`.
pub fn limit(file: &[u8]) -> Option<Bound<u64>> {
    if lines(file).next()? == b"max" { Some(Bound::Unlimited) } else { number(file).map(Bound::At) }
}

/// v1 `memory.limit_in_bytes`.
pub fn limit_v1(file: &[u8]) -> Option<Bound<u64>> {
    let bytes = number(file)?;
    Some(if bytes >= V1_UNLIMITED_BYTES { Bound::Unlimited } else { Bound::At(bytes) })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Lines `key number`; others are passed over.
fn flat_keyed(file: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(file).filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        Some((&line[..at], decimal(&line[at + 1..])?))
    })
}

fn device(text: &[u8]) -> Option<(u32, u32)> {
    let at = text.iter().position(|byte| *byte == b':')?;
    let part = |text| decimal(text).and_then(|number| u32::try_from(number).ok());
    Some((part(&text[..at])?, part(&text[at + 1..])?))
}

/// Digits only, and no more than 64 bits.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// `12.34` as 1234; the kernel always writes two places.
fn hundredths(text: &[u8]) -> Option<u32> {
    let at = text.iter().position(|byte| *byte == b'.')?;
    let (whole, places) = (decimal(&text[..at])?, decimal(&text[at + 1..])?);
    (text.len() - at == 3).then_some(())?;
    u32::try_from(whole.checked_mul(100)?.checked_add(places)?).ok()
}

const fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
