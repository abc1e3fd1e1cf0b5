//! Where a target is: the cgroups that a worker joins, in every tree of this host, and the CPUs it finds there.
//!
//! A tree in which the target has no group of its own is joined at its root: a worker never stays in the node's own
//! groups, whose limits are not the target's. Paths come from a person and are checked before they are joined to a root;
//! those of a process come from the kernel.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::domain::action::{Invalid, Target};
use crate::domain::pod::{CgroupKind, Container, Pod, PodMap};
use crate::host::HostRoots;

mod cpus;
mod memory;

/// The kernel has 15 controllers, each mounted once, and named trees beside them.
const MAX_TREES: usize = 32;
/// The kernel's own limit.
const MAX_PATH_BYTES: usize = 4_096;

/// A target, found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    /// The directories to join.
    pub(super) groups: Vec<PathBuf>,
    /// The target's paths below its trees, without those that are a tree's root; sorted, each once.
    pub(super) paths: Vec<String>,
    /// The target's own directories, with all that is below them: a whole pod's, none of the node's.
    pub(super) own: Vec<PathBuf>,
    /// The roots of the trees.
    pub(super) trees: Vec<PathBuf>,
    /// CPUs that it may use.
    pub(super) cpus: f64,
    /// Memory that it may use.
    pub(super) memory_bytes: u64,
    /// Memory of the node.
    pub(super) node_memory_bytes: u64,
    /// Memory that the node can still give.
    pub(super) available_bytes: u64,
    /// CPUs of the node.
    pub(super) node_cpus: u32,
}

/// Finds a target. `pods` is the latest walk.
///
/// # Errors
/// No such target, or more than one.
pub(super) fn find(target: &Target, roots: &HostRoots, pods: &PodMap) -> Result<Place, Invalid> {
    let trees = trees(&roots.cgroup)?;
    let everywhere = |path: &str| everywhere(trees.clone(), path);
    let paths: Vec<(PathBuf, String)> = match target {
        Target::Node => everywhere("/"),
        Target::Cgroup(path) => everywhere(checked(path)?),
        Target::Pod(name) => everywhere(&workload(pod(name, pods)?)?.cgroup),
        Target::Container(id) => everywhere(&container(id, pods)?.cgroup),
        Target::Pid(pid) => of_process(trees.clone(), &roots.proc, &pid.to_string())?,
    };
    let is_group = |(tree, path): &(PathBuf, String)| below(tree, path).join("cgroup.procs").exists();
    if !paths.iter().any(is_group) {
        return invalid(format!("no cgroup of {target} below {}", roots.cgroup.display()));
    }
    let node_cpus = cpus::of_node(&roots.sys)?;
    let (node_memory_bytes, available_bytes) = memory::of_node(&roots.proc)?;
    let mut place = Place {
        groups: Vec::new(),
        paths: Vec::new(),
        own: Vec::new(),
        cpus: f64::from(node_cpus),
        node_cpus,
        memory_bytes: node_memory_bytes,
        node_memory_bytes,
        available_bytes,
        trees: trees.clone(),
    };
    let group_of_pod = match target {
        Target::Pod(name) => pod(name, pods)?.group.as_ref().map(|group| &*group.cgroup),
        _ => None,
    };
    for (tree, path) in paths {
        let known = is_group(&(tree.clone(), path.clone()));
        let path = if known { path } else { "/".to_owned() };
        place.cpus = place.cpus.min(cpus::allowed(&tree, &path));
        place.memory_bytes = place.memory_bytes.min(memory::allowed(&tree, &path));
        place.groups.push(below(&tree, &path));
        if path != "/" {
            let whole = group_of_pod.filter(|group| is_group(&(tree.clone(), (*group).to_owned())));
            place.own.push(below(&tree, whole.unwrap_or(&path)));
            place.paths.push(path);
        }
    }
    place.paths.sort();
    place.paths.dedup();
    Ok(place)
}

impl Place {
    /// The groups to join, in words.
    pub(super) fn words(&self) -> String {
        let groups: Vec<_> = self.groups.iter().map(|group| group.display().to_string()).collect();
        groups.join(", ")
    }
}

/// The groups of this very process, as [`Place::paths`] has a target's, and its pid as the host sees it.
pub(super) fn ourselves(roots: &HostRoots) -> (Vec<String>, Option<u32>) {
    let link = std::fs::read_link(roots.proc.join("self")).ok();
    let pid = link.and_then(|link| link.to_str()?.parse().ok());
    let found = trees(&roots.cgroup).and_then(|trees| of_process(trees, &roots.proc, "self"));
    let mut paths: Vec<_> =
        found.unwrap_or_default().into_iter().map(|(_, path)| path).filter(|path| path != "/").collect();
    paths.sort();
    paths.dedup();
    (paths, pid)
}

