//! Names for pods and containers, from three sources in order of cost: files, CRI, kubelet.
//!
//! Files need no RPC and are read by the walk itself. The two RPC sources are polled by tasks of their own; the
//! walk only takes the latest list. All three tell the same names; the best that knows a pod (kubelet, then
//! CRI, then files) is said to have named it, and only RPC sources have labels.

use tokio::sync::watch;

use self::files::Files;
use self::memory::Memory;
use self::poller::{Service, Told};
use self::retry::Retry;
use crate::domain::pod::{ContainerId, Leaf, NameTable, Names, PodUid, Runtime};
use crate::domain::source::{Condition, SourceHealth};
use crate::host::HostRoots;

mod cri;
mod files;
mod kubelet;
mod memory;
mod oci;
pub(super) mod poller;
mod retry;

pub(super) use memory::Alive;

/// Largest answer of a runtime or the kubelet, bytes: the limit that the kubelet itself gives to a runtime.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Time between two sweeps of what has departed, ns: nothing depends on it but memory.
const SWEEP_NS: i64 = 10_000_000_000;

/// An RPC source as the walk sees it.
struct Remote {
    service: Service,
    memory: Memory,
    taken: u64,
    told: watch::Receiver<Told>,
    wanted: watch::Sender<u64>,
    pods_retry: Retry<PodUid>,
    containers_retry: Retry<ContainerId>,
}

/// The poller's ends of a [`Remote`].
pub(super) struct Ends {
    pub(super) service: Service,
    pub(super) wanted: watch::Receiver<u64>,
    pub(super) told: watch::Sender<Told>,
}

/// All name sources.
pub(super) struct NameSources {
    roots: HostRoots,
    files: Files,
    files_memory: Memory,
    /// Best first.
    remotes: Vec<Remote>,
    swept_ns: i64,
    lookups: u64,
    /// Something was learnt that no map has yet.
    news: bool,
}

impl NameSources {
    pub(super) fn new(roots: HostRoots) -> Self {
        let (files, files_memory) = (Files::default(), Memory::default());
        Self { roots, files, files_memory, remotes: Vec::new(), swept_ns: i64::MIN, lookups: 0, news: false }
    }

    /// Adds the RPC sources that are switched on; whoever takes the ends runs [`poller::poll`] with each.
    pub(super) fn connect(&mut self, on: impl Fn(Service) -> bool) -> Vec<Ends> {
        let mut ends = Vec::new();
        self.remotes.clear();
        for service in [Service::Kubelet, Service::Cri].into_iter().filter(|service| on(*service)) {
            let (wanted, wanted_out) = watch::channel(0);
            let health = SourceHealth { name: service.source(), ..SourceHealth::default() };
            let (told_in, told) = watch::channel(Told { health, ..Told::default() });
            self.remotes.push(Remote {
                service,
                memory: Memory::default(),
                taken: 0,
                told,
                wanted,
                pods_retry: Retry::default(),
                containers_retry: Retry::default(),
            });
            ends.push(Ends { service, wanted: wanted_out, told: told_in });
        }
        ends
    }

    /// Learns what it can about `leaves`, whose tasks do not matter, and asks the RPC sources for what they lack.
    pub(super) fn look_up(&mut self, leaves: &[Leaf], at_ns: i64) {
        self.lookups += 1;
        self.news |= self.files.look_up(&self.roots, leaves, &mut self.files_memory, at_ns);
        for remote in &mut self.remotes {
            self.news |= remote.take(at_ns);
            remote.ask(leaves, at_ns);
        }
        if at_ns.saturating_sub(self.swept_ns) >= SWEEP_NS || at_ns < self.swept_ns {
            self.swept_ns = at_ns;
            self.sweep(&alive(leaves), at_ns);
        }
    }

    /// Something was learnt since the last map was made.
    pub(super) const fn have_news(&self) -> bool {
        self.news
    }

    /// A map is made of all that is known.
    pub(super) const fn told(&mut self) {
        self.news = false;
    }

