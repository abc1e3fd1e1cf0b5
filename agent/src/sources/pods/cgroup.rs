//! What a cgroup path says: pod, container, runtime, QoS. Pure, no IO, never panics.
//!
//! Rules, each with rows in `tests/fixtures/cgroup_paths.psv`:
//! 1. input is a path or one `N:controllers:path` line; ` (deleted)` and leading `..` are cut and remembered;
//! 2. `<slice>.slice:<prefix>:<id>` (driver mismatch) reads as `<slice>.slice/<prefix>-<id>`;
//! 3. the pod is the **rightmost** component of the form `[anything-]pod<uid>[.slice]`: a node container's own
//!    pod stands left of the pods it runs;
//! 4. the container is the first leaf right of the pod; whatever is deeper belongs to it;
//! 5. without a pod it is the innermost leaf, and a `.service` below it is a service of a node container;
//! 6. QoS comes from the pod's component and its parent, `guaranteed` only below some `kubepods`: a class that
//!    the path lost is unknown, never guessed.

use crate::domain::pod::{CgroupKind, CgroupRef, Runtime};

mod component;
mod file;

use component::{Leaf, Part, leaf, parts_of, pod_uid, qos};

pub(crate) use component::canonical_uid;
pub use file::{Disagreement, describe_file};

/// Longest input that is looked at, bytes: the kernel's own limit for a path (`PATH_MAX`) and a line's prefix.
const MAX_INPUT_BYTES: usize = 4096 + 256;

/// What one cgroup path, or one line of `/proc/PID/cgroup`, says.
///
/// Longer inputs than the kernel can produce name nothing: kind `none`.
pub fn describe(path_or_line: &str) -> CgroupRef {
    if path_or_line.len() > MAX_INPUT_BYTES {
        return CgroupRef::default();
    }
    let path = path_of_line(path_or_line.trim_end_matches('\n'));
    let (path, deleted) = path.strip_suffix(" (deleted)").map_or((path, false), |path| (path, true));
    let mut components = path.split('/').filter(|component| !component.is_empty()).peekable();
    let mut relative = false;
    while components.next_if_eq(&"..").is_some() {
        relative = true;
    }
    let parts: Vec<Part<'_>> = components.flat_map(parts_of).collect();
    CgroupRef { relative, deleted, ..place(&parts) }
}

/// Cuts `N:controllers:` off a line; a path stays as it is (it may hold colons itself).
fn path_of_line(input: &str) -> &str {
    let mut fields = input.splitn(3, ':');
    match (fields.next(), fields.next(), fields.next()) {
        (Some(id), Some(_), Some(path))
            if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && path.starts_with('/') =>
        {
            path
        }
        _ => input,
    }
}

fn place(parts: &[Part<'_>]) -> CgroupRef {
    let pod = parts.iter().enumerate().rev().find_map(|(at, part)| Some((at, pod_uid(*part)?)));
    match pod {
        Some((at, uid)) => {
            let base = CgroupRef {
                qos: Some(qos(&parts[..=at])),
                pod_uid: Some(uid),
                kind: CgroupKind::Pod,
                ..CgroupRef::default()
            };
            let below = parts.iter().skip(at + 1).find_map(|part| leaf(*part));
            // CRI-O's rule: with the systemd driver a scope is a container, a plain group the sandbox.
            let crio_sandbox = |leaf: &Leaf<'_>| {
                leaf.runtime == Some(Runtime::Crio)
                    && leaf.kind == CgroupKind::Container
                    && !leaf.scope
                    && parts[at].name.ends_with(".slice")
                    && !leaf.split
            };
            below.map_or(base.clone(), |leaf| CgroupRef {
                kind: if crio_sandbox(&leaf) { CgroupKind::Sandbox } else { leaf.kind },
                runtime: leaf.runtime,
                container_id: Some(leaf.id()),
                ..base
            })
        }
        None => outside_pods(parts),
    }
}

fn outside_pods(parts: &[Part<'_>]) -> CgroupRef {
    let ecs = parts.windows(3).find_map(component::ecs);
    let leaf = parts.iter().enumerate().rev().find_map(|(at, part)| Some((at, leaf(*part)?)));
    let Some((at, leaf)) = leaf.or(ecs.map(|leaf| (parts.len(), leaf))) else {
        return CgroupRef::default();
    };
    let in_service = parts.iter().skip(at + 1).any(|part| part.name.ends_with(".service"));
    let overhead = at > 0 && parts.get(at - 1).is_some_and(|part| part.name == "kata_overhead");
    let (kind, runtime) = match leaf.kind {
        _ if overhead => (CgroupKind::KataOverhead, Some(Runtime::Kata)),
        CgroupKind::Container if in_service => (CgroupKind::NestedService, leaf.runtime),
        kind => (kind, leaf.runtime),
    };
    CgroupRef { container_id: Some(leaf.id()), kind, runtime, ..CgroupRef::default() }
}

#[cfg(test)]
mod tests;
