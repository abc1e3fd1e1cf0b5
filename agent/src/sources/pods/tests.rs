//! Whole walks over recorded hosts: each family of drivers and runtimes, and what goes wrong on real nodes.

use std::fs;
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::domain::pod::{CgroupKind, QosClass, Runtime};
use crate::domain::source::Condition;
use host::FakeHost;

pub(super) mod host;

const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const HASH: &str = "9729a196c4723b60ab401eaff722982d";
const APP: &str = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";
const PAUSE: &str = "671a50f5d60566556912f61511d0ec9e4d5c78d53fbc4676727180438bbbbc55";
const NODE: &str = "8afe480d66074930353da456a1344caca810fe31c1e31f6e08c95a66887235d6";

fn source(host: &FakeHost) -> PodsSource {
    PodsSource::new(host.roots(), Config::default())
}

/// (pod, container, pids) of every container that holds a process.
fn seen(map: &PodMap) -> Vec<(&str, Option<&str>, CgroupKind, Vec<u32>)> {
    let containers =
        map.pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
    containers
        .filter(|(_, container)| !container.tasks.is_empty())
        .map(|(pod, container)| {
            let pids = container.tasks.iter().map(|task| task.key.pid).collect();
            (pod.uid.0.as_str(), container.id.as_ref().map(|id| id.0.as_str()), container.kind, pids)
        })
        .collect()
}

/// Every family: (hierarchy, group of the app, group of the sandbox, runtime, QoS).
#[test]
fn every_driver_runtime_and_version_gives_the_same_pod() {
    let low = UID.replace('-', "_");
    let systemd = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice");
    let cgroupfs = format!("/kubepods/burstable/pod{UID}");
    let kind = format!(
        "/docker/{NODE}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice\
                        /kubelet-kubepods-burstable-pod{low}.slice"
    );
    let mismatch = format!("/system.slice/containerd.service/kubepods-burstable-pod{low}.slice");
    let families = [
        (
            "",
            format!("{systemd}/cri-containerd-{APP}.scope"),
            format!("{systemd}/cri-containerd-{PAUSE}.scope"),
            Some(Runtime::Containerd),
        ),
        (
            "",
            format!("{systemd}/crio-{APP}.scope/container"),
            format!("{systemd}/crio-{PAUSE}"),
            Some(Runtime::Crio),
        ),
        (
            "",
            format!("{systemd}/docker-{APP}.scope"),
            format!("{systemd}/docker-{PAUSE}.scope"),
            Some(Runtime::Docker),
        ),
        ("pids", format!("{cgroupfs}/{APP}"), format!("{cgroupfs}/{PAUSE}"), None),
        ("memory", format!("{cgroupfs}/crio-{APP}"), format!("{cgroupfs}/crio-{PAUSE}"), Some(Runtime::Crio)),
        (
            "unified",
            format!("{kind}/cri-containerd-{APP}.scope"),
            format!("{kind}/cri-containerd-{PAUSE}.scope"),
            Some(Runtime::Containerd),
        ),
        (
            "systemd",
            format!("{mismatch}:cri-containerd:{APP}"),
            format!("{mismatch}:cri-containerd:{PAUSE}"),
            Some(Runtime::Containerd),
        ),
    ];
    for (hierarchy, app, sandbox, runtime) in families {
        let host = FakeHost::new();
        host.task(1, "systemd");
        host.task(20, "pause");
        host.task(21, "tmux: server");
        host.task(22, "a) R 9");
        host.group(hierarchy, "/system.slice/sshd.service", &[1]);
        host.group(hierarchy, &sandbox, &[20]);
        host.group(hierarchy, &app, &[21, 22]);
        let map = source(&host).collect(5);
        let expected = [
            (UID, Some(APP), CgroupKind::Container, vec![21, 22]),
            (UID, Some(PAUSE), CgroupKind::Sandbox, vec![20]),
        ];
        let mut found = seen(&map);
        found.sort_by_key(|(_, id, ..)| *id);
        assert_eq!(found, expected, "{app}");
        let pod = &map.pods[0];
        assert_eq!(pod.qos, QosClass::Burstable);
        let container =
            pod.containers.iter().find(|container| container.kind == CgroupKind::Container).unwrap();
        assert_eq!(container.runtime, runtime, "{app}");
        assert_eq!((&*container.tasks[0].comm, container.tasks[0].ppid), ("tmux: server", 1));
        assert_eq!((map.host.tasks, map.host.threads), (1, 3));
        assert!(map.skipped.is_empty());
    }
}

