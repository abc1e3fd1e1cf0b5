//! The whole road on a real kernel: a real scheduler's counters at the node's port and at the receiver, its end
//! said once, and the node's accounts adding up after all of it.
//!
//! No load but our own: on an emulated machine, a stressed user-space scheduler is ejected before a receiver has
//! heard of it.

#![expect(clippy::disallowed_methods, reason = "asks with curl")]

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use sextant_tests::role::{Role, eventually};
use sextant_tests::scheduler::{Kind, Scheduler, undisturbed};

/// Emulated machines are many times slower.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_schedulers_counters_and_its_end_reach_the_receiver() -> Result<()> {
    undisturbed(the_whole_road)
}

fn the_whole_road() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let receiver = Role::start("receiver", &dir.path().join("receiver"), &[])?;
    let node =
        Role::start("node", &dir.path().join("node"), &["--receiver", &receiver.url, "--interval", "500ms"])?;

    let absent = ask(&node, "/api/v1/schedulers")?;
    ensure!(absent["state"] == "disabled" && absent["ops"].is_null(), "before: {absent}");

    let scheduler = Scheduler::start(Kind::Rustland1_1_4)?;
    let pid = scheduler.pid();
    let seen = eventually(PATIENCE, "the node reads the scheduler", || {
        let seen = ask(&node, "/api/v1/schedulers")?;
        ensure!(dispatches(&seen["bss"]) > Some(0), "{seen}");
        Ok(seen)
    })?;
    ensure!(seen["name"] == "rustland" && seen["version"] == "1.1.4", "{seen}");
    ensure!(seen["user_pid"] == pid && seen["bss"]["usersched_pid"] == pid, "its own process: {seen}");
    ensure!(seen["bss_absent"].as_object().is_some_and(|absent| !absent.contains_key("nr_queued")), "{seen}");

    let first = at_receiver(&receiver)?;
    let grown = eventually(PATIENCE, "the receiver sees the counters grow", || {
        let now = at_receiver(&receiver)?;
        ensure!(dispatches(&now["scheduler"]) > dispatches(&first["scheduler"]), "{now}");
        Ok(now)
    })?;
    ensure!(grown["scheduler"]["name"] == "rustland", "{grown}");

    // The compatible shape: eleven numbers, none of them null.
    let compatible = ask(&node, "/api/v1/metrics")?;
    ensure!(compatible["success"] == true, "{compatible}");
    let data = &compatible["data"];
    let numbers = data.as_object().context("data")?;
    ensure!(numbers.values().all(Value::is_u64) && dispatches(data) > Some(0), "{compatible}");

    let text = String::from_utf8(curl(&format!("{}/status", node.url))?)?;
    ensure!(text.contains("rustland_1.1.4") && text.contains("nr_user_dispatches"), "{text}");
    let metrics = String::from_utf8(curl(&format!("{}/metrics", node.url))?)?;
    for name in ["sextant_scheduler_info", "sextant_scheduler_variable", "sextant_scheduler_event"] {
        ensure!(metrics.contains(name), "{name} is missing in:\n{metrics}");
    }

    scheduler.signal(Signal::INT)?;
    drop(scheduler);
    let ended = eventually(PATIENCE, "the receiver hears of the end", || {
        let now = at_receiver(&receiver)?;
        ensure!(now["last_exit"]["kind"] == "unreg" && now["scheduler"]["state"] == "disabled", "{now}");
        Ok(now)
    })?;
    ensure!(ended["last_exit"]["reason"] == "unregistered from user space", "{ended}");
    ensure!(ended["adds_up"] == true && ended["missing"] == 0 && ended["duplicates"] == 0, "{ended}");
    ensure!(node.stop()? == Some(0) && receiver.stop()? == Some(0), "both stop in order");
    Ok(())
}

/// Those of both halves: where a CPU is always idle, all tasks go there without user space being asked.
pub(super) fn dispatches(fields: &Value) -> Option<u64> {
    ["nr_user_dispatches", "nr_kernel_dispatches"].into_iter().map(|half| fields[half].as_u64()).sum()
}

/// The one node that the receiver knows.
fn at_receiver(receiver: &Role) -> Result<Value> {
    eventually(PATIENCE, "the receiver knows the node", || {
        let answer = ask(receiver, "/api/v1/nodes")?;
        match answer["nodes"].as_array().map(Vec::as_slice) {
            Some([node]) => Ok(node.clone()),
            _ => bail!("{answer}"),
        }
    })
}

pub(super) fn ask(role: &Role, path: &str) -> Result<Value> {
    let body = curl(&format!("{}{path}", role.url))?;
    serde_json::from_slice(&body)
        .with_context(|| format!("{path} gave no JSON: {}", String::from_utf8_lossy(&body)))
}

pub(super) fn curl(url: &str) -> Result<Vec<u8>> {
    let done = Command::new("curl").args(["-s", "--fail-with-body", "--max-time", "60", url]).output()?;
    ensure!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stdout));
    Ok(done.stdout)
}
