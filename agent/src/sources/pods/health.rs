//! What the pods source says of itself, with what would help.

use std::path::Path;

use super::WalkError;
use super::tree::TreeError;
use crate::domain::pod::{CgroupKind, PodMap};
use crate::domain::source::{Condition, SourceHealth};

/// Inode of the host's pid namespace, fixed in the kernel (`PROC_PID_INIT_INO`).
const HOST_PID_NAMESPACE: &str = "pid:[4026531836]";

const HOST_PID: &str = "run it in the host's pid namespace (hostPID: true, with the host's /proc)";

/// After a walk that saw `foreign` processes of other pid namespaces.
pub(super) fn succeeded(health: &mut SourceHealth, map: &PodMap, foreign: u64, hierarchy: Option<&Path>) {
    health.collections += 1;
    health.last_success_at_ns = Some(map.at_ns);
    health.last_error = None;
    health.lacks.clear();
    if foreign > 0 {
        health.lacks.push(format!("{foreign} processes are in pid namespaces it cannot see: {HOST_PID}"));
    } else if containers_look_empty(map) && !in_host_pid_namespace() {
        // cgroup v1 leaves foreign processes out instead of printing zeros.
        health.lacks.push(format!("no container in {} shows a process: {HOST_PID}", shown(hierarchy)));
    }
    for &(reason, count) in &map.skipped {
        health.lacks.push(format!("{count} entries skipped, {reason}: {}", help(reason)));
    }
    health.condition = if health.lacks.is_empty() { Condition::Up } else { Condition::Degraded };
}

/// What would be better with events, or with more of them.
pub(super) fn without_events(health: &mut SourceHealth, lacks: Vec<String>) {
    if !lacks.is_empty() {
        health.lacks.extend(lacks);
        health.condition = Condition::Degraded;
    }
}

/// After a walk that could not begin.
pub(super) fn failed(health: &mut SourceHealth, error: &WalkError) {
    health.failures += 1;
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    health.last_error = Some(format!("{error}{source}"));
    health.lacks = match error {
        WalkError::Tree(TreeError::Empty(_) | TreeError::Root { .. }) => {
            vec!["no cgroup tree, so no pods: mount the host's at the cgroup root".to_owned()]
        }
        WalkError::Tree(TreeError::Open { .. }) | WalkError::Proc(..) => {
            vec!["not readable: run it as root, or mount the host's /proc and cgroup tree".to_owned()]
        }
    };
    health.condition = Condition::Off;
}

fn containers_look_empty(map: &PodMap) -> bool {
    let mut containers = map.pods.iter().flat_map(|pod| &pod.containers).peekable();
    containers.peek().is_some()
        && containers.all(|container| container.kind != CgroupKind::Conmon && container.tasks.is_empty())
}

fn in_host_pid_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name == Path::new(HOST_PID_NAMESPACE))
}

fn shown(hierarchy: Option<&Path>) -> String {
    hierarchy.map(|path| path.display().to_string()).unwrap_or_default()
}

fn help(reason: &str) -> &'static str {
    match reason {
        "permission" => "run it as root, or mount /proc without hidepid",
        "open_files" => "raise its limit of open files",
        "too_many_groups" | "too_deep" | "too_many_tasks" => {
            "raise the limit in [pods] if this is no runaway"
        }
        _ => "the kernel answered with an error, see the log of the node",
    }
}
