//! Sums over cgroups: a pod's from its containers', and what pods without series of their own use together.

use super::{Bound, Cpu, Io, Limits, Memory, MemoryEvents, Rates, Throttling, Usage};

/// The sum of several cgroups; `None` of none.
///
/// A part that one of them lacks is `None`: a sum without it would be too small. So is the memory limit where one has
/// none. Pressure and the other limits have no sum.
pub fn of(usages: &[&Usage]) -> Option<Usage> {
    let rate =
        |part: fn(&Rates) -> Option<f64>| usages.iter().map(|usage| part(&usage.rates)).sum::<Option<f64>>();
    let limit = |usage: &&Usage| usage.limits.memory_max.and_then(Bound::at);
    Some(Usage {
        // Another set of cgroups, or another life of one of them, is another life of the sum.
        epoch: usages.iter().fold(0, |epoch: u64, usage| epoch.rotate_left(7) ^ usage.epoch),
        mono_ns: usages.iter().map(|usage| usage.mono_ns).max()?,
        cpu: usages.iter().try_fold(Cpu::ZERO, |sum, usage| Some(cpu(sum, usage.cpu?))),
        memory: usages.iter().try_fold(Memory::ZERO, |sum, usage| Some(memory(sum, usage.memory?))),
        io: usages.iter().try_fold(Io::ZERO, |sum, usage| Some(io(&sum, usage.io.as_ref()?))),
        pids: usages.iter().try_fold(0, |sum, usage| add(Some(sum), usage.pids)),
        limits: Limits {
            memory_max: usages.iter().try_fold(0, |sum, usage| add(Some(sum), limit(usage))).map(Bound::At),
            ..Limits::default()
        },
        rates: Rates {
            cpu_cores: rate(|rates| rates.cpu_cores),
            throttled_ratio: None,
            read_bytes_per_second: rate(|rates| rates.read_bytes_per_second),
            write_bytes_per_second: rate(|rates| rates.write_bytes_per_second),
        },
        ..Usage::default()
    })
}

impl Cpu {
    const ZERO: Self = Self {
        usage_usec: 0,
        user_usec: Some(0),
        system_usec: Some(0),
        throttling: Some(Throttling { nr_periods: 0, nr_throttled: 0, throttled_usec: 0 }),
    };
}

impl Memory {
    const ZERO: Self = Self {
        current_bytes: 0,
        working_set_bytes: Some(0),
        rss_bytes: Some(0),
        file_bytes: Some(0),
        swap_bytes: Some(0),
        events: MemoryEvents { low: Some(0), high: Some(0), max: Some(0), oom: Some(0), oom_kill: Some(0) },
    };
}

impl Io {
    const ZERO: Self = Self { rbytes: 0, wbytes: 0, rios: Some(0), wios: Some(0), devices: Vec::new() };
}

fn cpu(a: Cpu, b: Cpu) -> Cpu {
    let throttling = |a: Throttling, b: Throttling| Throttling {
        nr_periods: a.nr_periods.saturating_add(b.nr_periods),
        nr_throttled: a.nr_throttled.saturating_add(b.nr_throttled),
        throttled_usec: a.throttled_usec.saturating_add(b.throttled_usec),
    };
    Cpu {
        usage_usec: a.usage_usec.saturating_add(b.usage_usec),
        user_usec: add(a.user_usec, b.user_usec),
        system_usec: add(a.system_usec, b.system_usec),
        throttling: a.throttling.zip(b.throttling).map(|(a, b)| throttling(a, b)),
    }
}

fn memory(a: Memory, b: Memory) -> Memory {
    Memory {
        current_bytes: a.current_bytes.saturating_add(b.current_bytes),
        working_set_bytes: add(a.working_set_bytes, b.working_set_bytes),
        rss_bytes: add(a.rss_bytes, b.rss_bytes),
        file_bytes: add(a.file_bytes, b.file_bytes),
        swap_bytes: add(a.swap_bytes, b.swap_bytes),
        events: MemoryEvents {
            low: add(a.events.low, b.events.low),
            high: add(a.events.high, b.events.high),
            max: add(a.events.max, b.events.max),
            oom: add(a.events.oom, b.events.oom),
            oom_kill: add(a.events.oom_kill, b.events.oom_kill),
        },
    }
}

fn io(a: &Io, b: &Io) -> Io {
    Io {
        rbytes: a.rbytes.saturating_add(b.rbytes),
        wbytes: a.wbytes.saturating_add(b.wbytes),
        rios: add(a.rios, b.rios),
        wios: add(a.wios, b.wios),
        devices: Vec::new(),
    }
}

const fn add(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        _ => None,
    }
}

/// Counters of a changing set of cgroups that only ever grow.
///
/// The sum over the set itself would fall whenever one leaves, and a scraper would take that for a restart. This adds
/// up what each cgroup used between two readings; what one used before its first reading is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// CPU time, us.
    pub usage_usec: u64,
    /// Periods of a quota.
    pub nr_periods: u64,
    /// Periods in which it stopped somebody.
    pub nr_throttled: u64,
    /// Time stopped, us.
    pub throttled_usec: u64,
    /// Bytes read.
    pub rbytes: u64,
    /// Bytes written.
    pub wbytes: u64,
}

impl Tally {
    /// Adds what one cgroup used between two readings; nothing where its life changed.
    pub fn add(&mut self, before: &Usage, now: &Usage) {
        if before.epoch != now.epoch {
            return;
        }
        let grown = |counter: &dyn Fn(&Usage) -> Option<u64>| {
            counter(now).zip(counter(before)).map_or(0, |(now, before)| now.saturating_sub(before))
        };
        let quota = |usage: &Usage| usage.cpu.and_then(|cpu| cpu.throttling);
        let steps = [
            (&mut self.usage_usec, grown(&|usage| usage.cpu.map(|cpu| cpu.usage_usec))),
            (&mut self.nr_periods, grown(&|usage| quota(usage).map(|quota| quota.nr_periods))),
            (&mut self.nr_throttled, grown(&|usage| quota(usage).map(|quota| quota.nr_throttled))),
            (&mut self.throttled_usec, grown(&|usage| quota(usage).map(|quota| quota.throttled_usec))),
            (&mut self.rbytes, grown(&|usage| usage.io.as_ref().map(|io| io.rbytes))),
            (&mut self.wbytes, grown(&|usage| usage.io.as_ref().map(|io| io.wbytes))),
        ];
        for (counter, step) in steps {
            *counter = counter.saturating_add(step);
        }
    }
}
