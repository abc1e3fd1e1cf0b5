//! The pod map of a real kernel, and of a real container runtime.
//! Those without containerd run on any kernel: `cargo test -p sextant-tests --features vm pods` as root.

#![expect(clippy::disallowed_methods, reason = "a test starts processes and waits in real time")]

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sextant::domain::pod::{CgroupKind, Container, PodMap, PodUid, QosClass};
use sextant::host::HostRoots;
use sextant::sources::pods::{Config, PodsSource, run};
use sextant_tests::hand_made::HandMade;
use sextant_tests::role::{Role, eventually};

use crate::containerd::{Containerd, Pod};

const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const HASH: &str = "9729a196c4723b60ab401eaff722982d";
const ID: &str = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";
const PATIENCE: Duration = Duration::from_secs(120);

/// Containers that were made here, whatever else runs on this machine.
fn own<'a>(map: &'a PodMap, made: &HandMade) -> Vec<&'a Container> {
    let below = made.cgroup("");
    let containers = map.pods.iter().flat_map(|pod| &pod.containers);
    containers.filter(|container| container.cgroup.starts_with(&below)).collect()
}

fn pids(map: &PodMap, made: &HandMade) -> Vec<u32> {
    let tasks = own(map, made).into_iter().flat_map(|container| &container.tasks);
    let mut pids: Vec<u32> = tasks.map(|task| task.key.pid).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn pods_in_every_hierarchy_of_this_kernel_are_what_was_made() -> Result<()> {
    for hierarchy in HandMade::hierarchies()? {
        let mut made = HandMade::new(&hierarchy, "map")?;
        let container = format!("kubepods/burstable/pod{UID}/{ID}");
        let mut expected = made.sleepers(&container, 5)?;
        expected.extend(made.sleepers(&format!("{container}/below/deeper"), 3)?);
        let roots = HostRoots { cgroup: hierarchy.clone(), ..HostRoots::default() };
        let mut source = PodsSource::new(roots, Config::default());
        let map = source.collect(1);
        expected.sort_unstable();
        ensure!(pids(&map, &made) == expected, "{}: {map:?}", hierarchy.display());
        let found = *own(&map, &made).first().context("no container")?;
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(made.path(&container))?);
        ensure!((found.cgroup_id, &found.cgroup) == (inode, &made.cgroup(&container)));
        ensure!(found.tasks.iter().all(|task| task.ppid == std::process::id() && &*task.comm == "sleep"));
        ensure!(map.pods.iter().all(|pod| pod.qos == QosClass::Burstable) && map.skipped.is_empty());
        ensure!(map.host.tasks > 10, "kernel threads and this test: {}", map.host.tasks);

        // What ends is gone at the next walk, and what begins is there: in the same groups, and in a new one.
        made.kill(expected.remove(0))?;
        let other = container.replace("6a4ce4a0", "7a4ce4a0");
        expected.extend(made.sleepers(&other, 2)?);
        expected.extend(made.sleepers(&container, 1)?);
        expected.sort_unstable();
        let map = source.collect(2);
        ensure!(
            pids(&map, &made) == expected && own(&map, &made).len() == 2,
            "{}: {map:?}",
            hierarchy.display()
        );
    }
    Ok(())
}

#[test]
fn pods_reused_pid_is_another_task() -> Result<()> {
    let hierarchy = HandMade::hierarchies()?.remove(0);
    let mut made = HandMade::new(&hierarchy, "reuse")?;
    let container = format!("kubepods/pod{UID}/{ID}");
    let pid = made.sleepers(&container, 1)?.remove(0);
    let mut source =
        PodsSource::new(HostRoots { cgroup: hierarchy, ..HostRoots::default() }, Config::default());
    let task_of = |map: &PodMap, made: &HandMade| {
        own(map, made).first().and_then(|container| container.tasks.first()).cloned().context("no task yet")
    };
    let before = task_of(&source.collect(1), &made)?;
    made.kill(pid)?;
    // The kernel gives out the next free pid after this one; others may be faster, so it is tried again.
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string())?;
        let again = Reused(Command::new("tail").args(["-f", "/dev/null"]).spawn()?);
        if again.0.id() != pid {
            continue;
        }
        fs::write(made.path(&container).join("cgroup.procs"), pid.to_string())?;
        // The child is made by a fork of this test, and has its own name only after its exec.
        let after = eventually(PATIENCE, "the new task", || {
            let task = task_of(&source.collect(2), &made)?;
            ensure!(&*task.comm == "tail", "still {}", task.comm);
            Ok(task)
        })?;
        ensure!(after.key.pid == before.key.pid && after.key != before.key, "{before:?} {after:?}");
        return Ok(());
    }
    anyhow::bail!("pid {pid} was never given out again")
}

struct Reused(Child);

