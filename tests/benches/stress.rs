//! `cargo xtask bench stress`: how much of what was asked for a worker takes, beside stress-ng at the same work. Needs
//! root.
//!
//! CPU time is what the kernel accounts to the group that the load runs in, second by second; memory what the page tables
//! hold; a disk's rate what the kernel saw the worker write. Neither side's own word is taken for anything.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts its peer and prints"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;

/// Seconds that a load is watched for; the one before them is for its beginning.
const SECONDS: usize = 5;
/// Both sides stay on this CPU, as far from the machine's other work as can be had.
const CPU: usize = 1;
/// Half a core, in the limited group.
const QUOTA: f64 = 0.5;
const MIB: u64 = 1 << 20;

fn main() -> Result<()> {
    println!("CPU time, asked and taken, % of a core; median and worst of {SECONDS} windows of 1 s");
    for limited in [false, true] {
        println!("{}", if limited { "in a group with half a core:" } else { "in a group without a limit:" });
        let mut errors = Vec::new();
        for tenth in 1..10 {
            let percent = f64::from(tenth) * 10.0 * if limited { QUOTA } else { 1.0 };
            let ours = cpu(percent, limited, &Side::Ours)?;
            let theirs = cpu(percent, limited, &Side::StressNg);
            let theirs =
                theirs.map_or_else(|error| format!("not measured: {error:#}"), |them| them.words(percent));
            println!("  {percent:>4.0}  sextant {}  stress-ng {theirs}", ours.words(percent));
            errors.push((ours.median - percent).abs());
        }
        errors.sort_by(f64::total_cmp);
        println!(
            "  median error {:.2} points, worst {:.2}",
            errors[errors.len() / 2],
            errors[errors.len() - 1]
        );
    }
    println!("memory, asked and in the page tables, MiB");
    for mib in [16, 64, 256, 1_024] {
        let theirs = memory(mib, &Side::StressNg);
        let theirs = theirs.map_or_else(|error| format!("not measured: {error:#}"), |them| words(them, mib));
        println!("  {mib:>5}  sextant {}  stress-ng {theirs}", words(memory(mib, &Side::Ours)?, mib));
    }
    println!("disk, asked and written, MiB/s (stress-ng has no rate to ask for)");
    for rate in [1, 10, 50] {
        println!("  {rate:>5}  sextant {}", words(disk(rate)?, rate));
    }
    Ok(())
}

/// `65.1 (+1.7 %)`.
#[expect(clippy::cast_precision_loss, reason = "MiB")]
fn words(got: f64, asked: u64) -> String {
    format!("{got:>8.2} ({:+.2} %)", (got / asked as f64 - 1.0) * 100.0)
}

enum Side {
    Ours,
    StressNg,
}

struct Taken {
    median: f64,
    worst: f64,
}

impl Taken {
    fn words(&self, asked: f64) -> String {
        format!("{:>5.1} ({:+.1}, worst {:+.1})", self.median, self.median - asked, self.worst - asked)
    }
}

fn cpu(percent: f64, limited: bool, side: &Side) -> Result<Taken> {
    let trees = HandMade::trees()?;
    let groups: Vec<HandMade> =
        trees.iter().map(|tree| HandMade::new(tree, "stress")).collect::<Result<_>>()?;
    let paths: Vec<PathBuf> = groups.iter().map(|group| group.group("load")).collect::<Result<_>>()?;
    if limited {
        limit(&paths)?;
    }
    let mut load = match side {
        Side::Ours => {
            let work = json!({"cpu": {"percent": percent, "ramp_ns": 0, "policy": null, "nice": null, "cpus": [CPU]}});
            worker(&paths, &work)?
        }
        Side::StressNg => {
            let joins: String =
                paths.iter().map(|path| format!("echo $$ > {}/cgroup.procs && ", path.display())).collect();
            let load = format!("{joins} exec stress-ng --quiet --cpu 1 --cpu-load {percent} --taskset {CPU}");
            Running(
                Command::new("sh").args(["-c", &load]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?,
            )
        }
    };
    sleep(Duration::from_secs(1));
    let mut seconds = Vec::new();
    for _ in 0..SECONDS {
        let (before, begun) = (used_s(&paths)?, Instant::now());
        sleep(Duration::from_secs(1));
        seconds.push((used_s(&paths)? - before) / begun.elapsed().as_secs_f64() * 100.0);
    }
    ensure!(load.0.try_wait()?.is_none(), "the load ended early");
    load.end()?;
    seconds.sort_by(f64::total_cmp);
    let median = seconds[SECONDS / 2];
    let off = |taken: &f64| (taken - percent).abs();
    let worst = seconds.iter().copied().max_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(median);
    Ok(Taken { median, worst })
}

fn limit(paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        for (file, text) in [("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")] {
            let file = path.join(file);
            if file.exists() {
                return Ok(fs::write(file, text)?);
            }
        }
    }
    anyhow::bail!("no group here takes a quota")
}

