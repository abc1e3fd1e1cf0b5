//! The scheduler source over real schedulers, judged by `bpftool`, sysfs and the kernel's log.

#![expect(clippy::disallowed_methods, reason = "starts a second scheduler and dmesg")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value as Json;
use sextant::domain::bss::BssField;
use sextant::domain::exit::{ExitKind, SchedulerExit};
use sextant::domain::scheduler::{SchedulerReading, State, Value, Variable};
use sextant::domain::source::Condition;
use sextant::host::HostRoots;
use sextant::sources::scheduler::{Config, KernelReader, SchedulerSource};
use sextant_tests::bpftool;
use sextant_tests::scheduler::{Kind, Load, Scheduler, sysfs, wait_for_state, wait_until};

/// Rounds in which a gauge that moves all the time has to be caught standing still.
const ROUNDS: usize = 60;

struct Node {
    source: SchedulerSource,
    exits: Vec<SchedulerExit>,
    collections: u64,
}

impl Node {
    fn new() -> Self {
        let roots = HostRoots::default();
        let reader = Box::new(KernelReader::new(&roots));
        let source = SchedulerSource::new(&roots, Config::default(), reader);
        Self { source, exits: Vec::new(), collections: 0 }
    }

    fn collect(&mut self) -> SchedulerReading {
        self.collections += 1;
        let collection = self.source.collect(0, self.collections * 1_000_000_000);
        self.exits.extend(collection.exits);
        collection.reading
    }

    /// Collects until a scheduler's variables are read.
    fn until_read(&mut self) -> Result<SchedulerReading> {
        self.until("its maps are read", |reading| reading.epoch.is_some())
    }

    /// Collects until a reading of a running scheduler has what is wanted.
    fn until(&mut self, what: &str, has: impl Fn(&SchedulerReading) -> bool) -> Result<SchedulerReading> {
        let mut reading = SchedulerReading::default();
        wait_until(what, || {
            reading = self.collect();
            ensure!(reading.state != State::Disabled, "the scheduler ended before {what}");
            Ok(has(&reading))
        })?;
        Ok(reading)
    }

    /// Collects until as many exits are known, and a few times more: none is said twice.
    fn until_exits(&mut self, count: usize) -> Result<&[SchedulerExit]> {
        wait_until(&format!("{count} exits are said"), || {
            self.collect();
            Ok(self.exits.len() >= count)
        })?;
        for _ in 0..8 {
            self.collect();
        }
        ensure!(self.exits.len() == count, "said more than once: {:?}", self.exits);
        Ok(&self.exits)
    }
}

/// A test of a scheduler that the watchdog must not end, with a fresh node each time it is tried.
fn undisturbed(test: impl Fn(&mut Node) -> Result<()>) -> Result<()> {
    sextant_tests::scheduler::undisturbed(|| test(&mut Node::new()))
}

#[test]
fn rustland_1_1_4_is_read_as_bpftool_reads_it() -> Result<()> {
    is_read_as_bpftool_reads_it(Kind::Rustland1_1_4)
}

#[test]
fn rustland_1_0_10_is_read_as_bpftool_reads_it() -> Result<()> {
    is_read_as_bpftool_reads_it(Kind::Rustland1_0_10)
}

#[test]
fn rlfifo_is_read_as_bpftool_reads_it() -> Result<()> {
    is_read_as_bpftool_reads_it(Kind::Rlfifo)
}

#[test]
fn bpfland_is_read_as_bpftool_reads_it() -> Result<()> {
    is_read_as_bpftool_reads_it(Kind::Bpfland)
}

fn is_read_as_bpftool_reads_it(kind: Kind) -> Result<()> {
    undisturbed(|node| {
        let scheduler = Scheduler::start(kind)?;
        reads_as_bpftool(kind, node)?;
        belongs_to(&scheduler, node)?;
        ends_when_asked(scheduler, node)
    })
}

/// The test's own processes are the load: more would only make the guest slower.
fn reads_as_bpftool(kind: Kind, node: &mut Node) -> Result<()> {
    let reading = node.until_read()?;
    ensure!(node.source.health().condition == Condition::Up, "{:?}", node.source.health());

    let all: BTreeSet<_> = reading.layout.variables.iter().map(|v| v.name.clone()).collect();
    let mut agreed = BTreeSet::new();
    let mut shifted = BTreeSet::new();
    for _ in 0..ROUNDS {
        let before = node.collect();
        let seen = dump(&before)?;
        let after = node.collect();
        ensure!(before.epoch == after.epoch, "the scheduler changed meanwhile");
        for (at, variable) in before.layout.variables.iter().enumerate() {
            let Some(json) = find(&seen, variable) else { continue };
            let fits = |at: usize| {
                let interpret = |raw: &[u64]| variable.kind.interpret(raw[at], variable.size);
                between(&interpret(&before.raw), json, &interpret(&after.raw))
            };
            let frozen = before.layout.sections.iter().any(|s| s.name == variable.section && s.frozen);
            let counts =
                BssField::ALL.iter().any(|field| field.is_counter() && field.name() == variable.name);
            ensure!(
                fits(at) || !(frozen || counts),
                "{kind:?} {}: bpftool says {json}, we {} before and {} after",
                variable.name,
                before.raw[at],
                after.raw[at]
            );
            if fits(at) {
                agreed.insert(variable.name.clone());
            }
            if fits((at + 1) % before.raw.len()) {
                shifted.insert(variable.name.clone());
            }
        }
        if agreed == all {
            break;
        }
    }
    let missing: Vec<_> = all.difference(&agreed).collect();
    ensure!(missing.is_empty(), "{kind:?}: bpftool never agreed on {missing:?} of {} variables", all.len());
    ensure!(shifted != all, "control: with every value one place off, bpftool must not agree");
    Ok(())
}

