//! Our own rules for the manifests: least privilege that a schema cannot ask for.

use serde_json::Value;

/// The only host paths that may be written: what must outlive the pod, and the socket for people on the node.
pub(crate) const WRITABLE: &[&str] = &["spool", "socket"];

/// The manifests that make pods.
pub(crate) fn workloads(manifests: &[Value]) -> impl Iterator<Item = &Value> {
    manifests.iter().filter(|manifest| manifest["spec"]["template"]["spec"].is_object())
}

/// Every container of a manifest.
pub(crate) fn containers(manifest: &Value) -> impl Iterator<Item = &Value> {
    let pod = &manifest["spec"]["template"]["spec"];
    ["initContainers", "containers"].into_iter().filter_map(|key| pod[key].as_array()).flatten()
}

/// A list of strings; empty if it is not there.
pub(crate) fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What breaks a rule, one sentence each; the mounts that may be written are named.
pub(crate) fn violations(manifests: &[Value], writable: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for workload in workloads(manifests) {
        let name = workload["metadata"]["name"].as_str().unwrap_or("?");
        let pod = &workload["spec"]["template"]["spec"];
        let mut expect = |holds: bool, rule: &str| {
            if !holds {
                found.push(format!("{name}: {rule}"));
            }
        };
        expect(pod["automountServiceAccountToken"] == false, "no service account token");
        expect(pod["hostNetwork"] != true, "not in the host's network");
        expect(
            pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
            "the runtime's seccomp profile",
        );
        for container in containers(workload) {
            restrained(container, &mut expect);
        }
        if workload["kind"] == "DaemonSet" {
            read_only_host(pod, writable, &mut expect);
        } else {
            unprivileged(workload, &mut expect);
        }
    }
    found
}

fn restrained(container: &Value, expect: &mut impl FnMut(bool, &str)) {
    let security = &container["securityContext"];
    expect(security["privileged"] == false, "not privileged");
    expect(security["allowPrivilegeEscalation"] == false, "no new privileges");
    expect(security["readOnlyRootFilesystem"] == true, "a read-only root");
    expect(strings(&security["capabilities"]["drop"]) == ["ALL"], "all capabilities dropped first");
    expect(container["resources"]["limits"]["memory"].is_string(), "a memory limit");
    expect(container["resources"]["requests"]["cpu"].is_string(), "a CPU request");
    let probes = [("livenessProbe", "/livez"), ("readinessProbe", "/readyz"), ("startupProbe", "/livez")];
    let probed = |(probe, path): &(&str, &str)| container[*probe]["httpGet"]["path"] == *path;
    expect(probes.iter().all(probed), "probes of liveness, readiness and start");
    let ports = container["ports"].as_array().into_iter().flatten();
    let open = ports.filter(|port| port["hostPort"].is_u64()).any(|port| port["hostIP"] != "127.0.0.1");
    expect(!open, "host ports on loopback only");
}

fn read_only_host(pod: &Value, writable: &[&str], expect: &mut impl FnMut(bool, &str)) {
    for mount in pod["containers"].as_array().into_iter().flatten().flat_map(mounts) {
        let name = mount["name"].as_str().unwrap_or_default();
        let read_only = mount["readOnly"] == true && mount["recursiveReadOnly"] == "IfPossible";
        expect(read_only || writable.contains(&name), "the host is read, not written");
    }
}

fn mounts(container: &Value) -> impl Iterator<Item = &Value> {
    container["volumeMounts"].as_array().into_iter().flatten()
}

fn unprivileged(workload: &Value, expect: &mut impl FnMut(bool, &str)) {
    let pod = &workload["spec"]["template"]["spec"];
    expect(pod["securityContext"]["runAsNonRoot"] == true, "not root");
    expect(pod["hostPID"] != true, "its own pids");
    let none =
        containers(workload).all(|it| strings(&it["securityContext"]["capabilities"]["add"]).is_empty());
    expect(none, "no capability");
    let volumes = pod["volumes"].as_array().into_iter().flatten();
    expect(volumes.filter(|volume| volume["hostPath"].is_object()).count() == 0, "no host path");
}
