//! Anomalies where a real scheduler and a real container runtime are.

#![expect(clippy::disallowed_methods, reason = "starts a process that writes")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::provoke::{CONFIG, KEY, allow, ask, workers};
use sextant_tests::role::{Role, eventually};
use sextant_tests::scheduler::{Kind, Scheduler, state};

use crate::containerd::{Containerd, Pod};

/// Emulated machines are many times slower.
const PATIENCE: Duration = Duration::from_secs(120);

fn node(dir: &Path) -> Result<Role> {
    allow(dir, "")?;
    let config = dir.join(CONFIG);
    Role::start("node", &dir.join("node"), &["--config", config.to_str().context("a path")?])
}

fn provoke(node: &Role, body: &Value) -> Result<(u32, Value)> {
    ask(&node.url, "POST", "/api/v1/anomalies", Some(body), Some(KEY))
}

#[test]
fn a_load_of_a_container_is_in_its_cgroup_and_its_class_and_dies_with_the_node() -> Result<()> {
    let runtime = Containerd::start()?;
    let uid = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
    let running = runtime.run(&Pod { name: "web-0", namespace: "shop", uid, container: "web" })?;
    let id = &running.container;
    let dir = tempfile::tempdir()?;
    let node = node(dir.path())?;
    let strength = json!({"percent": 5, "class": "ext"});
    let body = json!({"kind": "cpu", "target": {"container": id}, "strength": strength, "duration": 100});
    let view = eventually(PATIENCE, "the node knows the container", || {
        let (status, view) = provoke(&node, &body)?;
        ensure!(status == 201, "{view}");
        Ok(view)
    })?;
    let worker = workers(view["id"].as_str().context("id")?).pop().context("no worker")?;
    let group = fs::read_to_string(worker.join("cgroup"))?;
    ensure!(group.contains(id.as_str()), "in the container's group: {group}");
    let stat = fs::read_to_string(worker.join("stat"))?;
    // Behind the name: policy is the 39th of them, SCHED_EXT is 7.
    let policy = stat.rsplit(')').next().and_then(|words| words.split_whitespace().nth(38));
    ensure!(policy == Some("7"), "{stat}");
    node.kill()?;
    eventually(PATIENCE, "it dies with the node", || {
        ensure!(!worker.exists(), "{}", worker.display());
        Ok(())
    })?;
    runtime.remove(&running)
}

/// As asked, for the target alone, and not longer than its node: `io.max` is what the kernel would keep.
#[test]
fn a_disk_is_slow_by_io_max_for_its_group_until_the_node_is_killed() -> Result<()> {
    let tree = Path::new("/sys/fs/cgroup");
    fs::write(tree.join("cgroup.subtree_control"), "+io")?;
    let mut groups = HandMade::new(tree, "slow")?;
    fs::write(groups.path("cgroup.subtree_control"), "+io")?;
    let target = groups.sleepers("app", 1)?[0];
    groups.group("other")?;
    // Not /tmp, which is memory.
    let disk = tempfile::tempdir_in("/var/tmp")?;
    let limits = || fs::read_to_string(groups.path("app/io.max"));
    let write = |group: &str| wrote_within(&groups.path(group), disk.path());
    ensure!(limits()?.is_empty(), "{}", limits()?);
    let before = write("app")?;

    let dir = tempfile::tempdir()?;
    let node = node(dir.path())?;
    let strength = json!({"mode": "slow", "path": disk.path(), "write_bytes_per_s": WRITTEN_BYTES / 10});
    let body = json!({"kind": "disk", "target": {"pid": target}, "strength": strength, "duration": 300});
    let view = eventually(PATIENCE, "the node knows the process", || {
        let (status, view) = provoke(&node, &body)?;
        ensure!(status == 201, "{view}");
        Ok(view)
    })?;
    ensure!(limits()?.contains(&format!(" wbps={} ", WRITTEN_BYTES / 10)), "{}", limits()?);
    let (slow, beside) = (write("app")?, write("other")?);
    // Ten seconds' worth, less what the kernel lets through at once.
    ensure!(slow > Duration::from_secs(8), "{slow:?}, {before:?} before");
    ensure!(beside < slow / 2 && before < slow / 2, "{slow:?}, {before:?} before, {beside:?} beside");

    let id = view["id"].as_str().context("id")?.to_owned();
    ensure!(!workers(&id).is_empty(), "guardians");
    node.kill()?;
    eventually(PATIENCE, "the guardians undo it, and are gone", || {
        ensure!(limits()?.is_empty() && workers(&id).is_empty(), "{} {:?}", limits()?, workers(&id));
        Ok(())
    })?;
    let after = write("app")?;
    ensure!(after < slow / 2, "{slow:?}, {after:?} after");
    Ok(())
}

const WRITTEN_BYTES: u64 = 1 << 20;

/// How long a process of this group takes to write [`WRITTEN_BYTES`] past the page cache.
fn wrote_within(group: &Path, disk: &Path) -> Result<Duration> {
    let file = disk.join("written");
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec dd if=/dev/zero of={} bs=64k count={} oflag=direct",
        group.display(),
        file.display(),
        WRITTEN_BYTES >> 16
    );
    let began = Instant::now();
    let done = Command::new("sh").args(["-c", &script]).output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(began.elapsed())
}

#[test]
fn the_schedulers_own_process_is_spared_unless_forced_and_then_the_kernel_ejects() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let node = node(dir.path())?;
    let scheduler = Scheduler::start(Kind::Rustland1_1_4)?;
    let target = json!({"pid": scheduler.pid()});
    let mut body =
        json!({"kind": "process", "target": target, "strength": {"action": "pause"}, "duration": 20});
    let refused = eventually(PATIENCE, "the node knows whose process it is", || {
        let mut dry = body.clone();
        dry["dry_run"] = json!(true);
        let (status, answer) = provoke(&node, &dry)?;
        ensure!(status == 409, "{answer}");
        Ok(answer)
    })?;
    ensure!(refused.to_string().contains("force"), "{refused}");
    ensure!(state()? == "enabled", "nothing happened to it");
    body["force"] = json!(true);
    // Until the kernel ejects it nobody is scheduled, the node included: the answer may come too late for its client.
    let _too_late = provoke(&node, &body);
    eventually(PATIENCE, "the kernel ejects it", || {
        let now = state()?;
        ensure!(now == "disabled", "{now}");
        Ok(())
    })?;
    eventually(PATIENCE, "it is over, and nothing of it is left", || {
        ask(&node.url, "DELETE", "/api/v1/anomalies", None, Some(KEY))?;
        let (_, list) = ask(&node.url, "GET", "/api/v1/anomalies", None, None)?;
        let latest = &list["anomalies"][0];
        ensure!(latest["kind"] == "process" && latest["ended_at"].is_string(), "{list}");
        let left = workers(latest["id"].as_str().context("id")?);
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    ensure!(node.stop()? == Some(0), "stops in order");
    Ok(())
}
