use std::fs;

use tempfile::TempDir;

use super::super::super::cgroup::describe;
use super::*;
use crate::domain::pod::Names;

const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const HASH: &str = "9729a196c4723b60ab401eaff722982d";
const ID: &str = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";
const SECOND: i64 = 1_000_000_000;

fn roots(dir: &TempDir) -> HostRoots {
    HostRoots { run: dir.path().join("run"), var: dir.path().join("var"), ..HostRoots::default() }
}

fn leaf(path: &str) -> Leaf {
    Leaf { place: describe(path), cgroup: path.to_owned(), ..Leaf::default() }
}

fn look_up(files: &mut Files, dir: &TempDir, memory: &mut Memory, leaf: &Leaf, at_s: i64) {
    files.look_up(&roots(dir), std::slice::from_ref(leaf), memory, at_s * SECOND);
}

#[test]
fn log_directories_name_pods_static_ones_too() {
    let dir = tempfile::tempdir().unwrap();
    for entry in [format!("kube-system_etcd-node1_{HASH}"), format!("shop_web-0_{UID}"), "_x_y".to_owned()] {
        fs::create_dir_all(dir.path().join("var/log/pods").join(entry)).unwrap();
    }
    let (mut files, mut memory) = (Files::default(), Memory::default());
    for uid in [UID, HASH] {
        look_up(&mut files, &dir, &mut memory, &leaf(&format!("/kubepods/burstable/pod{uid}/{ID}")), 0);
    }
    let etcd = &memory.table().pods[&PodUid(HASH.to_owned())];
    assert_eq!((&*etcd.namespace, &*etcd.name), ("kube-system", "etcd-node1"));
    assert_eq!(memory.table().pods[&PodUid(UID.to_owned())].name, "web-0");
}

#[test]
fn links_name_containers_where_the_runtime_keeps_no_bundle() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("var/log/containers")).unwrap();
    let link = format!("var/log/containers/web-0_shop_side-car-{ID}.log");
    fs::write(dir.path().join(link), "").unwrap();
    let mut memory = Memory::default();
    look_up(&mut Files::default(), &dir, &mut memory, &leaf(&format!("/docker/{ID}")), 0);
    let tables = [("files", memory.table())];
    assert_eq!(Names(&tables).container(&ContainerId(ID.to_owned())), Some("side-car"));
    for wrong in ["a.log", "a_b_c.log", "a_b_c-12.log", &format!("a_b_-{ID}.log"), &format!("a_b_c-{ID}")] {
        assert!(container_link(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn an_old_containerd_tells_no_uid_and_the_path_does() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(ID);
    fs::create_dir_all(&bundle).unwrap();
    let text = r#"{"annotations":{"io.kubernetes.cri.container-type":"container",
        "io.kubernetes.cri.container-name":"web","io.kubernetes.cri.sandbox-name":"web-0",
        "io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
    fs::write(bundle.join("config.json"), text).unwrap();
    let mut memory = Memory::default();
    look_up(&mut Files::default(), &dir, &mut memory, &leaf(&format!("/kubepods/pod{UID}/{ID}")), 0);
    assert_eq!(memory.table().pods[&PodUid(UID.to_owned())].name, "web-0");
    assert_eq!(memory.table().containers[&ContainerId(ID.to_owned())].name.as_deref(), Some("web"));
}

#[test]
fn a_name_that_comes_late_is_found_after_the_pause() {
    let dir = tempfile::tempdir().unwrap();
    let (mut files, mut memory) = (Files::default(), Memory::default());
    let leaf = leaf(&format!("/kubepods/pod{UID}/{ID}"));
    look_up(&mut files, &dir, &mut memory, &leaf, 0);
    fs::create_dir_all(dir.path().join(format!("var/log/pods/shop_web-0_{UID}"))).unwrap();
    look_up(&mut files, &dir, &mut memory, &leaf, 0);
    assert!(memory.table().pods.is_empty(), "the control: not asked again at once");
    look_up(&mut files, &dir, &mut memory, &leaf, 1);
    assert_eq!(memory.table().pods.len(), 1);
}

#[test]
fn logs_of_departed_pods_are_not_learnt() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..50 {
        fs::create_dir_all(dir.path().join(format!("var/log/pods/shop_web-{number}_{number:032x}"))).unwrap();
    }
    let mut memory = Memory::default();
    let leaf = leaf(&format!("/kubepods/pod{:032x}/{ID}", 7));
    look_up(&mut Files::default(), &dir, &mut memory, &leaf, 0);
    assert_eq!(memory.table().pods.len(), 1);
}