impl Drop for Reused {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

/// After a storm of short processes the map equals what the kernel says.
#[test]
fn pods_survive_a_storm_of_forks() -> Result<()> {
    let hierarchy = HandMade::hierarchies()?.remove(0);
    let mut made = HandMade::new(&hierarchy, "storm")?;
    let container = format!("kubepods/pod{UID}/{ID}");
    let mut expected = made.sleepers(&container, 3)?;
    let mut source =
        PodsSource::new(HostRoots { cgroup: hierarchy, ..HostRoots::default() }, Config::default());
    let procs = made.path(&container).join("cgroup.procs");
    let storm = format!("echo $$ > {} && for i in $(seq 500); do /bin/true; done", procs.display());
    let mut storm = Reused(Command::new("sh").args(["-c", &storm]).spawn()?);
    let mut walks = 0;
    while storm.0.try_wait()?.is_none() {
        let map = source.collect(walks);
        ensure!(map.skipped.is_empty(), "a vanished process is no error: {:?}", map.skipped);
        walks += 1;
    }
    expected.sort_unstable();
    let map = source.collect(walks);
    ensure!(pids(&map, &made) == expected, "after {walks} walks: {map:?}");
    Ok(())
}

fn container(map: &PodMap, kind: CgroupKind) -> Result<&Container> {
    let pod = map.pods.first().context("no pod")?;
    let mut found = pod.containers.iter().filter(|container| container.kind == kind);
    found.next().with_context(|| format!("no {} in {pod:?}", kind.name()))
}

#[test]
fn pods_of_containerd_have_their_names() -> Result<()> {
    let runtime = Containerd::start()?;
    let roots = HostRoots::default();
    let mut source = PodsSource::new(roots.clone(), Config::default());
    ensure!(source.collect(1).pods.is_empty(), "the control: nothing runs yet");

    let pod = runtime.run(&Pod { name: "web-0", namespace: "shop", uid: UID, container: "web" })?;
    // Files alone: what containerd wrote beside the container.
    let map = source.collect(2_000_000_000);
    let found = &map.pods[0];
    ensure!(found.uid.0 == UID && found.qos == QosClass::Burstable, "{found:?}");
    ensure!(
        (found.name.as_deref(), found.namespace.as_deref()) == (Some("web-0"), Some("shop")),
        "{found:?}"
    );
    ensure!(found.named_by == Some("files") && found.labels.is_empty());
    let web = container(&map, CgroupKind::Container)?;
    ensure!(web.id.as_ref().is_some_and(|id| id.0 == pod.container) && web.name.as_deref() == Some("web"));
    ensure!(web.tasks.len() == 1, "{web:?}");
    let sandbox = container(&map, CgroupKind::Sandbox)?;
    ensure!(sandbox.id.as_ref().is_some_and(|id| id.0 == pod.sandbox) && sandbox.name.is_none());

    // With the socket: labels too.
    let labels = with_rpc(&roots, |map| {
        let pod = map.pods.first().context("no pod")?;
        ensure!(pod.named_by == Some("cri"), "named by {:?}", pod.named_by);
        Ok(pod.labels.clone())
    })?;
    ensure!(labels.into_iter().collect::<Vec<_>>() == [("app".to_owned(), "web".to_owned())]);

    // Through the binary, as a person asks.
    let dir = tempfile::tempdir()?;
    let node = Role::start("node", dir.path(), &[])?;
    let answer = eventually(PATIENCE, "the pod in the answer", || {
        let output =
            Command::new("curl").args(["-sf", &format!("{}/api/v1/pods/pids", node.url)]).output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(text.contains("web-0"), "{text}");
        Ok(text)
    })?;
    for expected in [r#""pod_name":"web-0""#, r#""namespace":"shop""#, UID, &pod.container] {
        ensure!(answer.replace("\": ", "\":").contains(expected), "{expected} in {answer}");
    }
    node.stop()?;

    runtime.remove(&pod)?;
    let map = source.collect(3_000_000_000);
    ensure!(map.pods.is_empty(), "removed: {map:?}");
    let uid = PodUid(UID.to_owned());
    ensure!(source.name_of(&uid) == Some(("shop".to_owned(), "web-0".to_owned())), "departed, not forgotten");
    Ok(())
}

#[test]
fn pods_of_containerd_include_static_ones() -> Result<()> {
    let runtime = Containerd::start()?;
    let pod = Pod { name: "etcd-node1", namespace: "kube-system", uid: HASH, container: "etcd" };
    let made = runtime.run(&pod)?;
    let map = PodsSource::new(HostRoots::default(), Config::default()).collect(1);
    let found = map.pods.first().context("no pod")?;
    ensure!(found.uid.is_static() && found.name.as_deref() == Some("etcd-node1"), "{found:?}");
    runtime.remove(&made)
}

/// Runs the source as a task until `check` is content.
fn with_rpc<T>(roots: &HostRoots, check: impl Fn(&PodMap) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (out, maps) = tokio::sync::watch::channel(Arc::new(PodMap::default()));
    let (health, _states) = tokio::sync::watch::channel(Vec::new());
    let cancel = tokio_util::sync::CancellationToken::new();
    let source = PodsSource::new(roots.clone(), Config::default());
    let task = runtime.spawn(run(source, || 1, out, health, cancel.clone()));
    let found = eventually(PATIENCE, "the map", || check(&maps.borrow()));
    cancel.cancel();
    runtime.block_on(task)??;
    found
}
