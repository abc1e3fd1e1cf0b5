//! The pod map as the kernel tells it, event by event: `cargo test -p sextant-tests --features vm events` as root.

#![expect(clippy::disallowed_methods, reason = "a test starts processes and waits in real time")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::loaded_programs;
use sextant::domain::pod::{Churn, PodMap, Task};
use sextant::sources::pods::Config;
use sextant_tests::following::{Following, own, pids};
use sextant_tests::hand_made::HandMade;
use sextant_tests::role::{Role, eventually, sextant};

const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const ID: &str = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";
/// Less than a tenth of the time between two walks, so that only events can be the cause.
const SOON: Duration = Duration::from_secs(5);

/// No walk after the first one for as long as a test takes.
fn by_events_alone() -> Config {
    Config { refresh_ms: 600_000, cri: false, kubelet: false, ..Config::default() }
}

fn container(uid: char) -> String {
    format!("kubepods/burstable/pod{uid}{}/{ID}", &UID[1..])
}

struct Process(Child);

impl Process {
    /// As runtimes do: forked elsewhere, moved into the group, and then another program.
    fn moved_then_exec(procs: &Path, program: &str) -> Result<Self> {
        let script = format!("echo $$ > {}; echo moved; exec {program}", procs.display());
        let mut child = Command::new("sh").args(["-ec", &script]).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("no output")?;
        let this = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "moved\n", "{line}");
        Ok(this)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

fn task<'a>(map: &'a PodMap, made: &HandMade, pid: u32) -> Result<&'a Task> {
    let mut tasks = own(map, made).into_iter().flat_map(|container| &container.tasks);
    tasks.find(|task| task.key.pid == pid).with_context(|| format!("process {pid} is in no container"))
}

#[test]
fn events_make_processes_and_groups_appear_and_vanish_in_every_hierarchy() -> Result<()> {
    for hierarchy in HandMade::hierarchies()? {
        let mut made = HandMade::new(&hierarchy, "events")?;
        made.sleepers(&container('a'), 2)?;
        let mut following = Following::start(&hierarchy, by_events_alone())?;
        ensure!(following.lacks()?.is_empty(), "{:?}", following.lacks()?);
        ensure!(pids(&following.map(), &made).len() == 2);
        let stat_reads = following.metric("pods_stat_reads_total")?;

        let procs = made.path(&container('a')).join("cgroup.procs");
        let process = Process::moved_then_exec(&procs, "sleep 600")?;
        let pid = process.0.id();
        following.until(SOON, |map| {
            let task = task(map, &made, pid)?;
            ensure!(&*task.comm == "sleep" && task.ppid == std::process::id(), "{task:?}");
            Ok(())
        })?;
        drop(process);
        following.until(SOON, |map| {
            ensure!(pids(map, &made).len() == 2, "it is still there");
            Ok(())
        })?;

        // A pod that was not there, and then is not there again.
        let other = made.group(&container('b'))?;
        let process = Process::moved_then_exec(&other.join("cgroup.procs"), "sleep 600")?;
        let pid = process.0.id();
        following.until(SOON, |map| {
            let task = task(map, &made, pid)?;
            ensure!(own(map, &made).len() == 2, "one container more");
            let ticks = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let ticks: u64 = ticks.split(' ').nth(21).context("start")?.parse()?;
            ensure!(task.key.starttime_ticks == ticks, "{task:?} started at {ticks}");
            Ok(())
        })?;
        drop(process);
        fs::remove_dir(&other).or_else(|_| {
            std::thread::sleep(Duration::from_millis(100));
            fs::remove_dir(&other)
        })?;
        following.until(SOON, |map| {
            ensure!(own(map, &made).len() == 1, "the container is still there");
            Ok(())
        })?;
        ensure!(following.metric("pods_reconciles_total")? == 1, "the first walk alone");
        ensure!(following.metric("pods_stat_reads_total")? == stat_reads, "and none of /proc");
    }
    Ok(())
}

/// Ten thousand processes, each shorter than any walk: not one is miscounted, and none stays.
#[test]
fn events_account_for_short_lived_processes() -> Result<()> {
    const COUNT: u64 = 10_000;
    let hierarchy = HandMade::hierarchies()?.remove(0);
    let mut made = HandMade::new(&hierarchy, "short")?;
    let kept = made.sleepers(&container('a'), 3)?;
    let mut following = Following::start(&hierarchy, by_events_alone())?;
    let procs = made.path(&container('a')).join("cgroup.procs");
    let script = format!(
        "echo $$ > {}; i=0; while [ $i -lt {COUNT} ]; do /bin/true; i=$((i+1)); done",
        procs.display()
    );
    let status = Command::new("sh").args(["-ec", &script]).status()?;
    ensure!(status.success());
    // The shell itself was forked and exec'd elsewhere, but ended here.
    let expected = Churn { forks: COUNT, execs: COUNT, exits: COUNT + 1 };
    following.until(SOON, |map| {
        let churn = own(map, &made).first().context("no container")?.churn;
        ensure!(churn == Some(expected), "{churn:?} instead of {expected:?}");
        let mut kept = kept.clone();
        kept.sort_unstable();
        ensure!(pids(map, &made) == kept, "{:?} are left", pids(map, &made));
        Ok(())
    })?;
    ensure!(following.metric("pods_events_lost_total")? == 0 && following.corrections()? == 0);
    Ok(())
}