    fn sweep(&mut self, alive: &Alive, at_ns: i64) {
        self.files.sweep(alive);
        self.files_memory.sweep(alive, at_ns);
        for remote in &mut self.remotes {
            remote.memory.sweep(alive, at_ns);
            remote.pods_retry.retain(|uid| alive.pods.contains(uid));
            remote.containers_retry.retain(|id| alive.containers.contains(id));
        }
    }

    /// The tables, best first, for the join.
    pub(super) fn tables(&self) -> Vec<(&'static str, &NameTable)> {
        let remotes = self.remotes.iter().map(|remote| (remote.service.word(), remote.memory.table()));
        remotes.chain([("files", self.files_memory.table())]).collect()
    }

    /// (namespace, name) of a pod, alive or departed less than five minutes ago.
    pub(super) fn name_of(&self, uid: &PodUid) -> Option<(String, String)> {
        let tables = self.tables();
        let (_, pod) = Names(&tables).pod(uid)?;
        Some((pod.namespace.clone(), pod.name.clone()))
    }

    /// States of the three sources; `unnamed` is the number of pods that none of them knows.
    pub(super) fn health(&self, at_ns: i64, unnamed: usize) -> Vec<SourceHealth> {
        let mut all = vec![self.files_health(at_ns, unnamed)];
        all.extend(self.remotes.iter().rev().map(|remote| remote.told.borrow().health.clone()));
        all
    }

    fn files_health(&self, at_ns: i64, unnamed: usize) -> SourceHealth {
        let mut health = SourceHealth {
            name: "pod_names/files",
            last_success_at_ns: Some(at_ns),
            condition: Condition::Up,
            collections: self.lookups,
            ..SourceHealth::default()
        };
        let logs = self.roots.var.join("log/pods");
        if !logs.is_dir() && self.files_memory.table().pods.is_empty() {
            health.condition = Condition::Off;
            health.last_success_at_ns = None;
            health.lacks = vec![format!(
                "{} is not here: no kubelet on this node, or the directory is not mounted from the host",
                logs.display()
            )];
        } else if unnamed > 0 {
            health.condition = Condition::Degraded;
            health.lacks = vec![format!("{unnamed} pods have no name in any file or list yet")];
        }
        health
    }
}

impl Service {
    /// The word for `named_by`.
    const fn word(self) -> &'static str {
        match self {
            Self::Cri => "cri",
            Self::Kubelet => "kubelet",
        }
    }
}

impl Remote {
    /// Takes over a new list; whether anything in it is new.
    fn take(&mut self, at_ns: i64) -> bool {
        let table = {
            let told = self.told.borrow();
            if told.version == self.taken {
                return false;
            }
            self.taken = told.version;
            told.table.clone()
        };
        self.memory.learn((*table).clone(), at_ns)
    }

    /// Wants a new list when the tree shows something in a pod that the last one lacked.
    fn ask(&mut self, leaves: &[Leaf], at_ns: i64) {
        let table = self.memory.table();
        let mut lacking = false;
        for leaf in leaves {
            let place = &leaf.place;
            if let Some(uid) = &place.pod_uid
                && !table.pods.contains_key(uid)
            {
                lacking |= self.pods_retry.due(uid, at_ns);
            }
            // Outside pods' groups only what a CRI runtime made can still belong to a pod.
            let by_cri = matches!(place.runtime, Some(Runtime::Containerd | Runtime::Crio | Runtime::Kata));
            if let Some(id) = &place.container_id
                && (place.pod_uid.is_some() || by_cri)
                && !table.containers.contains_key(id)
            {
                lacking |= self.containers_retry.due(id, at_ns);
            }
        }
        if lacking {
            self.wanted.send_modify(|count| *count += 1);
        }
    }
}

/// What the tree shows.
fn alive(leaves: &[Leaf]) -> Alive {
    Alive {
        pods: leaves.iter().filter_map(|leaf| leaf.place.pod_uid.clone()).collect(),
        containers: leaves.iter().filter_map(|leaf| leaf.place.container_id.clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
