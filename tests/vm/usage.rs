//! Usage on a real kernel, whatever mix of cgroup versions it has: our figures are the kernel's own, read by this test.
//! Runs on any kernel: `cargo test -p sextant-tests --features vm usage` as root.

#![expect(clippy::disallowed_methods, reason = "a test starts processes and waits in real time")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sextant::domain::source::Condition;
use sextant::domain::usage::{Bound, Target, Usage, UsageMap};
use sextant::host::HostRoots;
use sextant::sources::usage::{Config, UsageSource};
use sextant_tests::hand_made::HandMade;

/// One group in every tree of this machine.
struct Everywhere {
    trees: Vec<(PathBuf, HandMade)>,
}

impl Everywhere {
    fn new(name: &str) -> Result<Self> {
        let trees = HandMade::trees()?;
        let make = |tree: PathBuf| {
            if tree.join("cgroup.controllers").exists() {
                enable(&tree);
            }
            let made = HandMade::new(&tree, name)?;
            if tree.join("cgroup.controllers").exists() {
                enable(&made.path(""));
            }
            Ok((tree, made))
        };
        Ok(Self { trees: trees.into_iter().map(make).collect::<Result<_>>()? })
    }

    /// Makes the group in all trees; its id is the one of the last.
    fn group(&self, name: &str) -> Result<Target> {
        let mut target = None;
        for (_, made) in &self.trees {
            let cgroup_id = fs::metadata(made.group(name)?)?.ino();
            target = Some(Target { cgroup: made.cgroup(name), cgroup_id });
        }
        target.context("no tree")
    }

    /// A file of the group, in whichever tree has it; the first of the names that one has.
    fn read(&self, group: &str, names: &[&str]) -> Option<String> {
        let file = |name: &&str| {
            self.trees.iter().find_map(|(_, made)| fs::read_to_string(made.path(group).join(name)).ok())
        };
        names.iter().find_map(file)
    }

    /// Writes to the file in whichever tree has it.
    fn write(&self, group: &str, settings: &[(&str, &str)]) -> bool {
        let into = |(_, made): &(PathBuf, HandMade), (name, value): &(&str, &str)| {
            let path = made.path(group).join(name);
            path.exists() && fs::write(path, value).is_ok()
        };
        settings.iter().any(|setting| self.trees.iter().any(|tree| into(tree, setting)))
    }

