use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::super::cgroup::describe;
use super::*;
use crate::domain::pod::{ContainerId, QosClass};
use crate::rpc;
use crate::rpc::fake::{message, serve};

const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const HASH: &str = "9729a196c4723b60ab401eaff722982d";
const MIRROR: &str = "0d08203e-255a-11e9-8cd9-0007cb0b2cc8";
const ID: &str = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";
const PAUSE: &str = "671a50f5d60566556912f61511d0ec9e4d5c78d53fbc4676727180438bbbbc55";
const SANDBOXES: &str = "/runtime.v1.RuntimeService/ListPodSandbox";

fn roots(dir: &TempDir) -> HostRoots {
    HostRoots { run: dir.path().join("run"), var: dir.path().join("var"), ..HostRoots::default() }
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn uid(uid: &str) -> PodUid {
    PodUid(uid.to_owned())
}

fn sandbox(id: &str, uid: &str, hash: Option<&str>) -> cri::Sandbox {
    cri::Sandbox {
        id: id.to_owned(),
        metadata: Some(cri::SandboxMetadata {
            name: "web-0".to_owned(),
            uid: uid.to_owned(),
            namespace: "shop".to_owned(),
        }),
        labels: map(&[("app", "web"), ("io.kubernetes.pod.name", "web-0")]),
        annotations: hash.map(|hash| map(&[("kubernetes.io/config.hash", hash)])).unwrap_or_default(),
    }
}

fn runtime(path: &str) -> Result<Vec<u8>, Status> {
    match path {
        SANDBOXES => message(&cri::Sandboxes {
            items: vec![
                sandbox(PAUSE, UID, None),
                sandbox("static", MIRROR, Some(HASH)),
                cri::Sandbox::default(),
            ],
        }),
        "/runtime.v1.RuntimeService/ListContainers" => message(&cri::Containers {
            containers: vec![cri::Container {
                id: ID.to_owned(),
                pod_sandbox_id: PAUSE.to_owned(),
                metadata: Some(cri::ContainerMetadata { name: "web".to_owned() }),
            }],
        }),
        other => Err(Status::unimplemented(other.to_owned())),
    }
}

fn pod(uid: &str, hash: Option<&str>) -> kubelet::Pod {
    kubelet::Pod {
        metadata: Some(kubelet::ObjectMeta {
            name: "web-0".to_owned(),
            namespace: "shop".to_owned(),
            uid: uid.to_owned(),
            labels: map(&[("app", "web")]),
            annotations: hash.map(|hash| map(&[("kubernetes.io/config.hash", hash)])).unwrap_or_default(),
        }),
        status: Some(kubelet::PodStatus {
            container_statuses: vec![kubelet::ContainerStatus {
                name: "web".to_owned(),
                container_id: format!("containerd://{ID}"),
            }],
            qos_class: "Burstable".to_owned(),
            ephemeral_container_statuses: vec![kubelet::ContainerStatus {
                name: "debug".to_owned(),
                container_id: "containerd://eph".to_owned(),
            }],
            ..kubelet::PodStatus::default()
        }),
    }
}

#[tokio::test]
async fn cri_names_pods_containers_and_sandboxes() {
    let dir = tempfile::tempdir().unwrap();
    let error = cri::list(&roots(&dir)).await.unwrap_err();
    assert!(matches!(error, rpc::RpcError::Absent { .. }), "{error}");
    // The last of the sockets: order decides only where several exist.
    let _fake = serve(&dir.path().join("run/crio/crio.sock"), |path, _| runtime(path));
    let table = cri::list(&roots(&dir)).await.unwrap();
    let named = &table.pods[&uid(UID)];
    assert_eq!((&*named.namespace, &*named.name), ("shop", "web-0"));
    assert_eq!(named.labels.iter().collect::<Vec<_>>(), [(&"app".to_owned(), &"web".to_owned())]);
    assert!(table.pods.contains_key(&uid(HASH)) && !table.pods.contains_key(&uid(MIRROR)), "joined by hash");
    let container = &table.containers[&ContainerId(ID.to_owned())];
    assert_eq!((container.name.as_deref(), container.sandbox), (Some("web"), false));
    assert_eq!(container.pod, Some(uid(UID)));
    assert!(table.containers[&ContainerId(PAUSE.to_owned())].sandbox);
}

#[tokio::test]
async fn the_kubelet_names_static_pods_by_hash_and_is_asked_for_few_fields() {
    let dir = tempfile::tempdir().unwrap();
    let alpha = dir.path().join("var/lib/kubelet/pods/kubelet.sock");
    let beta = dir.path().join("var/lib/kubelet/pods-api/pods-api.sock");
    for socket in [alpha, beta] {
        let _fake = serve(&socket, |path, headers| {
            assert!(headers["x-kubernetes-fieldmask"].to_str().unwrap().starts_with("metadata.name,"));
            assert_eq!(path, "/v1alpha1.Pods/ListPods");
            message(&kubelet::ListPodsResponse { pods: vec![pod(UID, None), pod(MIRROR, Some(HASH))] })
        });
        let table = kubelet::list(&roots(&dir)).await.unwrap();
        assert_eq!(table.pods.len(), 2);
        assert_eq!(table.pods[&uid(HASH)].qos, Some(QosClass::Burstable));
        let names: Vec<_> =
            ["eph", ID].map(|id| table.containers[&ContainerId(id.to_owned())].name.clone()).into();
        assert_eq!(names, [Some("debug".to_owned()), Some("web".to_owned())]);
    }
}

#[tokio::test]
async fn a_graduated_or_maskless_kubelet_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("var/lib/kubelet/pods-api/pods-api.sock");
    let fake = serve(&socket, |path, _| match path {
        "/v1.Pods/ListPods" => message(&kubelet::ListPodsResponse { pods: vec![pod(UID, None)] }),
        other => Err(Status::unimplemented(other.to_owned())),
    });
    assert_eq!(kubelet::list(&roots(&dir)).await.unwrap().pods.len(), 1);
    drop(fake);
    let _fake = serve(&socket, |_, headers| match headers.get("x-kubernetes-fieldmask") {
        Some(_) => Err(Status::invalid_argument("no such field")),
        None => message(&kubelet::ListPodsResponse { pods: vec![pod(UID, None)] }),
    });
    assert_eq!(kubelet::list(&roots(&dir)).await.unwrap().pods.len(), 1);
}