/// CPU time that the kernel accounted to the group, s.
fn used_s(paths: &[PathBuf]) -> Result<f64> {
    for path in paths {
        if let Ok(text) = fs::read_to_string(path.join("cpuacct.usage")) {
            return Ok(text.trim().parse::<f64>()? / 1e9);
        }
        let text = fs::read_to_string(path.join("cpu.stat")).unwrap_or_default();
        if let Some(us) = text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            return Ok(us.parse::<f64>()? / 1e6);
        }
    }
    anyhow::bail!("no group here accounts CPU time")
}

fn memory(mib: u64, side: &Side) -> Result<f64> {
    let load = match side {
        Side::Ours => {
            let work = json!({"bytes": mib * MIB, "ramp_ns": 0, "touch_bytes_per_s": 0, "floor_bytes": 0});
            worker(&[], &json!({"memory": work}))?
        }
        Side::StressNg => {
            let args = ["--quiet", "--vm", "1", "--vm-keep", "--vm-bytes", &format!("{mib}m")];
            Running(Command::new("stress-ng").args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
        }
    };
    // The largest of several looks: stress-ng fills it again and again.
    let mut most = 0;
    for _ in 0..SECONDS * 10 {
        sleep(Duration::from_millis(100));
        most = most.max(family(load.0.id()).iter().map(|pid| anonymous_kib(*pid)).max().unwrap_or_default());
    }
    load.end()?;
    #[expect(clippy::cast_precision_loss, reason = "KiB")]
    Ok(most as f64 / 1024.0)
}

fn disk(rate: u64) -> Result<f64> {
    let dir = tempfile::tempdir_in("/var/tmp")?;
    let operations_per_s = rate * MIB / (64 << 10);
    let place = json!({"root": "/", "path": dir.path()});
    let work = json!({"place": place, "operations_per_s": operations_per_s, "block_bytes": 64 << 10, "in_bytes": true, "write_percent": 100.0, "ramp_ns": 0});
    let load = worker(&[], &json!({"disk_load": work}))?;
    sleep(Duration::from_secs(1));
    let (before, begun) = (written_bytes(load.0.id())?, Instant::now());
    sleep(Duration::from_secs(SECONDS as u64));
    let (after, elapsed) = (written_bytes(load.0.id())?, begun.elapsed());
    load.end()?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of seconds")]
    Ok((after - before) as f64 / elapsed.as_secs_f64() / MIB as f64)
}

fn written_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.context("no write_bytes")?.parse()?)
}

struct Running(Child);

impl Running {
    fn end(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The node's own worker, as the node starts it.
fn worker(groups: &[PathBuf], work: &Value) -> Result<Running> {
    let now = clock_gettime(ClockId::Boottime);
    let deadline_ns = (now.tv_sec + 60) * 1_000_000_000;
    let order = json!({"deadline_ns": deadline_ns, "groups": groups, "work": work});
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/sextant");
    let mut command = Command::new(program);
    command.args(["anomaly-worker", "--id", "bench", "--order", &order.to_string()]);
    // Its pipe stays open: when it closes, the worker ends.
    Ok(Running(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?))
}

/// A process and its descendants.
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below = children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(family);
    std::iter::once(pid).chain(below).collect()
}

/// `Anonymous:` of `smaps_rollup`.
fn anonymous_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or_default()
}
