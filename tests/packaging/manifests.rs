//! The kustomize base and its components: built by kubectl, judged by Kubernetes' schemas, and held to our own rules.

mod anomalies;
mod rules;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::arguments::{check, misspelt, variables};
use crate::tool::{Said, repository, run, text, tool};
use rules::{WRITABLE, containers, strings, violations, workloads};

const BASE: &str = "deploy/kustomize/base";
/// The releases whose schemas must accept the manifests: from the oldest that knows every field to the newest.
const RELEASES: [&str; 4] = ["1.31", "1.33", "1.35", "1.37"];

/// What `kubectl apply -k` would send.
fn build(directory: &Path) -> String {
    let mut kubectl = Command::new(tool("SEXTANT_KUBECTL", "kubectl"));
    run(kubectl.arg("kustomize").arg(directory)).expect_content()
}

fn base() -> Vec<Value> {
    parse(&build(&repository(BASE)))
}

fn parse(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).expect("kubectl prints YAML")
}

/// The base with one component.
fn with_component(name: &str) -> String {
    // kustomize takes relative paths only, so what the overlay names is linked beside it.
    let overlay = tempfile::tempdir().expect("an overlay");
    for part in ["base", "components"] {
        let to = repository("deploy/kustomize").join(part);
        std::os::unix::fs::symlink(to, overlay.path().join(part)).expect("link");
    }
    let lines = format!("resources: [base]\ncomponents: [components/{name}]\n");
    std::fs::write(overlay.path().join("kustomization.yaml"), lines).expect("write the overlay");
    build(overlay.path())
}

/// The base with each component in turn.
fn with_components() -> Vec<(String, String)> {
    let components = std::fs::read_dir(repository("deploy/kustomize/components")).expect("components");
    let names = components.map(|entry| entry.expect("a component").file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().expect("a plain name")).collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    names.into_iter().map(|name| (name.clone(), with_component(&name))).collect()
}

fn validate(yaml: &str, release: &str) -> Said {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), yaml).expect("write the manifests");
    let mut validate = Command::new(tool("SEXTANT_KUBERNETES_VALIDATE", "kubernetes-validate"));
    run(validate.args(["--strict", "--kubernetes-version", release]).arg(file.path()))
}

/// The capabilities that the node's manifest adds.
pub(crate) fn added_capabilities() -> BTreeSet<String> {
    capabilities_of(&base())
}

fn capabilities_of(manifests: &[Value]) -> BTreeSet<String> {
    let of = |container: &Value| strings(&container["securityContext"]["capabilities"]["add"]);
    manifests.iter().flat_map(containers).flat_map(of).collect()
}

fn arguments(container: &Value) -> Vec<String> {
    [strings(&container["command"]), strings(&container["args"])].concat()
}

#[test]
fn the_schemas_accept_the_base_and_every_component() {
    let yaml = build(&repository(BASE));
    for release in RELEASES {
        let said = validate(&yaml, release).expect_content();
        assert_eq!(said.matches(" passed for resource ").count(), parse(&yaml).len(), "{said}");
    }
    for (name, with) in with_components() {
        validate(&with, RELEASES[3]).expect_content();
        assert_ne!(yaml, with, "component {name} changes nothing");
        let own: &[&str] = if name == "anomalies" { &anomalies::WRITABLE } else { &[] };
        let found = violations(&parse(&with), &[WRITABLE, own].concat());
        assert_eq!(found, Vec::<String>::new(), "component {name}");
    }
}

#[test]
fn a_misspelt_field_is_found() {
    let yaml = build(&repository(BASE)).replace("capabilities:", "capabilites:");
    let said = validate(&yaml, RELEASES[3]).expect_refusal();
    assert!(said.contains("'capabilites' was unexpected"), "{said}");
}

#[test]
fn the_binary_accepts_the_arguments_of_every_container() {
    let manifests = base();
    let containers: Vec<_> = manifests.iter().flat_map(containers).collect();
    assert_eq!(containers.len(), 2, "one container per role");
    for container in containers {
        let arguments = arguments(container);
        check(&arguments, &[]).expect_content();
        check(&misspelt(&arguments), &[]).expect_refusal();
        let known = variables(&arguments[0]);
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().expect("a variable has a name");
            assert!(known.contains(name), "sextant {} --help does not name {name}", arguments[0]);
        }
    }
}