#[tokio::test]
async fn errors_and_lies_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("var/lib/kubelet/pods-api/pods-api.sock");
    for (code, answer) in [
        (Code::FailedPrecondition, Err(Status::failed_precondition("not synced"))),
        (Code::Unavailable, Err(Status::unavailable("starting"))),
        (Code::Internal, Ok(b"\xff\xff\xff".to_vec())),
        (Code::OutOfRange, Ok(vec![0; 17 * 1024 * 1024])),
    ] {
        let _fake = serve(&socket, move |_, _| answer.clone());
        let error = kubelet::list(&roots(&dir)).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
    }
    // A socket file that nobody listens on.
    let error = kubelet::list(&roots(&dir)).await.unwrap_err();
    assert!(matches!(error, rpc::RpcError::Connect { .. }), "{error}");
}

fn leaf(path: &str) -> Leaf {
    Leaf { place: describe(path), cgroup: path.to_owned(), ..Leaf::default() }
}

/// Walks, a second of wall time each, until `check` holds.
async fn until(
    names: &mut NameSources,
    at_s: &mut i64,
    leaves: &[Leaf],
    check: impl Fn(&NameSources) -> bool,
) {
    while !check(names) {
        *at_s += 1;
        assert!(*at_s < 100_000, "never");
        names.look_up(leaves, *at_s * 1_000_000_000);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Fast enough for a test; never so fast that it stops being a pause.
const PACE: poller::Pace = poller::Pace {
    pause: Duration::from_millis(5),
    longest: Duration::from_millis(20),
    refresh: Duration::from_secs(3600),
};

fn spawn_pollers(names: &mut NameSources, dir: &TempDir) -> CancellationToken {
    let cancel = CancellationToken::new();
    for ends in names.connect(|_| true) {
        tokio::spawn(poller::poll(ends, PACE, roots(dir), || 7, cancel.clone()));
    }
    cancel
}

fn condition(names: &NameSources, source: &str) -> Condition {
    names.health(0, 0).into_iter().find(|health| health.name == source).unwrap().condition
}

#[tokio::test]
async fn a_socket_that_comes_late_is_found_and_one_that_fails_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = NameSources::new(roots(&dir));
    let _stop = spawn_pollers(&mut names, &dir).drop_guard();
    let (pod, mut at_s) = ([leaf(&format!("/kubepods/pod{UID}/{ID}"))], 0);
    until(&mut names, &mut at_s, &pod, |names| condition(names, "pod_names/cri") == Condition::Off).await;
    let off = names.health(0, 0).pop().unwrap();
    assert!(off.lacks[0].contains("kubelet") && off.last_error.is_none(), "absent is no error: {off:?}");
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    let fake = serve(&dir.path().join("run/containerd/containerd.sock"), move |path, _| {
        counted.fetch_add(usize::from(path == SANDBOXES), Ordering::Relaxed);
        runtime(path)
    });
    until(&mut names, &mut at_s, &pod, |names| names.name_of(&uid(UID)).is_some()).await;
    assert_eq!(names.tables()[1].0, "cri");
    let listed = lists.load(Ordering::Relaxed);
    for _ in 0..100 {
        at_s += 1;
        names.look_up(&pod, at_s * 1_000_000_000);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(lists.load(Ordering::Relaxed) <= listed + 1, "nothing is lacking: not asked again");
    drop(fake);
    // The control for that: a pod that no list had makes it ask, which now fails.
    let other = [leaf(&format!("/kubepods/pod{MIRROR}/{ID}"))];
    until(&mut names, &mut at_s, &other, |names| condition(names, "pod_names/cri") == Condition::Degraded)
        .await;
    assert!(names.name_of(&uid(UID)).is_some(), "names outlive their source");
}

#[test]
fn the_files_source_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let names = NameSources::new(roots(&dir));
    let health = names.health(5, 0);
    assert_eq!((health[0].name, health[0].condition), ("pod_names/files", Condition::Off));
    std::fs::create_dir_all(Path::new(&roots(&dir).var).join("log/pods")).unwrap();
    assert_eq!(names.health(5, 0)[0].condition, Condition::Up);
    assert_eq!(names.health(5, 3)[0].condition, Condition::Degraded);
}

#[test]
fn only_what_is_new_is_news() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    let mut names = NameSources::new(roots(&dir));
    let pod = [leaf(&format!("/kubepods/pod{UID}/{ID}"))];
    names.look_up(&pod, 0);
    assert!(!names.have_news(), "nobody names it");
    std::fs::create_dir_all(roots(&dir).var.join(format!("log/pods/default_web_{UID}"))).unwrap();
    names.look_up(&pod, HOUR_NS);
    assert!(names.have_news());
    names.told();
    names.look_up(&pod, 2 * HOUR_NS);
    assert!(!names.have_news(), "a map has it already");
}