/// The control to the one above: with next to no room events are lost, which is counted, and walks set right what the
/// losses made wrong.
#[test]
fn events_that_are_lost_are_counted_and_healed() -> Result<()> {
    let hierarchy = HandMade::hierarchies()?.remove(0);
    let mut made = HandMade::new(&hierarchy, "lost")?;
    let mut kept = made.sleepers(&container('a'), 3)?;
    let config = Config { events_bytes: 4096, ..by_events_alone() };
    let mut following = Following::start(&hierarchy, config)?;
    let procs = made.path(&container('a')).join("cgroup.procs");
    let storm =
        format!("echo $$ > {}; i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done", procs.display());
    let mut storm = Process(Command::new("sh").args(["-ec", &storm]).spawn()?);
    while storm.0.try_wait()?.is_none() {
        kept.extend(made.sleepers(&container('a'), 1)?);
        if kept.len() > 30 {
            made.kill(kept.remove(0))?;
        }
    }
    kept.sort_unstable();
    following.until(SOON, |map| {
        ensure!(pids(map, &made) == kept, "{:?} instead of {kept:?}", pids(map, &made));
        Ok(())
    })?;
    let lost = following.metric("pods_events_lost_total")?;
    ensure!(lost > 0, "64 events have room, and thousands came");
    ensure!(following.metric("pods_reconciles_total")? > 1, "losses call for a walk");
    std::thread::sleep(Duration::from_secs(2));
    ensure!(following.corrections()? > 0, "{lost} events lost, and nothing was wrong?");
    Ok(())
}

/// A pid that is given out again at once belongs to another pod, and never for a moment to the first.
#[test]
fn events_never_give_a_reused_pid_to_the_wrong_pod() -> Result<()> {
    let hierarchy = HandMade::hierarchies()?.remove(0);
    let mut made = HandMade::new(&hierarchy, "again")?;
    let other = made.group(&container('b'))?.join("cgroup.procs");
    let mut following = Following::start(&hierarchy, by_events_alone())?;
    let mut reused = 0;
    for _ in 0..200 {
        let pid = made.sleepers(&container('a'), 1)?.remove(0);
        let before = following.until(SOON, |map| Ok(task(map, &made, pid)?.key))?;
        made.kill(pid)?;
        // The kernel gives out the next free pid after this one; others may be faster.
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let again = Process::moved_then_exec(&other, "sleep 600")?;
        if again.0.id() != pid {
            continue;
        }
        reused += 1;
        following.until(SOON, |map| {
            let found = task(map, &made, pid)?;
            ensure!(&*found.comm == "sleep" && found.key != before, "not yet the new one");
            let of = own(map, &made).into_iter().find(|it| it.tasks.iter().any(|task| task.key == found.key));
            let cgroup = &of.context("no container")?.cgroup;
            ensure!(*cgroup == made.cgroup(&container('b')), "in {cgroup}");
            Ok(())
        })?;
        if reused == 20 {
            ensure!(following.corrections()? == 0);
            return Ok(());
        }
    }
    ensure!(reused > 0, "no pid was ever given out again");
    Ok(())
}

/// Nothing is pinned: killed in the middle of it, the node leaves no program behind.
#[test]
fn events_end_with_the_process_however_it_ends() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("node.sock");
    let node = Role::start("node", dir.path(), &["--unix-socket", &socket.to_string_lossy()])?;
    let pid = node.pid();
    let programs = eventually(Duration::from_secs(60), "the programs are loaded", || {
        let programs = programs_of(pid)?;
        ensure!(programs.len() >= 7, "{programs:?}");
        Ok(programs)
    })?;
    let there = |id: &u32| loaded_programs().flatten().any(|program| program.id() == *id);
    ensure!(programs.iter().all(there), "the control: {programs:?} are there while it lives");
    node.kill()?;
    eventually(Duration::from_secs(10), "the programs are gone", || {
        let left: Vec<_> = programs.iter().filter(|id| there(id)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

/// Ids of the programs that a process holds.
fn programs_of(pid: u32) -> Result<Vec<u32>> {
    let mut programs = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
        programs.extend(ids);
    }
    programs.sort_unstable();
    programs.dedup();
    Ok(programs)
}

/// Without the right to load programs everything else goes on, and the state of the source says what is missing.
#[test]
fn events_that_are_not_permitted_are_a_lack_and_no_failure() -> Result<()> {
    let hierarchy = HandMade::hierarchies()?.remove(0);
    let mut made = HandMade::new(&hierarchy, "denied")?;
    let pid = made.sleepers(&container('a'), 1)?.remove(0);
    let dir = tempfile::tempdir()?;
    let node = Command::new("setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all"])
        .arg(sextant())
        .args(["node", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .arg("--unix-socket")
        .arg(dir.path().join("node.sock"))
        .arg("--cgroup-root")
        .arg(&hierarchy)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut node = Process(node);
    let mut line = String::new();
    BufReader::new(node.0.stdout.take().context("no output")?).read_line(&mut line)?;
    let url = line.trim().strip_prefix("listening on ").context("no address")?.to_owned();
    let ask = |path: &str| -> Result<String> {
        let output =
            Command::new("curl").args(["-s", "--max-time", "60", &format!("{url}{path}")]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    eventually(Duration::from_secs(180), "the process, by /proc", || {
        let pods = ask("/api/v1/pods")?;
        ensure!(pods.contains(&format!("\"pid\":{pid},")) && !pods.contains("\"churn\""), "{pods}");
        Ok(())
    })?;
    eventually(Duration::from_secs(60), "what it lacks", || {
        let status = ask("/status?format=json")?;
        let lack = "processes appear late, at the next walk of /proc: this kernel does not permit it";
        ensure!(status.contains(lack), "{status}");
        Ok(())
    })
}