/// The cgroup trees: the root itself, or those mounted in it. `cpu` is often a link to `cpu,cpuacct`: one tree.
fn trees(root: &Path) -> Result<Vec<PathBuf>, Invalid> {
    let is_tree = |path: &Path| path.join("cgroup.procs").exists();
    if is_tree(root) {
        return Ok(vec![root.to_owned()]);
    }
    let entries = std::fs::read_dir(root).map_err(|error| wrong(format!("{}: {error}", root.display())))?;
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    let mut inodes = Vec::new();
    found.retain(|path| {
        let Some(metadata) = is_tree(path).then(|| std::fs::metadata(path).ok()).flatten() else {
            return false;
        };
        let inode = (metadata.dev(), metadata.ino());
        let new = !inodes.contains(&inode);
        inodes.push(inode);
        new
    });
    found.truncate(MAX_TREES);
    Ok(found)
}

fn everywhere(trees: Vec<PathBuf>, path: &str) -> Vec<(PathBuf, String)> {
    trees.into_iter().map(|tree| (tree, path.to_owned())).collect()
}

/// A process's path in every tree, by `/proc/PID/cgroup`: lines of `id:controllers:path`, v2's controllers empty.
fn of_process(trees: Vec<PathBuf>, proc: &Path, pid: &str) -> Result<Vec<(PathBuf, String)>, Invalid> {
    let text = std::fs::read_to_string(proc.join(pid).join("cgroup"))
        .map_err(|error| wrong(format!("no process {pid}: {error}")))?;
    let lines: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    trees
        .into_iter()
        .map(|tree| {
            let name = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let v2 = tree.join("cgroup.controllers").exists();
            let is_its = |controllers: &str| {
                let bare = controllers.trim_start_matches("name=");
                if controllers.is_empty() {
                    v2
                } else {
                    !v2 && name.split(',').any(|one| bare.split(',').any(|it| it == one))
                }
            };
            let path =
                lines.iter().find(|(controllers, _)| is_its(controllers)).map_or("/", |(_, path)| *path);
            Ok((tree, checked(path)?.to_owned()))
        })
        .collect()
}

fn pod<'a>(name: &str, pods: &'a PodMap) -> Result<&'a Pod, Invalid> {
    let is_it = |pod: &&Pod| {
        let named =
            pod.namespace.as_ref().zip(pod.name.as_ref()).map(|(space, name)| format!("{space}/{name}"));
        pod.uid.0 == name || named.is_some_and(|named| named == name)
    };
    pods.pods.iter().find(is_it).ok_or_else(|| {
        wrong(format!(
            "no pod {name:?} on this node: NAMESPACE/NAME or its uid (GET /api/v1/pods lists them)"
        ))
    })
}

/// The first workload container: a pod's own group holds no processes where cgroup v2 shares out controllers.
fn workload(pod: &Pod) -> Result<&Container, Invalid> {
    let found = pod.containers.iter().find(|container| container.kind == CgroupKind::Container);
    found.ok_or_else(|| wrong(format!("pod {} has no running container", pod.uid.0)))
}

fn container<'a>(id: &str, pods: &'a PodMap) -> Result<&'a Container, Invalid> {
    let all = pods.pods.iter().flat_map(|pod| &pod.containers).chain(&pods.host.containers);
    let is_it =
        |one: &&Container| one.id.as_ref().is_some_and(|known| !id.is_empty() && known.0.starts_with(id));
    let found: Vec<_> = all.filter(is_it).take(2).collect();
    match found[..] {
        [one] => Ok(one),
        [] => invalid(format!("no container {id:?} on this node (GET /api/v1/pods lists them)")),
        _ => invalid(format!("more than one container's id begins with {id:?}")),
    }
}

/// A path below a cgroup root, and nowhere else.
fn checked(path: &str) -> Result<&str, Invalid> {
    let plain = |part: &str| part != ".." && part != "." && !part.contains('\0');
    let inner = path.strip_prefix('/').filter(|_| path.len() <= MAX_PATH_BYTES);
    match inner {
        Some(inner) if inner.is_empty() || inner.split('/').all(|part| !part.is_empty() && plain(part)) => {
            Ok(path)
        }
        _ => invalid(format!("{path:?} is no path below the cgroup root, such as /system.slice/app.service")),
    }
}

fn below(tree: &Path, path: &str) -> PathBuf {
    match path.trim_start_matches('/') {
        "" => tree.to_owned(),
        inner => tree.join(inner),
    }
}

const fn wrong(why: String) -> Invalid {
    Invalid { field: "target", why }
}

const fn invalid<T>(why: String) -> Result<T, Invalid> {
    Err(wrong(why))
}

#[cfg(test)]
mod tests;
