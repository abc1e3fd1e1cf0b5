//! `cargo xtask bench usage`: what one collection of 200 pods with two containers each costs, beside plain programs that
//! read the same files. Needs root, for the groups.
//!
//! CPU time of the calling thread (the peer's whole process for Python), the cheapest of some runs: wall time says little
//! on a shared machine. The peers read every file by its path and look at its first line only; they make nothing of it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts its peer and prints"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sextant::domain::usage::Target;
use sextant::host::HostRoots;
use sextant::sources::usage::{Config, UsageSource};
use sextant_tests::cpu::cheapest_ns;
use sextant_tests::hand_made::HandMade;

const PODS: usize = 200;
const CONTAINERS: usize = 2;
const RUNS: usize = 20;

/// What is read every time, v2's and v1's; a tree has those of its controllers.
const FILES: [&str; 18] = [
    "cpu.stat",
    "memory.current",
    "memory.stat",
    "memory.events",
    "memory.swap.current",
    "io.stat",
    "pids.current",
    "cpu.pressure",
    "memory.pressure",
    "io.pressure",
    "cpuacct.usage",
    "cpuacct.usage_user",
    "cpuacct.usage_sys",
    "memory.usage_in_bytes",
    "memory.failcnt",
    "memory.oom_control",
    "blkio.throttle.io_service_bytes_recursive",
    "blkio.throttle.io_serviced_recursive",
];

/// Python's way: open, read, close.
const PYTHON: &str = "
import sys, time
files = sys.stdin.read().split()
best = 1e9
for _ in range(5):
    before = time.process_time()
    for name in files:
        with open(name) as file:
            file.read().split('\\n', 1)
    best = min(best, time.process_time() - before)
print(best * 1e3)
";

fn main() -> Result<()> {
    let mut trees: Vec<HandMade> = Vec::new();
    for tree in HandMade::trees()? {
        trees.push(HandMade::new(&tree, "bench-usage")?);
    }
    let targets = targets(&mut trees)?;
    let roots = HostRoots::default();
    let collect = |config: Config| {
        let mut source = UsageSource::new(roots.clone(), config);
        let map = source.collect(&targets, 1);
        ensure!(map.groups.len() == targets.len(), "{} of {} groups", map.groups.len(), targets.len());
        Ok(source)
    };
    let first_ms = cheapest_ns(5, 1, || collect(Config::default()).map(drop))? / 1e6;
    let mut source = collect(Config::default())?;
    let kept_ms = steady(&mut source, &targets)?;
    let plain_ms = steady(&mut collect(Config { max_open_files: 0, ..Config::default() })?, &targets)?;
    let all_ms = steady(&mut collect(Config { max_open_files: usize::MAX, ..Config::default() })?, &targets)?;
    println!("{PODS} pods of {CONTAINERS} containers, {} cgroups", targets.len());
    println!("first collection                {first_ms:8.2} ms CPU");
    println!(
        "collection                      {kept_ms:8.2} ms CPU = {:.2} % of a core at 5 s",
        kept_ms / 50.0
    );
    println!("  without any file kept open    {plain_ms:8.2} ms CPU = {:.1} x", plain_ms / kept_ms);

    println!("  with all it may keep open     {all_ms:8.2} ms CPU = {:.1} x", all_ms / kept_ms);

    let files = files(&trees, &targets);
    let rust_ms = cheapest_ns(RUNS, 1, || read_all(&files))? / 1e6;
    println!(
        "std::fs::read_to_string of {} files {rust_ms:8.2} ms CPU = {:.1} x",
        files.len(),
        rust_ms / kept_ms
    );
    match python(&files) {
        Ok(python_ms) => {
            println!("Python, the same files          {python_ms:8.2} ms CPU = {:.1} x", python_ms / kept_ms);
        }
        Err(error) => println!("Python: not measured ({error:#})"),
    }
    Ok(())
}

/// Makes the groups in every tree, with a sleeping process in each container; ids are those of the last tree.
fn targets(trees: &mut [HandMade]) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for pod in 0..PODS {
        let pod = format!("kubepods/burstable/pod{pod:08x}-ba47-11ea-b2a7-0cc47ac5979e");
        let containers = (0..CONTAINERS).map(|container| format!("{pod}/{container:064x}"));
        for group in std::iter::once(pod.clone()).chain(containers) {
            let mut target = None;
            for tree in trees.iter_mut() {
                let cgroup_id = fs::metadata(tree.group(&group)?)?.ino();
                target = Some(Target { cgroup: tree.cgroup(&group), cgroup_id });
            }
            targets.push(target.context("no tree")?);
        }
    }
    Ok(targets)
}

fn steady(source: &mut UsageSource, targets: &[Target]) -> Result<f64> {
    let mut at_ns = 1;
    let ns = cheapest_ns(RUNS, 1, || {
        at_ns += 1;
        ensure!(source.collect(targets, at_ns).groups.len() == targets.len(), "a group is missing");
        Ok(())
    })?;
    Ok(ns / 1e6)
}

/// The files that a collection reads, by path.
fn files(trees: &[HandMade], targets: &[Target]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for tree in trees {
        for target in targets {
            let Some((_, group)) = target.cgroup[1..].split_once('/') else { continue };
            let dir = tree.path(group);
            files.extend(FILES.iter().map(|name| dir.join(name)).filter(|path| path.exists()));
        }
    }
    files
}

fn read_all(files: &[PathBuf]) -> Result<()> {
    let mut bytes = 0;
    for file in files {
        bytes += fs::read_to_string(file)?.lines().next().unwrap_or_default().len();
    }
    ensure!(bytes > 0, "nothing was read");
    Ok(())
}

fn python(files: &[PathBuf]) -> Result<f64> {
    let list = tempfile::NamedTempFile::new()?;
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    fs::write(list.path(), names.join("\n"))?;
    let output = Command::new("python3").args(["-c", PYTHON]).stdin(fs::File::open(list.path())?).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
