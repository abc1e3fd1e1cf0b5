//! The checked-in object loads, and its walk over all processes says what /proc says.
//! Runs on any kernel with BTF: `cargo test -p sextant-tests --features vm ebpf` as root does without the machine.

#![expect(clippy::disallowed_methods, reason = "a test starts processes and sleeps")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use agent_ebpf::task::{TaskOffsets, TaskRecord};
use anyhow::{Context, Result};
use sextant::kernel::tasks::Walk;
use sextant_tests::tasks::{self, Proc};

#[test]
fn ebpf_walk_says_what_proc_says_of_this_test_and_its_children() -> Result<()> {
    let mut proc = Proc::open()?;
    let family = Family::start(&proc)?;
    let end = Arc::new(Barrier::new(4));
    let threads = [(); 3].map(|()| {
        let end = Arc::clone(&end);
        std::thread::spawn(move || end.wait())
    });
    let walked = differences(&mut Walk::load(&tasks::offsets()?)?, &mut proc, &family)?;
    assert_eq!(walked, Vec::<&str>::new());
    let own = proc.record(std::process::id())?;
    assert!(own.nr_threads > 3, "the threads of this test were to be counted: {own:?}");
    let zombie = fs::read_to_string(format!("/proc/{}/stat", family.zombie()))?;
    assert!(zombie.contains(") Z "), "one child was to be a zombie: {zombie}");
    assert_ne!(
        proc.record(family.children[1].id())?.cgroup_id,
        own.cgroup_id,
        "one child was to be elsewhere"
    );
    end.wait();
    for thread in threads {
        assert!(thread.join().is_ok());
    }
    Ok(())
}

#[test]
fn ebpf_walk_at_wrong_offsets_is_found_out() -> Result<()> {
    let mut proc = Proc::open()?;
    let family = Family::start(&proc)?;
    let right = tasks::offsets()?;
    let [group_leader, utime, group_exit_code, mg_src_cgrp] = tasks::types()?.offsets([
        ("task_struct", "group_leader"),
        ("task_struct", "utime"),
        ("signal_struct", "group_exit_code"),
        ("css_set", "mg_src_cgrp"),
    ])?;
    let cases = [
        ("ppid", TaskOffsets { real_parent: group_leader, ..right }),
        ("start", TaskOffsets { start_boottime: utime, ..right }),
        ("threads", TaskOffsets { nr_threads: group_exit_code, ..right }),
        ("live", TaskOffsets { live: group_exit_code, ..right }),
        ("cgroup", TaskOffsets { css: mg_src_cgrp, ..right }),
    ];
    for (field, wrong) in cases {
        let walked = differences(&mut Walk::load(&wrong)?, &mut proc, &family)?;
        assert_eq!(walked, [field]);
    }
    // Offsets at which the kernel has nothing of the kind, such as those of a loader that sets none, are refused.
    assert!(Walk::load(&TaskOffsets::default()).is_err());
    Ok(())
}

#[test]
fn ebpf_walk_has_every_process_of_the_machine() -> Result<()> {
    let mut proc = Proc::open()?;
    let mut walk = Walk::load(&tasks::offsets()?)?;
    // What /proc says before and after was so during the walk.
    let before = by_pid(proc.records()?);
    let during = by_pid(walk.records()?);
    let after = by_pid(proc.records()?);
    let mut compared = 0;
    for (pid, expected) in before {
        let identity = |it: &TaskRecord| (it.pid, it.ppid, start(it), it.cgroup_id);
        // Some hosts keep their first process from root: unreadable here, and absent from walks.
        let hidden = fs::read_link(format!("/proc/{pid}/ns/pid")).is_err();
        if hidden || after.get(&pid).map(identity) != Some(identity(&expected)) {
            continue;
        }
        let found = during.get(&pid).map(identity);
        assert_eq!(found, Some(identity(&expected)), "process {pid}");
        compared += 1;
    }
    assert!(compared > 3, "only {compared} processes stayed alive during the test");
    Ok(())
}

/// The names of the fields in which the walk and /proc differ for this process or one of its children.
fn differences(walk: &mut Walk, proc: &mut Proc, family: &Family) -> Result<Vec<&'static str>> {
    let walked = by_pid(walk.records()?);
    let mut names = Vec::new();
    for pid in family.children.iter().map(Child::id).chain([std::process::id()]) {
        let expected = proc.record(pid)?;
        let found = walked.get(&pid).with_context(|| format!("the walk lacks process {pid}"))?;
        let pairs = [
            ("pid", found.pid == expected.pid),
            ("ppid", found.ppid == expected.ppid),
            ("start", start(found) == start(&expected)),
            // Of this process they come and go with the tests.
            ("live", found.live == expected.live || pid == std::process::id()),
            ("threads", found.nr_threads == expected.nr_threads || pid == std::process::id()),
            ("cgroup", found.cgroup_id == expected.cgroup_id),
            ("comm", found.comm == expected.comm),
        ];
        names.extend(pairs.into_iter().filter_map(|(name, same)| (!same).then_some(name)));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// In ticks, as /proc counts.
const fn start(record: &TaskRecord) -> u64 {
    record.start_boottime_ns / tasks::TICK_NS
}

fn by_pid(records: impl IntoIterator<Item = TaskRecord>) -> BTreeMap<u32, TaskRecord> {
    records.into_iter().map(|record| (record.pid, record)).collect()
}

/// Children of the kinds that are easy to get wrong; killed in the end.
struct Family {
    children: Vec<Child>,
    group: PathBuf,
}

impl Family {
    fn start(proc: &Proc) -> Result<Self> {
        let group = tempfile::Builder::new().prefix("sextant-test-").tempdir_in(proc.cgroups())?.keep();
        let mut family = Self { children: Vec::new(), group };
        // Plain; then moved to a cgroup of its own; then under a name of the full length that looks like stat's end.
        family.shell("")?;
        let mover = format!("echo $$ > {}/cgroup.procs", family.group.display());
        family.shell(&mover)?;
        family.shell("printf 'a) b (c) S 1 2)' > /proc/self/comm")?;
        // Ended, but not asked for.
        family.children.push(Command::new("true").spawn()?);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !fs::read_to_string(format!("/proc/{}/stat", family.zombie()))?.contains(") Z ") {
            anyhow::ensure!(Instant::now() < deadline, "`true` does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(family)
    }

    /// A shell that has done this and waits.
    fn shell(&mut self, script: &str) -> Result<()> {
        let script = format!("{script}\necho ready; read line");
        let shell =
            Command::new("sh").args(["-ec", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut shell = shell?;
        let output = shell.stdout.take().context("no output")?;
        self.children.push(shell);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        anyhow::ensure!(line == "ready\n", "a child failed: {script}");
        Ok(())
    }

    fn zombie(&self) -> u32 {
        self.children.last().map_or(0, Child::id)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir(&self.group);
    }
}
