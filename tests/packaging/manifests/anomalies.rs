//! The component for nodes that provoke anomalies: it opens what the drop-in of the unit opens, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::rules::{WRITABLE as OF_THE_BASE, containers, violations};
use super::{arguments, base, capabilities_of, parse, with_component};
use crate::arguments::{check, misspelt};
use crate::tool::text;
use crate::units::values;

/// What may be written beside what the base writes.
pub(super) const WRITABLE: [&str; 1] = ["cgroup"];

const SOURCE: &str = "deploy/kustomize/components/anomalies/kustomization.yaml";
const DROP_IN: &str = "systemd/sextant-node.service.d/anomalies.conf";

/// A key as `sextant key new` prints it, for nobody.
const KEYS: &str = "[[keys.key]]\nname = \"chaos-team\"\nscopes = [\"act\"]\n\
    sha256 = \"c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a\"\n";

fn component() -> Vec<Value> {
    parse(&with_component("anomalies"))
}

fn node(manifests: &[Value]) -> &Value {
    let daemon_set = manifests.iter().find(|it| it["kind"] == "DaemonSet").expect("the node");
    containers(daemon_set).next().expect("its container")
}

fn configuration(manifests: &[Value]) -> &Value {
    manifests.iter().find(|it| it["kind"] == "ConfigMap").expect("a configuration")
}

/// The capabilities that a drop-in adds, as manifests name them.
fn of_the_drop_in(drop_in: &str) -> BTreeSet<String> {
    let bounding = values(drop_in, "CapabilityBoundingSet").flat_map(str::split_whitespace);
    bounding.filter_map(|name| name.strip_prefix("CAP_")).map(str::to_owned).collect()
}

#[test]
fn the_drop_in_and_the_component_add_the_same_capabilities() {
    let drop_in = text(DROP_IN);
    let added: BTreeSet<_> =
        capabilities_of(&component()).difference(&capabilities_of(&base())).cloned().collect();
    assert_eq!(added, of_the_drop_in(&drop_in));
    // A list that lost one is not the same.
    for one in &added {
        let line = format!("CapabilityBoundingSet=CAP_{one}\n");
        assert_ne!(added, of_the_drop_in(&drop_in.replace(&line, "")), "{one}");
    }
    let ambient = values(&drop_in, "AmbientCapabilities").flat_map(str::split_whitespace);
    let ambient: BTreeSet<_> = ambient.filter_map(|name| name.strip_prefix("CAP_")).collect();
    assert_eq!(ambient, added.iter().map(String::as_str).collect());
    let source = text(SOURCE);
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    for capability in added {
        let at =
            lines.iter().position(|line| *line == format!("value: {capability}")).expect("in the source");
        assert!(lines[at - 3].starts_with("# "), "{capability} has no reason");
    }
}

#[test]
fn nothing_is_opened_but_what_anomalies_need() {
    let (before, after) = (base(), component());
    let spec = |manifests: &[Value]| {
        let daemon_set = manifests.iter().find(|it| it["kind"] == "DaemonSet").expect("the node");
        daemon_set["spec"]["template"]["spec"].clone()
    };
    let (mut old, mut new) = (spec(&before), spec(&after));
    let names = |list: &Value, key: &str| -> BTreeSet<String> {
        let names = list.as_array().into_iter().flatten().filter_map(|one| one[key].as_str());
        names.map(str::to_owned).collect()
    };
    let added = |what: fn(&Value) -> &Value, key: &str| -> Vec<String> {
        names(what(&new), key).difference(&names(what(&old), key)).cloned().collect()
    };
    assert_eq!(added(|spec| &spec["volumes"], "name"), ["cgroup", "configuration", "tun"]);
    let mounts = added(|spec| &spec["containers"][0]["volumeMounts"], "mountPath");
    assert_eq!(mounts, ["/dev/net/tun", "/etc/sextant", "/host/sys/fs/cgroup"]);
    // All the rest is as it was: no host network, no privilege, no other seccomp profile.
    for spec in [&mut old, &mut new] {
        spec["volumes"].take();
        for part in ["/volumeMounts", "/args", "/securityContext/capabilities"] {
            spec.pointer_mut(&format!("/containers/0{part}")).expect("it is there").take();
        }
    }
    assert_eq!(old, new);
    // The one place that may be written is a breach wherever it is not asked for.
    assert_eq!(violations(&after, OF_THE_BASE).len(), 1);
}

#[test]
fn the_binary_accepts_the_arguments_with_the_files_that_they_name() {
    let manifests = component();
    let dir = tempfile::tempdir().expect("the mounted directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("write");
    let toml = configuration(&manifests)["data"]["node.toml"].as_str().expect("a file").to_owned();
    write("node.toml", &toml);
    write("keys.toml", KEYS);
    let mounted = dir.path().display().to_string();
    let arguments: Vec<_> = arguments(node(&manifests))
        .iter()
        .map(|one| one.replace("=/etc/sextant", &format!("={mounted}")))
        .collect();
    assert_eq!(arguments.iter().filter(|one| one.contains(&mounted)).count(), 2, "{arguments:?}");
    let said = check(&arguments, &[]).expect_content();
    assert!(said.contains("keys: 1 known") && toml.contains("[actions]\nenabled = true\n"), "{said}{toml}");
    check(&misspelt(&arguments), &[]).expect_refusal();
    write("node.toml", &toml.replace("enabled", "enable"));
    check(&arguments, &[]).expect_refusal();
    write("node.toml", &toml);
    write("keys.toml", &KEYS.replace("c4bbcb", ""));
    check(&arguments, &[]).expect_refusal();
}

#[test]
fn the_configuration_is_mounted_and_its_keys_are_for_the_user_to_make() {
    let manifests = component();
    assert!(manifests.iter().all(|it| it["kind"] != "Secret"), "no default key");
    let daemon_set = manifests.iter().find(|it| it["kind"] == "DaemonSet").expect("the node");
    let volumes = daemon_set["spec"]["template"]["spec"]["volumes"].as_array().expect("volumes");
    let volume = volumes.iter().find(|volume| volume["name"] == "configuration").expect("the configuration");
    let sources = volume["projected"]["sources"].as_array().expect("sources");
    let source =
        |kind: &str| sources.iter().map(|one| &one[kind]).find(|one| one.is_object()).expect("a source");
    let made = configuration(&manifests);
    // With the hash of its content in its name, so that pods start anew with another one.
    assert_eq!(source("configMap")["name"], made["metadata"]["name"]);
    assert_ne!(made["metadata"]["name"], "sextant-node");
    assert_eq!(made["metadata"]["namespace"], daemon_set["metadata"]["namespace"]);
    let secret = source("secret");
    assert!(secret["optional"].is_null(), "without it no pod starts");
    let name = secret["name"].as_str().expect("a name");
    let command = format!("create secret generic {name} --from-file=keys.toml");
    assert!(text(SOURCE).contains(&command) && text("README.md").contains(&command), "{command}");
    let arguments = arguments(node(&manifests));
    for (flag, file) in [("--config=", "node.toml"), ("--keys-file=", "keys.toml")] {
        let path = arguments.iter().find_map(|one| one.strip_prefix(flag)).expect("the flag");
        assert_eq!(Path::new(path), Path::new("/etc/sextant").join(file));
    }
    assert_eq!(secret["items"][0]["path"], "keys.toml");
    assert!(made["data"]["node.toml"].is_string());
}