    fn join(&self, group: &str, pid: u32) -> Result<()> {
        for (_, made) in &self.trees {
            fs::write(made.path(group).join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }
}

/// What the tree below may use; a controller that v1 has is not v2's to give.
fn enable(tree: &Path) {
    for controller in ["cpu", "memory", "io", "pids"] {
        let _not_here = fs::write(tree.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

struct Burner(Child);

impl Burner {
    fn start() -> Result<Self> {
        Ok(Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?))
    }

    fn signal(&self, signal: &str) -> Result<()> {
        ensure!(Command::new("kill").args([signal, &self.0.id().to_string()]).status()?.success());
        Ok(())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

fn source() -> UsageSource {
    UsageSource::new(HostRoots::default(), Config::default())
}

fn one<'a>(map: &'a UsageMap, target: &Target) -> Result<&'a Usage> {
    map.groups.get(&target.cgroup_id).with_context(|| format!("no usage of {target:?}"))
}

/// The number behind a word of a flat keyed file.
fn word(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

#[test]
fn usage_is_what_the_kernel_says_of_a_group_that_burns_under_a_quota() -> Result<()> {
    let all = Everywhere::new("burn")?;
    let (burning, idle) = (all.group("burning")?, all.group("idle")?);
    let quota = all.write("burning", &[("cpu.max", "20000 100000"), ("cpu.cfs_quota_us", "20000")]);
    let limit = all.write("burning", &[("memory.max", "67108864"), ("memory.limit_in_bytes", "67108864")]);
    ensure!(quota && limit, "no tree has a cpu and a memory controller");
    let burner = Burner::start()?;
    all.join("burning", burner.0.id())?;
    let targets = [burning.clone(), idle.clone()];
    let mut source = source();
    source.collect(&targets, 1);
    thread::sleep(Duration::from_secs(3));
    let map = source.collect(&targets, 2);
    let rates = one(&map, &burning)?.rates;
    let (cores, throttled) =
        (rates.cpu_cores.context("no rate")?, rates.throttled_ratio.context("no periods")?);
    ensure!((0.02..0.25).contains(&cores), "{cores} CPUs under a quota of 0.2");
    ensure!((0.2..=1.0).contains(&throttled), "throttled in {throttled} of the periods");
    // The control: beside it nothing happened, which is not "nothing is known".
    let calm = one(&map, &idle)?;
    ensure!(calm.cpu.context("no cpu")?.usage_usec == 0 && calm.rates.cpu_cores == Some(0.0), "{calm:?}");
    ensure!(calm.rates.throttled_ratio.is_none() && calm.pids == Some(0), "{calm:?}");

    // Stopped, its figures stand still: ours must be the kernel's to the last digit.
    burner.signal("-STOP")?;
    thread::sleep(Duration::from_secs(1));
    let map = source.collect(&targets, 3);
    let usage = one(&map, &burning)?;
    exact(&all, usage)?;
    ensure!(usage.limits.memory_max == Some(Bound::At(64 << 20)), "{:?}", usage.limits);
    let cores = usage.limits.cpu.and_then(Bound::at).context("no quota")?.cores();
    ensure!((cores - 0.2).abs() < 1e-9, "{cores}");
    ensure!(source.health().failures == 0 && source.health().condition != Condition::Off);
    Ok(())
}

fn exact(all: &Everywhere, usage: &Usage) -> Result<()> {
    let read = |names: &[&str]| all.read("burning", names).with_context(|| format!("none of {names:?}"));
    let cpu = usage.cpu.context("no cpu")?;
    let kernel = match all.read("burning", &["cpuacct.usage"]) {
        Some(ns) => number(&ns).map(|ns| ns / 1_000),
        None => word(&read(&["cpu.stat"])?, "usage_usec"),
    };
    ensure!(Some(cpu.usage_usec) == kernel && cpu.usage_usec > 100_000, "{cpu:?} is not {kernel:?}");
    let throttling = cpu.throttling.context("no throttling")?;
    let stat =
        all.trees.iter().filter_map(|(_, made)| fs::read_to_string(made.path("burning/cpu.stat")).ok());
    let stat = stat.into_iter().find(|text| text.contains("nr_periods")).context("no cpu.stat")?;
    ensure!(Some(throttling.nr_periods) == word(&stat, "nr_periods"), "{throttling:?}\n{stat}");
    ensure!(Some(throttling.nr_throttled) == word(&stat, "nr_throttled") && throttling.nr_throttled > 5);
    let throttled_usec =
        word(&stat, "throttled_usec").or_else(|| word(&stat, "throttled_time").map(|ns| ns / 1_000));
    ensure!(Some(throttling.throttled_usec) == throttled_usec, "{throttling:?}\n{stat}");

    let memory = usage.memory.context("no memory")?;
    let current = number(&read(&["memory.current", "memory.usage_in_bytes"])?).context("memory")?;
    // The kernel charges to CPUs in batches of 64 pages: what it says moves while nothing happens.
    ensure!(memory.current_bytes.abs_diff(current) <= 1 << 20, "{memory:?} is not {current}");
    let stat = read(&["memory.stat"])?;
    let inactive =
        word(&stat, "total_inactive_file").or_else(|| word(&stat, "inactive_file")).context("inactive")?;
    let expected = memory.current_bytes.saturating_sub(inactive);
    let found = memory.working_set_bytes.context("no working set")?;
    ensure!(found.abs_diff(expected) <= 1 << 20, "{memory:?}, inactive {inactive}");
    ensure!(usage.pids == number(&read(&["pids.current"])?) && usage.pids == Some(1), "{:?}", usage.pids);
    ensure!(usage.io.is_some() || all.read("burning", &["io.stat"]).is_none(), "{:?}", usage.io);
    // Pressure counts on: the kernel's figure after ours is no smaller.
    if let Some(text) = all.read("burning", &["cpu.pressure"]) {
        let later =
            text.split("total=").nth(1).and_then(|rest| number(rest.lines().next()?)).context("pressure")?;
        let ours = usage.pressure.cpu.context("no pressure")?.some.total_usec;
        ensure!(ours > 100_000 && ours <= later && later - ours < 5_000_000, "{ours} and {later}");
    }
    Ok(())
}

#[test]
fn usage_of_a_group_that_goes_or_is_replaced_is_none() -> Result<()> {
    let all = Everywhere::new("short")?;
    let target = all.group("short")?;
    let mut source = source();
    ensure!(source.collect(std::slice::from_ref(&target), 1).groups.len() == 1);
    for (_, made) in &all.trees {
        fs::remove_dir(made.path("short"))?;
    }
    ensure!(
        source.collect(std::slice::from_ref(&target), 2).groups.is_empty(),
        "descriptors were kept open on it"
    );
    let again = all.group("short")?;
    ensure!(again.cgroup == target.cgroup && again.cgroup_id != target.cgroup_id);
    ensure!(
        source.collect(std::slice::from_ref(&target), 3).groups.is_empty(),
        "it has another one's figures"
    );
    ensure!(source.collect(&[target, again.clone()], 4).groups.contains_key(&again.cgroup_id), "the control");
    ensure!(source.health().failures == 0);
    Ok(())
}
