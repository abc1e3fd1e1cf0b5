//! The watchdog's margin and its warning under a real scheduler, judged by the kernel's own words: `failed to run for`.

#![expect(clippy::disallowed_methods, reason = "starts processes and waits in real time")]

use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use sextant::domain::exit::ExitKind;
use sextant::domain::scheduler::State;
use sextant::host::HostRoots;
use sextant::sources::scheduler::{Collection, Config, KernelReader, SchedulerSource, watchdog};
use sextant_tests::role::{Role, eventually};
use sextant_tests::scheduler::{Kind, Load, Scheduler, kernel_log, undisturbed, wait_for_state, wait_until};

use super::roles::ask;

/// Emulated machines are many times slower.
const PATIENCE: Duration = Duration::from_secs(120);
/// What rustland asks for.
const TIMEOUT_NS: u64 = 5_000_000_000;

fn watching() -> SchedulerSource {
    watching_with(Config::default())
}

fn watching_with(config: Config) -> SchedulerSource {
    let roots = HostRoots::default();
    let reader = Box::new(KernelReader::new(&roots));
    SchedulerSource::new(&roots, config, reader).watching(wall_ns)
}

fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Collects until it is so; everything that was collected, as one.
fn until(source: &mut SchedulerSource, what: &str, done: impl Fn(&Collection) -> bool) -> Result<Collection> {
    let mut all = Collection::default();
    wait_until(what, || {
        let Collection { reading, warnings, changes, exits } = source.collect(wall_ns(), 1);
        all.reading = reading;
        all.warnings.extend(warnings);
        all.changes.extend(changes);
        all.exits.extend(exits);
        Ok(done(&all))
    })?;
    Ok(all)
}

fn is_measured(all: &Collection) -> bool {
    all.reading.margin.as_ref().is_some_and(|margin| margin.absent.is_none())
}

/// A scheduler whose user-space part hangs runs nobody, this process included: only a thread that needs no scheduler can
/// say anything before the kernel acts.
#[test]
fn watchdog_warns_before_a_scheduler_that_hangs_is_ejected() -> Result<()> {
    let mut source = watching();
    let mut scheduler = Scheduler::start(Kind::Rustland1_0_10)?;
    let before = until(&mut source, "there is a margin", is_measured)?;
    let margin = before.reading.margin.context("a margin")?;
    ensure!(margin.timeout_ns == Some(TIMEOUT_NS), "{margin:?}");
    {
        let _load = Load::start()?;
        scheduler.signal(Signal::STOP)?;
        wait_for_state("disabled")?;
    }
    let after = until(&mut source, "the end is said", |all| !all.exits.is_empty())?;
    let (warnings, exit) = (&after.warnings, &after.exits[0]);
    ensure!(exit.kind == ExitKind::ErrorStall && exit.reason == "runnable task stall", "{exit:?}");
    let warning = warnings.last().with_context(|| format!("no warning before {exit:?}"))?;
    let [wait_ns, ahead_ns] = [warning.longest.wait_ns, exit.noticed_at_ns.abs_diff(warning.at_ns)];
    ensure!(
        (TIMEOUT_NS * 33 / 100..TIMEOUT_NS).contains(&wait_ns) && warning.timeout_ns == TIMEOUT_NS,
        "{warning:?}"
    );
    // The least there is: a third and a tenth of the timeout, when the kernel's own watchdog was about to look.
    ensure!(warning.at_ns < exit.noticed_at_ns && ahead_ns > TIMEOUT_NS / 50, "{warning:?} {exit:?}");
    // Where the kernel complains of the same task, the wait has grown as the time has.
    if let Some(theirs_ns) = kernels_wait_ns(&exit.msg, warning.longest.tid) {
        ensure!(
            theirs_ns.saturating_sub(wait_ns).abs_diff(ahead_ns) < TIMEOUT_NS / 5,
            "{warning:?} {exit:?}"
        );
    }
    ensure!(warning.ops == exit.ops && warning.enable_seq == exit.enable_seq, "{warning:?} {exit:?}");
    ensure!(
        warning.longest.tid > 0 && !warning.longest.comm.is_empty() && warning.waiting > 0,
        "{warning:?}"
    );
    ensure!(after.reading.state == State::Disabled && after.reading.margin.is_none(), "{:?}", after.reading);
    scheduler.signal(Signal::CONT)?;
    scheduler.wait()?;
    Ok(())
}

/// `comm[TID] failed to run for 5.120s`
fn kernels_wait_ns(msg: &str, tid: u32) -> Option<u64> {
    let (_, text) = msg.split_once(&format!("[{tid}] failed to run for "))?;
    let (seconds, millis) = text.strip_suffix('s')?.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + millis.parse::<u64>().ok()? * 1_000_000)
}