#[test]
fn names_come_from_files_static_pods_too() {
    let host = FakeHost::new();
    host.task(20, "pause");
    host.task(21, "etcd");
    host.group("", &format!("/kubepods/burstable/pod{HASH}/{PAUSE}"), &[20]);
    host.group("", &format!("/kubepods/burstable/pod{HASH}/{APP}"), &[21]);
    host.log_directory("kube-system", "etcd-node1", HASH);
    host.bundle(APP, "container", "etcd");
    let mut source = source(&host);
    let map = source.collect(5);
    let pod = &map.pods[0];
    assert!(pod.uid.is_static());
    assert_eq!((pod.name.as_deref(), pod.namespace.as_deref()), (Some("etcd-node1"), Some("kube-system")));
    assert_eq!(pod.named_by, Some("files"));
    let names: Vec<_> = pod.containers.iter().map(|container| container.name.as_deref()).collect();
    assert_eq!(names, [Some("etcd"), None]);
    assert_eq!(source.name_of(&pod.uid), Some(("kube-system".to_owned(), "etcd-node1".to_owned())));
}

#[test]
fn monitors_node_containers_and_plain_containers_are_no_workload_of_a_pod() {
    let host = FakeHost::new();
    for pid in 10..15 {
        host.task(pid, "x");
    }
    host.group("", &format!("/kubepods/pod{UID}/crio-conmon-{APP}"), &[10]);
    host.group("", &format!("/docker/{NODE}/system.slice/kubelet.service"), &[11]);
    host.group("", &format!("/machine.slice/libpod-{PAUSE}.scope/container"), &[12]);
    host.group("", "/libpod_parent/conmon", &[13]);
    host.group("", "/user.slice/user-0.slice/session-3.scope", &[14]);
    let map = source(&host).collect(5);
    assert_eq!(seen(&map), [(UID, Some(APP), CgroupKind::Conmon, vec![10])]);
    let outside: Vec<_> = map.host.containers.iter().map(|c| (c.kind, c.runtime, c.tasks.len())).collect();
    let expected = [
        (CgroupKind::Container, None, 0),
        (CgroupKind::NestedService, None, 1),
        (CgroupKind::Container, Some(Runtime::Podman), 1),
    ];
    assert_eq!(outside, expected);
    assert_eq!(map.host.tasks, 2);
}

#[test]
fn the_generation_grows_with_the_content_only() {
    let host = FakeHost::new();
    host.task(21, "sleep");
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[21]);
    let mut source = source(&host);
    let first = source.collect(1);
    let second = source.collect(2);
    assert_eq!((second.generation, second.at_ns), (first.generation, 2), "nothing happened");
    host.task(22, "sleep");
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[21, 22]);
    let third = source.collect(3);
    assert_eq!(third.generation, second.generation + 1);
    host.log_directory("shop", "web-0", UID);
    let named = source.collect(2_000_000_003);
    assert_eq!((named.generation, named.pods[0].name.as_deref()), (third.generation + 1, Some("web-0")));
}

#[test]
fn what_vanishes_is_no_error_and_what_cannot_be_read_is_counted() {
    let host = FakeHost::new();
    host.task(21, "sleep");
    host.task(22, "sleep");
    fs::write(host.path("proc/22/stat"), "nonsense").unwrap();
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[21, 22, 23]);
    let mut source = source(&host);
    let map = source.collect(5);
    assert_eq!(seen(&map)[0].3, [21]);
    assert_eq!(map.skipped, [("malformed", 1)]);
    let health = &source.health()[0];
    assert_eq!((health.condition, health.lacks.len()), (Condition::Degraded, 1));
    // The control: 23, which does not exist, is not among them.
    host.task(22, "sleep");
    let map = source.collect(6);
    assert!(map.skipped.is_empty() && seen(&map)[0].3 == [21, 22]);
    assert_eq!(source.health()[0].condition, Condition::Up);
}

