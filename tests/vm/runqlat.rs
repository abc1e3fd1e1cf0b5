//! What the run-queue source counts is what happened: compared with the kernel's own figures per task, and with a
//! program that measures its own waits and shares no code with us. Runs on any kernel with BTF, under any scheduler:
//! `cargo test -p sextant-tests --features vm runqlat` as root does without the machine.

#![expect(clippy::disallowed_methods, reason = "a test waits in real time")]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use sextant::domain::runqueue::{RunTotals, RunqueueReading};
use sextant::host::HostRoots;
use sextant::sources::runqlat::{Config, RunqlatSource};
use sextant_tests::hand_made::HandMade;
use sextant_tests::role::{Role, eventually};
use sextant_tests::scheduler::{Kind, Scheduler, undisturbed};

const HOG: &str = "while :; do :; done";
/// Sleeps 5 ms again and again and prints how much later than that it ran, ns.
const PATIENT: &str = r#"exec python3 -c '
import time
for _ in range(600):
    began = time.monotonic_ns()
    time.sleep(0.005)
    print(time.monotonic_ns() - began - 5000000)
'"#;

#[test]
fn runqlat_sums_are_those_of_schedstat() -> Result<()> {
    sums_are_those_of_schedstat()
}

/// Needs a sched_ext kernel. This scheduler keeps tasks on queues of its own and moves them as CPUs take them: a wait is
/// spread over several run queues.
#[test]
fn runqlat_sums_are_those_of_schedstat_under_bpfland() -> Result<()> {
    undisturbed(|| {
        let _scheduler = Scheduler::start(Kind::Bpfland)?;
        sums_are_those_of_schedstat()
    })
}

/// The same with a scheduler that decides in user space.
#[test]
fn runqlat_sums_are_those_of_schedstat_under_rustland() -> Result<()> {
    undisturbed(|| {
        let _scheduler = Scheduler::start(Kind::Rustland1_1_4)?;
        sums_are_those_of_schedstat()
    })
}

fn sums_are_those_of_schedstat() -> Result<()> {
    let mut source = start()?;
    let mut pods = HandMade::new(&v2()?, "sums")?;
    let mut hogs = Vec::new();
    for group in ["a", "a/below", "b"] {
        let (pid, go) = pods.shell(group, HOG)?;
        pin(pid)?;
        hogs.push((group, pid, go));
    }
    let theirs_before = hogs.iter().map(|(_, pid, _)| schedstat(*pid)).collect::<Result<Vec<_>>>()?;
    let ours_before = source.collect(1, 1)?;
    for (_, _, go) in &mut hogs {
        go.write_all(b"\n")?;
    }
    sleep(Duration::from_secs(5));
    for (_, pid, _) in &hogs {
        // Stints count when they end.
        stop(*pid)?;
    }
    sleep(Duration::from_millis(300));
    let ours_after = source.collect(2, 2)?;
    let ours_of = |group: &str| -> Result<RunTotals> {
        let path = pods.cgroup(group);
        of(&ours_after, &path).since(&of(&ours_before, &path)).context("went backwards")
    };
    for ((group, pid, _), before) in hogs.iter().zip(theirs_before) {
        let now = schedstat(*pid)?;
        let [ran, waited, stints] = [0, 1, 2].map(|field| now[field] - before[field]);
        let ours = ours_of(group)?;
        let figures = format!(
            "{group}: on CPU {} ns of {ran}, waited {} ns of {waited}, {} stints of {stints}, {:?}",
            ours.on_cpu_ns,
            ours.waits.sum_ns,
            ours.waits.count(),
            ours_after.losses
        );
        ensure!(waited > 1_000_000_000, "three on one CPU were to wait for seconds; {figures}");
        ensure!(ours.waits.sum_ns.abs_diff(waited) <= waited / 100, "waits of {figures}");
        ensure!(ours.on_cpu_ns.abs_diff(ran) <= ran / 20, "CPU time of {figures}");
        // One may be in progress at either end; those that were missed are said to be.
        let allowed = 2 + ours_after.losses.stints;
        ensure!(ours.waits.count().abs_diff(stints) <= allowed, "stints of {figures}");
    }
    // The control: one group too many would be noticed.
    let (a, below) = (ours_of("a")?.waits.sum_ns, ours_of("a/below")?.waits.sum_ns);
    ensure!(below > a / 100, "the comparison is too coarse");
    Ok(())
}