/// The control: a scheduler that works, under the same load, for as long as the other one had.
#[test]
fn watchdog_says_nothing_of_a_scheduler_that_works() -> Result<()> {
    undisturbed(|| {
        // An emulated machine beside other work may stand still for a third of the timeout with any scheduler.
        let patient = watchdog::Config { warn_percent: 50, ..watchdog::Config::default() };
        let mut source = watching_with(Config { watchdog: patient, ..Config::default() });
        let scheduler = Scheduler::start(Kind::Bpfland)?;
        until(&mut source, "there is a margin", is_measured)?;
        let _hogs = Hogs::start()?;
        let mut seen = 0;
        for _ in 0..80 {
            let Collection { reading, warnings, exits, .. } = source.collect(wall_ns(), 1);
            ensure!(warnings.is_empty() && exits.is_empty(), "{warnings:?} {exits:?}");
            if let Some(margin) = reading.margin.filter(|margin| margin.absent.is_none()) {
                // More tasks than CPUs: somebody always waits, for a few ticks.
                seen += u64::from(margin.waiting > Some(0) && margin.longest.is_some());
                ensure!(margin.share().is_some_and(|share| share < 0.5), "{margin:?}");
                ensure!(margin.longest.is_none_or(|wait| wait.pid > 0 && wait.cgroup_id > 0));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        ensure!(seen > 20, "those who wait were seen only {seen} times");
        scheduler.stop()?;
        let exit = until(&mut source, "the end is said", |all| !all.exits.is_empty())?;
        ensure!(exit.exits[0].kind == ExitKind::Unreg && exit.warnings.is_empty(), "{exit:?}");
        Ok(())
    })
}

/// More busy tasks than CPUs; killed in the end.
struct Hogs([Child; 4]);

impl Hogs {
    fn start() -> Result<Self> {
        let hog = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Ok(Self([hog()?, hog()?, hog()?, hog()?]))
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _gone_already = hog.kill();
            let _reaped = hog.wait();
        }
    }
}

/// Killed, the user-space part leaves a scheduler behind that runs nobody until the kernel notices.
#[test]
fn watchdog_after_a_kill_the_end_is_said_and_the_next_one_read() -> Result<()> {
    let mut source = watching();
    let mut scheduler = Scheduler::start(Kind::Rustland1_0_10)?;
    until(&mut source, "there is a margin", is_measured)?;
    scheduler.signal(Signal::KILL)?;
    wait_for_state("disabled")?;
    let after = until(&mut source, "the end is said", |all| !all.exits.is_empty())?;
    let exit = &after.exits[0];
    // A process that dies takes its links with it, at once or when the kernel notices that nobody runs.
    ensure!(matches!(exit.kind, ExitKind::Unreg | ExitKind::ErrorStall), "{exit:?}");
    let log = kernel_log()?;
    if exit.kind == ExitKind::ErrorStall {
        ensure!(!exit.msg.is_empty() && log.contains(&exit.msg), "{exit:?} is not in\n{log}");
        ensure!(after.warnings.len() == 1, "{:?}", after.warnings);
        ensure!(after.warnings[0].at_ns < exit.noticed_at_ns, "{after:?}");
    }
    ensure!(!scheduler.wait()?.success(), "it was killed");
    // The machine goes on, and so do we.
    let again = Scheduler::start(Kind::Rustland1_0_10)?;
    let epoch = until(&mut source, "the next one is read", |all| all.reading.epoch.is_some())?.reading.epoch;
    ensure!(epoch.context("an epoch")?.enable_seq == exit.enable_seq + 1, "{epoch:?}");
    again.stop()?;
    Ok(())
}

/// The whole road: node, spool, receiver.
#[test]
fn watchdog_warning_and_ejection_reach_the_receiver() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[])?;
    let name = ["--node-name", "stalled"];
    let args = [&["--receiver", &receiver.url, "--interval", "500ms"][..], &name].concat();
    let node = Role::start("node", &dir.path().join("node"), &args)?;
    eventually(PATIENCE, "the node is ready", || super::roles::curl(&format!("{}/readyz", node.url)))?;
    let mut scheduler = Scheduler::start(Kind::Rustland1_0_10)?;
    eventually(PATIENCE, "the node has a margin", || {
        let seen = ask(&node, "/api/v1/schedulers")?;
        ensure!(
            seen["watchdog"]["timeout_ns"] == TIMEOUT_NS && seen["watchdog"]["absent"].is_null(),
            "{seen}"
        );
        Ok(())
    })?;
    {
        let _load = Load::start()?;
        scheduler.signal(Signal::STOP)?;
        wait_for_state("disabled")?;
    }
    let history = eventually(PATIENCE, "the receiver hears of the ejection", || {
        let history = ask(&receiver, "/api/v1/nodes/stalled/scheduler")?;
        let ejected = history["exits"][0]["kind"] == "error_stall" && !history["warnings"][0].is_null();
        ensure!(ejected && history["scheduler"]["state"] == "disabled", "{history}");
        Ok(history)
    })?;
    let (warning, exit) = (&history["warnings"][0], &history["exits"][0]);
    ensure!(exit["reason"] == "runnable task stall", "{exit}");
    ensure!(warning["at_ns"].as_i64() < exit["noticed_at_ns"].as_i64(), "{warning} {exit}");
    let events = history["events"].as_array().context("a list")?;
    let counted = |name: &str| events.iter().any(|it| it["name"] == name && it["delta"].as_u64() > Some(0));
    ensure!(counted("SCX_EV_BYPASS_ACTIVATE") && !counted("SCX_EV_NONSENSE"), "{history}");
    let metrics = String::from_utf8(super::roles::curl(&format!("{}/metrics", node.url))?)?;
    ensure!(metrics.contains("sextant_scheduler_stall_warnings_total 1"), "{metrics}");
    let accounts = ask(&receiver, "/api/v1/nodes")?;
    ensure!(accounts["nodes"][0]["adds_up"] == Value::Bool(true), "{accounts}");
    scheduler.signal(Signal::CONT)?;
    scheduler.wait()?;
    ensure!(node.stop()? == Some(0) && receiver.stop()? == Some(0), "both stop in order");
    Ok(())
}
