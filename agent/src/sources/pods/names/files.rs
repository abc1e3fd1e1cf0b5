//! Names from files: no RPC, no token, works while kubelet and runtime are down. No labels.
//!
//! - `/var/log/pods/<namespace>_<name>_<uid>/<container>/`: made by the kubelet; a static pod's uid there is
//!   its hash, as in the cgroup path;
//! - `/var/log/containers/<pod>_<namespace>_<container>-<id>.log`: the kubelet's links, for container names;
//! - the OCI `config.json` of each container ([`super::oci`]).
//!
//! Only what the cgroup tree shows and no file has named yet is looked up, with growing pauses.

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::super::cgroup::canonical_uid;
use super::memory::Memory;
use super::oci::{self, Bundles};
use super::retry::Retry;
use crate::domain::pod::{ContainerId, ContainerName, Leaf, NameTable, PodName, PodUid};
use crate::host::HostRoots;

/// Directory entries that are looked at: the kubelet's default is 110 pods a node, with a few containers each.
const MAX_ENTRIES: usize = 20_000;

/// Names found in files so far.
#[derive(Debug, Default)]
pub(super) struct Files {
    pods_retry: Retry<PodUid>,
    containers_retry: Retry<ContainerId>,
}

impl Files {
    /// Looks up everything in `leaves` that `memory` does not know; whether it does now.
    pub(super) fn look_up(
        &mut self,
        roots: &HostRoots,
        leaves: &[Leaf],
        memory: &mut Memory,
        at_ns: i64,
    ) -> bool {
        let mut told = NameTable::default();
        // Once there is a container to look up, which on most days there is not.
        let bundles = LazyCell::new(|| Bundles::open(roots));
        let mut want_links = false;
        let mut want_logs = false;
        for leaf in leaves {
            let uid = leaf.place.pod_uid.as_ref();
            if let Some(id) = &leaf.place.container_id
                && !memory.table().containers.contains_key(id)
                && self.containers_retry.due(id, at_ns)
            {
                match bundles.read(id) {
                    Some(bundle) => enter(&mut told, id, bundle, uid),
                    None => want_links = true,
                }
            }
            if let Some(uid) = uid
                && !memory.table().pods.contains_key(uid)
                && !told.pods.contains_key(uid)
                && self.pods_retry.due(uid, at_ns)
            {
                want_logs = true;
            }
        }
        if want_logs {
            let known = std::mem::take(&mut told.pods);
            told.pods = pod_logs(&roots.var.join("log/pods"));
            told.pods.extend(known);
        }
        if want_links {
            let links = container_links(&roots.var.join("log/containers"));
            for (id, name) in links {
                told.containers.entry(id).or_insert(name);
            }
        }
        if told.pods.is_empty() && told.containers.is_empty() {
            return false;
        }
        // The log directories outlive their pods: only what the tree shows is learnt.
        let alive = super::alive(leaves);
        told.pods.retain(|uid, _| alive.pods.contains(uid));
        told.containers.retain(|id, _| alive.containers.contains(id));
        memory.learn(told, at_ns)
    }

    /// Forgets the pauses of what is gone.
    pub(super) fn sweep(&mut self, alive: &super::Alive) {
        self.pods_retry.retain(|uid| alive.pods.contains(uid));
        self.containers_retry.retain(|id| alive.containers.contains(id));
    }
}

fn enter(told: &mut NameTable, id: &ContainerId, bundle: oci::Bundle, by_path: Option<&PodUid>) {
    let uid = bundle.uid(by_path);
    let mut container = bundle.container;
    container.pod.clone_from(&uid);
    told.containers.insert(id.clone(), container);
    if let Some((uid, pod)) = uid.zip(bundle.pod) {
        told.pods.entry(uid).or_insert(pod);
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn pod_logs(dir: &Path) -> HashMap<PodUid, PodName> {
    entries(dir).filter_map(|name| pod_log(&name)).collect()
}

/// `<namespace>_<name>_<uid>`: none of the three can hold an underscore.
fn pod_log(entry: &str) -> Option<(PodUid, PodName)> {
    let mut fields = entry.split('_');
    let (namespace, name, uid) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || namespace.is_empty() || name.is_empty() {
        return None;
    }
    let pod = PodName {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        labels: BTreeMap::new(),
        qos: None,
    };
    Some((canonical_uid(uid)?, pod))
}

fn container_links(dir: &Path) -> HashMap<ContainerId, ContainerName> {
    entries(dir).filter_map(|name| container_link(&name)).collect()
}

/// `<pod>_<namespace>_<container>-<id>.log`
fn container_link(entry: &str) -> Option<(ContainerId, ContainerName)> {
    let (container, id) = entry.strip_suffix(".log")?.rsplit('_').next()?.rsplit_once('-')?;
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = ContainerName { name: Some(container.to_owned()), pod: None, sandbox: false };
    (is_id && !container.is_empty()).then(|| (ContainerId(id.to_owned()), name))
}

#[cfg(test)]
mod tests;