#[test]
fn every_path_in_the_arguments_is_mounted() {
    let with_anomalies = parse(&with_component("anomalies"));
    for container in base().iter().chain(&with_anomalies).flat_map(containers) {
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let mounts: Vec<_> = mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
        for path in arguments(container).iter().filter_map(|argument| argument.split_once("=/")) {
            let path = format!("/{}", path.1);
            // `/host/run` is no mount itself: what is of interest in it is mounted below it.
            let mounted =
                mounts.iter().any(|mount| Path::new(&path).starts_with(mount) || mount.starts_with(&path));
            assert!(mounted, "{path} is not in {mounts:?}");
        }
    }
}

#[test]
fn the_parts_find_each_other() {
    let manifests = base();
    let flag = |role: &str, flag: &str| {
        let all = manifests.iter().flat_map(containers).map(arguments);
        let mut own = all.filter(|arguments| arguments[0] == role).flatten();
        own.find_map(|argument| argument.strip_prefix(flag).map(str::to_owned)).expect("the flag")
    };
    let service = manifests.iter().find(|it| it["kind"] == "Service").expect("a service");
    let (name, port) = (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]);
    let url = format!("http://{}:{port}", name.as_str().expect("a name"));
    assert_eq!(flag("node", "--receiver="), url);

    for container in manifests.iter().flat_map(containers) {
        let port = container["ports"][0]["containerPort"].as_u64().expect("a port");
        assert_eq!(flag(&arguments(container)[0], "--listen="), format!("0.0.0.0:{port}"));
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["name"], "{probe}");
        }
    }
    let labels: Vec<_> =
        workloads(&manifests).map(|it| &it["spec"]["template"]["metadata"]["labels"]).collect();
    let chosen = |labels: &Value, by: &Value| {
        by.as_object().is_some_and(|by| !by.is_empty() && by.iter().all(|(key, value)| labels[key] == *value))
    };
    let policies = manifests.iter().filter(|it| it["kind"] == "NetworkPolicy");
    let selectors = policies.map(|it| &it["spec"]["podSelector"]["matchLabels"]);
    for by in selectors.chain([&service["spec"]["selector"]]) {
        assert_eq!(labels.iter().filter(|labels| chosen(labels, by)).count(), 1, "{by}");
    }
}

#[test]
fn every_added_capability_has_its_reason_above_it() {
    let source = text(&format!("{BASE}/node.yaml"));
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    for capability in added_capabilities() {
        let at = lines.iter().position(|line| *line == format!("- {capability}")).expect("in the source");
        assert!(lines[at - 1].starts_with("# "), "{capability} has no reason");
    }
}

#[test]
fn the_base_keeps_our_rules_and_a_breach_of_each_is_found() {
    let manifests = base();
    let violations = |manifests: &[Value]| violations(manifests, WRITABLE);
    assert_eq!(violations(&manifests), Vec::<String>::new());
    let node = "/spec/template/spec";
    let breaches = [
        ("DaemonSet", format!("{node}/hostNetwork"), Value::Bool(true)),
        ("DaemonSet", format!("{node}/automountServiceAccountToken"), Value::Bool(true)),
        ("DaemonSet", format!("{node}/containers/0/securityContext/privileged"), Value::Bool(true)),
        (
            "DaemonSet",
            format!("{node}/containers/0/securityContext/readOnlyRootFilesystem"),
            Value::Bool(false),
        ),
        (
            "DaemonSet",
            format!("{node}/containers/0/securityContext/allowPrivilegeEscalation"),
            Value::Bool(true),
        ),
        ("DaemonSet", format!("{node}/containers/0/securityContext/capabilities/drop"), Value::Array(vec![])),
        ("DaemonSet", format!("{node}/containers/0/ports/0/hostIP"), Value::from("0.0.0.0")),
        ("DaemonSet", format!("{node}/containers/0/volumeMounts/0/readOnly"), Value::Bool(false)),
        ("DaemonSet", format!("{node}/containers/0/resources/limits"), Value::Null),
        ("DaemonSet", format!("{node}/containers/0/livenessProbe"), Value::Null),
        ("StatefulSet", format!("{node}/securityContext/runAsNonRoot"), Value::Bool(false)),
        ("StatefulSet", format!("{node}/containers/0/securityContext/capabilities"), added("SYS_ADMIN")),
    ];
    for (kind, pointer, value) in breaches {
        let mut broken = manifests.clone();
        let workload = broken.iter_mut().find(|it| it["kind"] == kind).expect("the workload");
        *workload.pointer_mut(&pointer).unwrap_or_else(|| panic!("{pointer} is not there")) = value;
        assert_eq!(violations(&broken).len(), 1, "{pointer}: {:?}", violations(&broken));
    }
}

fn added(capability: &str) -> Value {
    serde_json::json!({"drop": ["ALL"], "add": [capability]})
}
