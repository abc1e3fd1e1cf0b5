//! Pods, containers and tasks as the node sees them, and the joins between cgroups and names.

use std::collections::BTreeMap;
use std::sync::Arc;

pub mod cgroup_ref;
pub mod join;
pub mod names;

pub use cgroup_ref::CgroupRef;
pub use join::{Leaf, join};
pub use names::{ContainerName, NameTable, Names, PodName};

/// A pod's uid as its cgroup has it: 8-4-4-4-12 hex with dashes, or 32 hex for a static pod's hash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(pub String);

impl PodUid {
    /// A static pod: the uid is the hash of its manifest, and its API mirror has another one.
    pub fn is_static(&self) -> bool {
        self.0.len() == 32
    }
}

/// A container's id: 64 hex for the CRI runtimes and Docker, other shapes for ECS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(pub String);

/// Quality of service class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QosClass {
    /// Requests equal limits.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// No requests.
    BestEffort,
    /// The path does not say (relative paths, custom roots): never guessed.
    #[default]
    Unknown,
}

impl QosClass {
    /// Lower-case word for JSON, labels and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "guaranteed",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
            Self::Unknown => "unknown",
        }
    }
}

/// What a cgroup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupKind {
    /// A workload container.
    Container,
    /// A pod sandbox: the pause process, or a Kata sandbox.
    Sandbox,
    /// A container's monitor (conmon).
    Conmon,
    /// A service inside a node container (kind, minikube): no pod of its own.
    NestedService,
    /// A pod-level cgroup without a container.
    Pod,
    /// The host side of a Kata sandbox (VMM, virtiofsd, shim), outside the pod's cgroup.
    KataOverhead,
    /// Nothing of ours: host.
    #[default]
    None,
}

impl CgroupKind {
    /// Word for JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Sandbox => "sandbox",
            Self::Conmon => "conmon",
            Self::NestedService => "nested-service",
            Self::Pod => "pod",
            Self::KataOverhead => "kata-overhead",
            Self::None => "none",
        }
    }
}

/// Container runtime, from the leaf's prefix; cgroupfs leaves do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// `cri-containerd-`.
    Containerd,
    /// `crio-`.
    Crio,
    /// `docker-`.
    Docker,
    /// `libpod-`.
    Podman,
    /// `kata_`.
    Kata,
    /// `/ecs/`.
    Ecs,
}

impl Runtime {
    /// Word for JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Kata => "kata",
            Self::Ecs => "ecs",
        }
    }
}

/// A task's identity within one boot: the kernel reuses pids, never (pid, start time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    /// Thread-group leader (tgid).
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub starttime_ticks: u64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Identity.
    pub key: TaskKey,
    /// Parent.
    pub ppid: u32,
    /// Command name, at most 15 bytes, lossily decoded. Shared: successive maps hold the same names.
    pub comm: Arc<str>,
    /// Number of threads.
    pub threads: u32,
}

/// What happened in a cgroup since the source began to follow it, processes too short-lived for any map included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Churn {
    /// Processes that started in it; runtimes fork elsewhere and move the process here.
    pub forks: u64,
    /// Programs that were started in it.
    pub execs: u64,
    /// Processes that ended in it.
    pub exits: u64,
}

impl Churn {
    /// Both together.
    pub const fn add(&mut self, other: Self) {
        self.forks = self.forks.saturating_add(other.forks);
        self.execs = self.execs.saturating_add(other.execs);
        self.exits = self.exits.saturating_add(other.exits);
    }
}

/// A container, or another leaf cgroup of a pod (sandbox, conmon, the pod level itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Id; none for tasks at pod level.
    pub id: Option<ContainerId>,
    /// Name from the pod's spec.
    pub name: Option<String>,
    /// Runtime, where the path says.
    pub runtime: Option<Runtime>,
    /// What this cgroup holds.
    pub kind: CgroupKind,
    /// Path below the cgroup root.
    pub cgroup: String,
    /// Inode of the directory: the id that BPF programs see.
    pub cgroup_id: u64,
    /// Its processes, ascending by pid (those of cgroups below it included).
    pub tasks: Vec<Task>,
    /// What happened in it; `None` where nobody follows the kernel's events.
    pub churn: Option<Churn>,
}

/// A pod's own cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodGroup {
    /// Path below the cgroup root.
    pub cgroup: String,
    /// Inode of the directory.
    pub cgroup_id: u64,
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Uid.
    pub uid: PodUid,
    /// `metadata.name`, once a name source knows it.
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.labels`; only RPC sources have them.
    pub labels: BTreeMap<String, String>,
    /// Quality of service.
    pub qos: QosClass,
    /// Which source named it (`files`, `cri`, `kubelet`).
    pub named_by: Option<&'static str>,
    /// The pod's own cgroup, above its containers'; none where the driver makes none.
    pub group: Option<PodGroup>,
    /// Containers, sandbox included, ascending by cgroup path.
    pub containers: Vec<Container>,
}

/// Tasks that belong to no pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Processes in no container.
    pub tasks: u64,
    /// Their threads.
    pub threads: u64,
    /// Containers outside Kubernetes (plain Docker, podman, ECS).
    pub containers: Vec<Container>,
}

/// The pods of this node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMap {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Changes whenever the set of pods, names or tasks does.
    pub generation: u64,
    /// Ascending by (namespace, name, uid).
    pub pods: Vec<Pod>,
    /// Everything else.
    pub host: Host,
    /// Entries that could not be read, by reason (`permission`, `too_many` ...); vanished ones are not errors.
    pub skipped: Vec<(&'static str, u64)>,
}

impl PodMap {
    /// Processes in pods.
    pub fn pod_tasks(&self) -> usize {
        self.pods.iter().flat_map(|pod| &pod.containers).map(|container| container.tasks.len()).sum()
    }
}
