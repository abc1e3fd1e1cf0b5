//! What a process took so far, as the kernel counts it.

use std::path::Path;

use anyhow::{Context, Result};

/// Clock ticks in a second that the kernel shows to user space.
const USER_HZ: f64 = 100.0;

/// Memory that it has at present, bytes.
///
/// # Errors
/// When there is no such process.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most memory that it ever had, bytes.
///
/// # Errors
/// When there is no such process.
pub fn peak_rss_bytes(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// CPU time of all its threads, in user space and in the kernel, in steps of 10 ms; s.
///
/// # Errors
/// When there is no such process.
pub fn cpu_s(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    // Behind the name, which may have spaces: the state, then numbers, the 11th and 12th of which are these.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| Ok::<_, anyhow::Error>(fields.get(at).context("a short stat")?.parse::<f64>()?);
    Ok((ticks(11)? + ticks(12)?) / USER_HZ)
}

/// Bytes as MiB, for people.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "whole megabytes are shown")]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes as MB, for people.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = Path::new("/proc").join(pid.to_string()).join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_taken_memory_and_time() {
        let pid = std::process::id();
        let held = vec![1_u8; 32 << 20];
        let rss = rss_bytes(pid).unwrap();
        assert!(rss > 32 << 20 && peak_rss_bytes(pid).unwrap() >= rss, "{rss}");
        let before = cpu_s(pid).unwrap();
        // It ends when the time is counted.
        while cpu_s(pid).unwrap() - before < 0.05 {
            std::hint::black_box(held.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
    }
}
