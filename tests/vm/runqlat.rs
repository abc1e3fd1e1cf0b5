//! What the run-queue source counts is what happened: compared with the kernel's own figures per task, and with a
//! program that measures its own waits and shares no code with us. Runs on any kernel with BTF, under any scheduler:
//! `cargo test -p sextant-tests --features vm runqlat` as root does without the machine.

use std::fs;
use std::io::Write as _;
use std::process::ChildStdin;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sextant::domain::histogram::Histogram;
use sextant::domain::runqueue::{RunTotals, RunqueueReading};
use sextant::host::HostRoots;
use sextant::sources::runqlat::{Config, RunqlatSource};
use sextant_tests::hand_made::HandMade;
use sextant_tests::role::Role;

const HOG: &str = "while :; do :; done";

#[test]
fn runqlat_sums_are_those_of_schedstat() -> Result<()> {
    let mut source = start()?;
    let mut pods = HandMade::new(&v2()?, "sums")?;
    let mut tasks = Vec::new();
    for group in ["a", "a/below", "b"] {
        tasks.push((group, pods.shell(group, HOG)?));
    }
    let before: Vec<_> = tasks.iter().map(|(_, (pid, _))| schedstat(*pid)).collect::<Result<_>>()?;
    let ours_before = source.collect(1, 1)?;
    let one_cpu = || -> Result<()> {
        for (_, (pid, go)) in &mut tasks {
            pin(*pid)?;
            go.write_all(b"\n")?;
        }
        sleep(Duration::from_secs(5));
        for (_, (pid, _)) in &tasks {
            // Stints count when they end.
            kill_process(Pid::from_raw(i32::try_from(*pid)?).context("a pid")?, Signal::STOP)?;
        }
        sleep(Duration::from_millis(300));
        Ok(())
    };
    one_cpu_result(one_cpu)?;
    let ours_after = source.collect(2, 2)?;
    let group_of = |group: &str| -> Result<RunTotals> {
        let path = pods.cgroup(group);
        Ok(of(&ours_after, &path).since(&of(&ours_before, &path)).context("went backwards")?)
    };
    for (at, (group, (pid, _))) in tasks.iter().enumerate() {
        let now = schedstat(*pid)?;
        let theirs = [0, 1, 2].map(|field| now[field] - before[at][field]);
        let ours = group_of(group)?;
        println!("{group}: on CPU {} of {}, waited {} of {}, {} of {} stints",
            ours.on_cpu_ns, theirs[0], ours.waits.sum_ns, theirs[1], ours.waits.count(), theirs[2]);
        ensure!(theirs[1] > 1_000_000_000, "three on one CPU were to wait for seconds: {theirs:?}");
        ensure!(near(ours.waits.sum_ns, theirs[1], 100), "waits of {group}");
        ensure!(near(ours.on_cpu_ns, theirs[0], 33), "CPU time of {group}");
        ensure!(ours.waits.count().abs_diff(theirs[2]) <= 2, "stints of {group}");
        ensure!(ours.involuntary_switches > ours.voluntary_switches, "hogs do not leave of their own");
    }
    // The control: the same figures are not those of another group.
    let (a, both) = (group_of("a")?.waits.sum_ns, group_of("a")?.waits.sum_ns + group_of("b")?.waits.sum_ns);
    ensure!(!near(a, both, 100), "the comparison would not notice a group too many");
    Ok(())
}

fn one_cpu_result(run: impl FnOnce() -> Result<()>) -> Result<()> {
    run()
}