/// Name, version, epoch and process are those of the scheduler that was started.
fn belongs_to(scheduler: &Scheduler, node: &mut Node) -> Result<()> {
    let reading = node.until("its process is found", |reading| reading.user_pid.is_some())?;
    ensure!(reading.user_pid == Some(scheduler.pid()), "{:?} is not {}", reading.user_pid, scheduler.pid());
    let ops = reading.ops.as_ref().context("no name")?;
    ensure!(ops.base == scheduler.kind().base_name(), "{ops:?}");
    ensure!(ops.version.is_some() == (scheduler.kind() != Kind::Rustland1_0_10), "{ops:?}");
    ensure!(reading.state == State::Enabled && reading.switch_all == Some(true), "{:?}", reading.state);
    let epoch = reading.epoch.context("no epoch")?;
    ensure!(epoch.enable_seq == sysfs("enable_seq")?.parse::<u64>()?, "{epoch:?}");
    let events: BTreeMap<_, _> = reading.events.iter().cloned().collect();
    ensure!(events.contains_key("SCX_EV_BYPASS_ACTIVATE") && events.len() >= 9, "{events:?}");
    if scheduler.kind() != Kind::Bpfland {
        let absent: Vec<_> = reading.bss_absent.iter().map(|(field, _)| *field).collect();
        ensure!(absent.iter().all(|field| *field == BssField::UserschedLastRunAt), "{absent:?}");
        ensure!(reading.bss.get(BssField::UserschedPid) == Some(scheduler.pid().into()));
        // Where a CPU is always idle, all tasks go there without user space being asked.
        let halves = [BssField::NrUserDispatches, BssField::NrKernelDispatches];
        let dispatches: Option<u64> = halves.into_iter().map(|half| reading.bss.get(half)).sum();
        ensure!(dispatches > Some(0), "{:?}", reading.bss);
    } else {
        ensure!(reading.bss.get(BssField::NrOnlineCpus) > Some(0), "{:?}", reading.bss);
        let why = reading.bss_absent.iter().find(|(field, _)| *field == BssField::NrUserDispatches);
        ensure!(why.context("absent")?.1 == "not in bpfland's .bss, .data or .rodata", "{why:?}");
    }
    Ok(())
}

/// SIGINT, and not one look until its maps are gone: the record still tells.
fn ends_when_asked(scheduler: Scheduler, node: &mut Node) -> Result<()> {
    let enable_seq = node.collect().epoch.context("no epoch")?.enable_seq;
    let status = scheduler.stop()?;
    ensure!(status.success(), "ended with {status}");
    let exits = node.until_exits(1)?;
    ensure!(exits[0].kind == ExitKind::Unreg && exits[0].enable_seq == enable_seq, "{exits:?}");
    ensure!(exits[0].reason == "unregistered from user space", "{exits:?}");
    let reading = node.collect();
    ensure!(reading.state == State::Disabled && reading.epoch.is_none() && reading.bss.is_empty());
    ensure!(reading.bss_absent.iter().all(|(_, why)| why == "no sched_ext scheduler is loaded"));
    wait_until(
        "its maps are gone, for we have let go of them",
        || Ok(bpftool::maps_named(".bss")?.is_empty()),
    )
}

#[test]
fn a_replacement_between_two_looks_is_one_exit_and_a_new_epoch() -> Result<()> {
    undisturbed(is_replaced)
}

fn is_replaced(node: &mut Node) -> Result<()> {
    let first = Scheduler::start(Kind::Rustland1_1_4)?;
    let old = node.until_read()?;
    let _settled = node.collect();
    ensure!(first.stop()?.success());
    let second = Scheduler::start(Kind::Rustland1_1_4)?;
    let new = node.until_read()?;
    let (old, new) = (old.epoch.context("old")?, new.epoch.context("new")?);
    ensure!(new.enable_seq == old.enable_seq + 1 && new.struct_ops_map_id > old.struct_ops_map_id);
    ensure!(second.stop()?.success());
    let third = Scheduler::start(Kind::Rlfifo)?;
    let reading = node.until_read()?;
    ensure!(reading.ops.as_ref().is_some_and(|ops| ops.base == "rlfifo"), "{:?}", reading.ops);
    let exits = node.until_exits(2)?;
    let seqs: Vec<_> = exits.iter().map(|exit| (exit.enable_seq, exit.kind)).collect();
    ensure!(seqs == [(old.enable_seq, ExitKind::Unreg), (new.enable_seq, ExitKind::Unreg)], "{seqs:?}");
    ensure!(exits.iter().all(|exit| exit.ops.starts_with("rustland")));
    third.stop()?;
    Ok(())
}