#[test]
fn runqlat_quantiles_are_those_that_a_program_measures_of_itself() -> Result<()> {
    let mut source = start()?;
    let mut pods = HandMade::new(&v2()?, "oracle")?;
    // Alone it measures what it cannot tell from a wait: the timer's interrupt and its own way out of the kernel.
    let alone = measured_by_itself(&mut pods, "alone")?;
    let (hog, mut go) = pods.shell("hog", HOG)?;
    pin(hog)?;
    go.write_all(b"\n")?;
    let before = of(&source.collect(1, 1)?, &pods.cgroup("patient"));
    let theirs = measured_by_itself(&mut pods, "patient")?;
    let reading = source.collect(2, 2)?;
    let ours = of(&reading, &pods.cgroup("patient")).since(&before).context("went backwards")?;
    let overhead_ns = quantile(&alone, 500);
    let slot = |ns: u64| ns.max(overhead_ns).max(200_000).ilog2();
    for per_mille in [500, 990] {
        let exact = quantile(&theirs, per_mille).saturating_sub(overhead_ns);
        let said = ours.waits.quantile_ns(per_mille).context("no waits")?;
        let figures = format!("{said} and {exact} ns, give or take {overhead_ns}");
        ensure!(slot(said).abs_diff(slot(exact)) <= 1, "{figures} are more than a slot apart");
        ensure!(per_mille == 500 || slot(exact) > slot(0), "{figures}: nothing waited, nothing was compared");
    }
    // Who had the CPU: the hog, by far.
    let waiter = pods.cgroup("patient");
    let blames = reading.blames.iter().filter(|blame| *blame.waiter == *waiter);
    let first = blames.max_by_key(|blame| blame.wait_ns).context("nobody is to blame")?;
    ensure!(first.runner.as_deref() == Some(&*pods.cgroup("hog")), "{first:?}");
    Ok(())
}

#[test]
fn runqlat_of_removed_groups_stays_with_their_parents() -> Result<()> {
    let mut source = start()?;
    let mut pods = HandMade::new(&v2()?, "removed")?;
    let (pid, mut go) = pods.shell("pod/job", HOG)?;
    go.write_all(b"\n")?;
    sleep(Duration::from_secs(1));
    stop(pid)?;
    sleep(Duration::from_millis(200));
    let job = of(&source.collect(1, 1)?, &pods.cgroup("pod/job"));
    ensure!(job.on_cpu_ns > 100_000_000, "it was to run: {job:?}");
    pods.kill(pid)?;
    eventually(Duration::from_secs(10), "the group can go", || {
        fs::remove_dir(pods.path("pod/job")).map_err(Into::into)
    })?;
    let last = (2..=9).map(|at| source.collect(at, 1)).last().context("a reading")??;
    ensure!(!last.cgroups.iter().any(|group| *group.path == *pods.cgroup("pod/job")), "it is gone");
    let parent = of(&last, &pods.cgroup("pod"));
    ensure!(parent.on_cpu_ns >= job.on_cpu_ns, "{parent:?} lost what {job:?} had");
    ensure!(parent.waits.count() >= job.waits.count());
    Ok(())
}

#[test]
fn runqlat_leaves_nothing_in_the_kernel_when_the_node_is_killed() -> Result<()> {
    let ours = || loaded_programs().flatten().filter(|it| it.name_as_str() == Some("sched_switch")).count();
    let before = ours();
    let dir = tempfile::tempdir()?;
    let node = Role::start("node", dir.path(), &[])?;
    eventually(Duration::from_secs(60), "the program is loaded", || {
        ensure!(ours() == before + 1);
        Ok(())
    })?;
    node.kill()?;
    eventually(Duration::from_secs(20), "the program is gone", || {
        ensure!(ours() == before);
        Ok(())
    })
}

/// What the patient program says of its waits on the first CPU, ascending, ns.
fn measured_by_itself(pods: &mut HandMade, group: &str) -> Result<Vec<u64>> {
    let said = tempfile::NamedTempFile::new()?;
    let (patient, mut go) = pods.shell(group, &format!("{PATIENT} > {}", said.path().display()))?;
    pin(patient)?;
    go.write_all(b"\n")?;
    eventually(Duration::from_secs(120), "600 waits", || {
        ensure!(fs::read_to_string(said.path())?.lines().count() >= 600);
        Ok(())
    })?;
    let mut waits: Vec<u64> = fs::read_to_string(said.path())?.lines().flat_map(str::parse).collect();
    waits.sort_unstable();
    Ok(waits)
}

fn quantile(ascending: &[u64], per_mille: u16) -> u64 {
    ascending[(ascending.len() * usize::from(per_mille)).div_ceil(1000) - 1]
}

fn start() -> Result<RunqlatSource> {
    Ok(RunqlatSource::start(&HostRoots::default(), &Config::default())?)
}

/// The hierarchy that is counted where no kubelet made groups.
fn v2() -> Result<PathBuf> {
    HandMade::hierarchies()?.pop().context("no hierarchy")
}

fn of(reading: &RunqueueReading, path: &str) -> RunTotals {
    reading.cgroups.iter().find(|group| &*group.path == path).map(|group| group.totals).unwrap_or_default()
}

/// `/proc/PID/schedstat`: time on a CPU, time waiting for one, ns; stints.
fn schedstat(pid: u32) -> Result<[u64; 3]> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let words = text.split_whitespace().map(|word| Ok(word.parse()?)).collect::<Result<Vec<u64>>>()?;
    words.try_into().ok().context("three words")
}

/// To the first CPU, where all of them meet.
fn pin(pid: u32) -> Result<()> {
    let mut cpu = CpuSet::new();
    cpu.set(0);
    Ok(sched_setaffinity(Some(id(pid)?), &cpu)?)
}

fn stop(pid: u32) -> Result<()> {
    Ok(kill_process(id(pid)?, Signal::STOP)?)
}

fn id(pid: u32) -> Result<Pid> {
    Pid::from_raw(i32::try_from(pid)?).context("a process id")
}
