use proptest::prelude::*;

use super::*;
use crate::domain::pod::{CgroupKind, QosClass};

const ROWS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/cgroup_paths.psv"));

/// (path, what the table says) of each row; `-` is null, `?` is unknown.
fn rows() -> Vec<(String, [Option<String>; 4], String)> {
    let cell = |text: &str| match text {
        "-" => None,
        "?" => Some("unknown".to_owned()),
        text => Some(text.to_owned()),
    };
    let row = |line: &str| {
        let f: Vec<&str> = line.split('|').collect();
        (f[0].to_owned(), [cell(f[1]), cell(f[2]), cell(f[3]), cell(f[4])], f[5].to_owned())
    };
    ROWS.lines().filter(|line| !line.starts_with('#')).map(row).collect()
}

fn said(path: &str) -> ([Option<String>; 4], String) {
    let said = describe(path);
    let words = [
        said.pod_uid.map(|uid| uid.0),
        said.container_id.map(|id| id.0),
        said.runtime.map(|runtime| runtime.name().to_owned()),
        said.qos.map(|qos| qos.name().to_owned()),
    ];
    (words, said.kind.name().to_owned())
}

#[test]
fn every_row_of_the_table() {
    let rows = rows();
    assert_eq!(rows.len(), 42);
    for (path, expected, kind) in rows {
        assert_eq!(said(&path), (expected, kind), "{path}");
    }
}

/// The negative control: a parser that takes the leftmost pod or guesses QoS would pass none of these.
#[test]
fn what_other_parsers_get_wrong() {
    let id = "40c03570b6f4c30bc8d69923d37ee698f5cfcced92c7b7df1c47f6f7887378a9";
    let outer = "8afe480d66074930353da456a1344caca810fe31c1e31f6e08c95a66887235d6";
    let uid = "a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80";
    let nested = format!("/kubepods/pod{}/{outer}/kubelet/kubepods/burstable/pod{uid}/{id}", "9".repeat(32));
    let place = describe(&nested);
    assert_eq!(place.pod_uid.unwrap().0, uid, "the inner pod");
    assert_eq!(place.container_id.unwrap().0, id, "the inner container");
    let desktop = describe(&format!("/docker/{outer}/kubepods/kubepods/besteffort/pod{uid}/{id}"));
    assert_eq!(desktop.qos, Some(QosClass::BestEffort), "Docker Desktop repeats kubepods");
    for host in [
        "/user.slice/user-0.slice/session-3.scope",
        "/user.slice/vte-spawn-a2830d0d-b0f0-4ff0-81b5-0ee4e299cf80.scope",
        "/podruntime/kubelet",
        "/lxc.payload.web",
        &format!("/system.slice/{id}.mount"),
        &format!("/system.slice/xpod{uid}"),
        &format!("/system.slice/pod{uid}x"),
        &"/x".repeat(4096),
    ] {
        assert_eq!(describe(host), CgroupRef::default(), "{host}");
    }
    let crio = format!("/kubepods.slice/kubepods-pod{}.slice/crio-{id}", uid.replace('-', "_"));
    assert_eq!(describe(&crio).kind, CgroupKind::Sandbox, "no .scope below a slice");
    assert_eq!(describe(&format!("{crio}.scope")).kind, CgroupKind::Container);
    let mismatch = format!("/kubepods-burstable-pod{}.slice:crio:{id}", uid.replace('-', "_"));
    assert_eq!(describe(&mismatch).kind, CgroupKind::Container);
    assert_eq!(describe(&mismatch).qos, Some(QosClass::Burstable));
}

#[test]
fn flags_are_remembered() {
    let place = describe("0::/../../pode039200acb850c82bb901653cc38ff6e (deleted)\n");
    assert!(place.relative && place.deleted && place.pod_uid.unwrap().is_static());
    assert!(!describe("/a/../b").relative, "only leading dots come from another namespace");
}

#[test]
fn a_file_prefers_the_line_with_a_pod_and_refuses_two() {
    let pod = "/kubepods/burstable/pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
    let id = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";
    let other = "671a50f5d60566556912f61511d0ec9e4d5c78d53fbc4676727180438bbbbc55";
    let hybrid = format!("4:memory:{pod}/{id}\n3:cpu:{pod}/{id}\n0::/reserved.slice/containerd.service\n");
    let place = describe_file(&hybrid).unwrap();
    assert_eq!(place.container_id.as_ref().unwrap().0, id);
    assert_eq!(describe_file(&format!("5:pids:{pod}\n{hybrid}")), Ok(place), "pod level in one hierarchy");
    let two = format!("{hybrid}2:pids:/kubepods/pod0d08203e-255a-11e9-8cd9-0007cb0b2cc8/{id}\n");
    assert!(matches!(describe_file(&two), Err(Disagreement::Pods(..))));
    let twice = format!("{hybrid}2:pids:{pod}/{other}\n");
    assert!(matches!(describe_file(&twice), Err(Disagreement::Containers(..))));
    assert_eq!(describe_file(""), Ok(CgroupRef::default()));
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("kubepods.slice".to_owned()),
        Just("..".to_owned()),
        Just("besteffort".to_owned()),
        "pod[0-9a-f]{32}",
        "kubepods-burstable-pod[0-9a-f]{8}(_[0-9a-f]{4}){3}_[0-9a-f]{12}\\.slice",
        "(cri-containerd-|crio-|docker-|libpod-|kata_|crio-conmon-)?[0-9a-f]{64}(\\.scope)?",
        "kubepods-pod[0-9a-f]{32}\\.slice:cri-containerd:[0-9a-f]{64}",
        "\\PC{0,12}",
    ]
}

proptest! {
    #[test]
    fn anything_is_answered(text in "\\PC{0,200}") {
        let _ = describe(&text);
        let _ = describe_file(&text);
    }

    #[test]
    fn components_in_any_order_keep_the_invariants(components in prop::collection::vec(component(), 0..9)) {
        let path = format!("/{}", components.join("/"));
        let place = describe(&path);
        prop_assert_eq!(&place, &describe(&path));
        prop_assert_eq!(place.qos.is_some(), place.pod_uid.is_some());
        if let Some(uid) = &place.pod_uid {
            prop_assert_eq!(canonical_uid(&uid.0), Some(uid.clone()), "canonical");
        }
        prop_assert!(place.kind != CgroupKind::None || (place.pod_uid.is_none() && place.container_id.is_none()));
        prop_assert!(place.kind != CgroupKind::Pod || place.container_id.is_none());
    }

    #[test]
    fn the_innermost_pod_wins(outer in "/pod[0-9a-f]{32}/[0-9a-f]{64}", uid in "[0-9a-f]{32}", id in "[0-9a-f]{64}") {
        let place = describe(&format!("{outer}/kubepods/pod{uid}/{id}/deeper"));
        prop_assert_eq!(place.pod_uid.map(|uid| uid.0), Some(uid));
        prop_assert_eq!(place.container_id.map(|id| id.0), Some(id));
        prop_assert_eq!(place.qos, Some(QosClass::Guaranteed));
    }
}
