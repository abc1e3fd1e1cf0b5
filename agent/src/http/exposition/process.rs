//! This process's own cost, under the names that every Prometheus client library uses.
//!
//! Source: `/proc/self/stat` (proc_pid_stat(5)) and `/proc/self/fd`, of our own /proc wherever the host's is.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;

use super::{Number, Writer};

/// Clock ticks per second that the kernel shows to user space: 100 on every architecture we build for.
const USER_HZ: f64 = 100.0;

/// Reads /proc/self at each scrape.
#[derive(Debug)]
pub struct ProcessCollector {
    page_size_bytes: u64,
    started_at_s: f64,
}

impl ProcessCollector {
    /// For a process that started at this wall time, ns since the epoch.
    pub fn new(started_at_ns: i64) -> Self {
        let page_size_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
        Self { page_size_bytes, started_at_s: super::seconds(u64::try_from(started_at_ns).unwrap_or(0)) }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        let stat = std::fs::read_to_string("/proc/self/stat").ok();
        let usage = stat.as_deref().and_then(Usage::parse);
        let help = "CPU time of this process, user and system";
        let cpu = usage.as_ref().map(|usage| usage.cpu_s);
        writer.counter("process_cpu", help, Some(&Unit::Seconds), cpu)?;
        let resident = usage.as_ref().map(|usage| usage.rss_pages.saturating_mul(self.page_size_bytes));
        let help = "Resident memory of this process";
        writer.gauge("process_resident_memory", help, Some(&Unit::Bytes), resident.map(Number::Unsigned))?;
        let threads = usage.as_ref().map(|usage| Number::Unsigned(usage.threads));
        writer.gauge("process_threads", "Threads of this process", None, threads)?;
        let open = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count());
        let open = open.and_then(|count| u64::try_from(count).ok()).map(Number::Unsigned);
        writer.gauge("process_open_fds", "Open file descriptors of this process", None, open)?;
        let help = "Wall time at which this process started";
        writer.gauge("process_start_time", help, Some(&Unit::Seconds), Some(Number::Float(self.started_at_s)))
    }
}

#[derive(Debug, PartialEq)]
struct Usage {
    cpu_s: f64,
    threads: u64,
    rss_pages: u64,
}

impl Usage {
    fn parse(stat: &str) -> Option<Self> {
        // The command name may hold blanks and parentheses: fields are counted from the last one.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let ticks = field(14)?.parse::<f64>().ok()? + field(15)?.parse::<f64>().ok()?;
        Some(Self {
            cpu_s: ticks / USER_HZ,
            threads: field(20)?.parse().ok()?,
            rss_pages: field(24)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 3 0 99 4096000 512 18446744073709551615";
        assert_eq!(Usage::parse(stat), Some(Usage { cpu_s: 2.0, threads: 3, rss_pages: 512 }));
        for broken in ["", "7 (a", "7 (a) S 1", "7 (a) S x x x x x x x x x x x x x x x x x x x x x x x"] {
            assert_eq!(Usage::parse(broken), None, "{broken}");
        }
    }
}