#[test]
fn a_foreign_pid_namespace_is_said_with_the_remedy() {
    let host = FakeHost::new();
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[0, 0]);
    let mut source = source(&host);
    let map = source.collect(5);
    assert!(seen(&map).is_empty() && map.pods.len() == 1, "the pod is there, its processes are not");
    let health = &source.health()[0];
    assert_eq!(health.condition, Condition::Degraded);
    assert!(health.lacks[0].starts_with("2 processes") && health.lacks[0].contains("hostPID"), "{health:?}");
}

#[test]
fn without_a_cgroup_tree_the_source_is_off_and_comes_back() {
    let host = FakeHost::new();
    let mut source = source(&host);
    let map = source.collect(5);
    assert_eq!(map.at_ns, 0, "no walk, no time");
    let health = &source.health()[0];
    assert_eq!((health.condition, health.failures), (Condition::Off, 1));
    assert!(health.lacks[0].contains("mount") && health.last_error.is_some());
    host.task(21, "sleep");
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[21]);
    assert_eq!(source.collect(6).pods.len(), 1);
    assert_eq!(source.health()[0].condition, Condition::Up);
    fs::remove_dir_all(host.path("proc")).unwrap();
    let missing = PodsSource::new(host.roots(), Config::default()).tap_collect();
    assert_eq!(missing.health()[0].condition, Condition::Off);
}

impl PodsSource {
    fn tap_collect(mut self) -> Self {
        self.collect(1);
        self
    }
}

#[tokio::test]
async fn the_task_publishes_maps_and_states_until_cancelled() {
    let host = FakeHost::new();
    host.task(21, "sleep");
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[21]);
    let config = Config { interval_ms: 100, ..Config::default() };
    let (out, mut maps) = watch::channel(Arc::new(PodMap::default()));
    let (health_out, health) = watch::channel(Vec::new());
    let cancel = tokio_util::sync::CancellationToken::new();
    let task = run(PodsSource::new(host.roots(), config), || 42, out, health_out, cancel.clone());
    let task = tokio::spawn(task);
    for _ in 0..2 {
        tokio::time::timeout(Duration::from_secs(60), maps.changed()).await.unwrap().unwrap();
    }
    assert_eq!((maps.borrow().pods.len(), maps.borrow().at_ns), (1, 42));
    let names: Vec<_> = health.borrow().iter().map(|health| health.name).collect();
    assert_eq!(names, ["pods", "pod_names/files", "pod_names/cri", "pod_names/kubelet"]);
    cancel.cancel();
    task.await.unwrap().unwrap();
}

#[test]
fn metrics_are_registered_under_plain_names() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let host = FakeHost::new();
    host.task(21, "sleep");
    host.group("", &format!("/kubepods/pod{UID}/{APP}"), &[21]);
    source(&host).with_metrics(metrics).collect(5);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in ["pods 1", "pod_tasks 1", "pods_walks_total 1", "pods_skipped{reason=\"permission\"} 0"] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn configuration_refuses_unknown_keys() {
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    assert_eq!(toml::from_str::<Config>("interval_ms = 500").unwrap().interval_ms, 500);
    assert!(toml::from_str::<Config>("intervall_ms = 500").is_err());
}

#[test]
fn room_for_events_goes_by_the_cpus() {
    let ring_bytes = |events_bytes, cpus| Config { events_bytes, ..Config::default() }.ring_bytes(cpus);
    let by_cpus = [0, 1, 2, 3, 4, 64, usize::MAX].map(|cpus| ring_bytes(0, cpus) >> 10);
    assert_eq!(by_cpus, [256, 256, 512, 1_024, 1_024, 1_024, 1_024]);
    assert_eq!(ring_bytes(4_096, 64), 4_096);
}