#[test]
fn an_ejected_scheduler_whose_process_is_stopped_is_gone_though_its_maps_stay() -> Result<()> {
    let mut scheduler = Scheduler::start(Kind::Rustland1_0_10)?;
    let mut node = Node::new();
    node.until_read()?;
    {
        let _load = Load::start()?;
        scheduler.signal(Signal::STOP)?;
        wait_for_state("disabled")?;
    }
    ensure!(!bpftool::maps_named(".bss")?.is_empty(), "the stopped process still holds its maps");
    let exits = node.until_exits(1)?.to_vec();
    ensure!(exits[0].kind == ExitKind::ErrorStall && exits[0].reason == "runnable task stall", "{exits:?}");
    let log = sextant_tests::scheduler::kernel_log()?;
    ensure!(!exits[0].msg.is_empty() && log.contains(&exits[0].msg), "{exits:?} is not in\n{log}");
    let reading = node.collect();
    ensure!(
        reading.epoch.is_none() && reading.layout.variables.is_empty(),
        "the dead are not read as living"
    );

    // Another of the same name runs while the ejected one still holds its maps.
    let second = Scheduler::start(Kind::Rustland1_0_10)?;
    let epoch = node.until_read()?.epoch.context("an epoch")?;
    ensure!(epoch.enable_seq == exits[0].enable_seq + 1, "{epoch:?}");
    let pid = node.until("its process is known", |reading| reading.user_pid.is_some())?.user_pid;
    ensure!(pid == Some(second.pid()), "{pid:?} is not the living one");
    second.stop()?;
    scheduler.signal(Signal::CONT)?;
    scheduler.wait()?;
    Ok(())
}

#[test]
fn a_start_that_is_refused_does_not_turn_our_head() -> Result<()> {
    undisturbed(is_not_turned)
}

fn is_not_turned(node: &mut Node) -> Result<()> {
    let scheduler = Scheduler::start(Kind::Rustland1_1_4)?;
    let epoch = node.until_read()?.epoch;
    let program = std::env::var("SEXTANT_SCHEDULERS")? + "/" + Kind::Rustland1_1_4.file_name();
    let quiet = || Stdio::null();
    let mut refused = Command::new(program).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn()?;
    let status = loop {
        let seen = Node::new().until_read()?.epoch;
        ensure!(seen == epoch, "{seen:?} is not {epoch:?}");
        if let Some(status) = refused.try_wait()? {
            break status;
        }
    };
    ensure!(!status.success(), "control: it was refused indeed");
    scheduler.stop()?;
    Ok(())
}

#[test]
fn without_a_scheduler_there_is_nothing_to_read() -> Result<()> {
    let mut node = Node::new();
    let reading = node.collect();
    ensure!(reading.state == State::Disabled && reading.ops.is_none() && reading.epoch.is_none());
    ensure!(reading.bss.is_empty() && reading.raw.is_empty() && node.exits.is_empty());
    ensure!(node.source.health().condition == Condition::Up, "nothing is missing");
    Ok(())
}

/// Every section of the reading as `bpftool` shows it: section -> variable -> value.
fn dump(reading: &SchedulerReading) -> Result<BTreeMap<String, BTreeMap<String, Json>>> {
    let sections = reading.layout.sections.iter();
    let sections = sections.map(|s| Ok((s.name.to_string(), bpftool::section(s.map_id.into(), &s.name)?)));
    sections.collect()
}

fn find<'a>(sections: &'a BTreeMap<String, BTreeMap<String, Json>>, variable: &Variable) -> Option<&'a Json> {
    let mut names = variable.name.split('.');
    let first = sections.get(&*variable.section)?.get(names.next()?)?;
    names.try_fold(first, |json, name| json.get(name))
}

/// Whether what `bpftool` saw lies between what we saw before and after.
fn between(before: &Value, json: &Json, after: &Value) -> bool {
    match (before, after) {
        (Value::Bool(a), Value::Bool(b)) => json.as_bool().is_some_and(|v| v == *a || v == *b),
        (Value::Enum(a, an), Value::Enum(b, bn)) => match json {
            Json::String(name) => [an, bn].iter().any(|n| n.as_ref() == Some(name)),
            _ => json.as_i64().is_some_and(|v| v == *a || v == *b),
        },
        (Value::Unsigned(a), Value::Unsigned(b)) => {
            json.as_u64().is_some_and(|v| (*a.min(b)..=*a.max(b)).contains(&v))
        }
        (Value::Signed(a), Value::Signed(b)) => {
            json.as_i64().is_some_and(|v| (*a.min(b)..=*a.max(b)).contains(&v))
        }
        _ => false,
    }
}
