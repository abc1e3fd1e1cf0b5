//! `GET /api/v1/pods/pids` (the reference's shape) and `GET /api/v1/pods` (ours, complete).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::runqueue::{Recent, Runqueue};
use super::usage::Usage;
use crate::domain::pod as domain;
use crate::domain::runqueue::{self, RunqueuePair};
use crate::domain::usage::UsageMap;

/// What `GET /api/v1/pods/pids` adds to the envelope. An empty list is `[]`: the reference's first generations
/// print null there, their documentation promises a list, and the third prints one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodPidsList {
    /// An entry per container that holds a process.
    pub pods: Vec<PodPids>,
}

/// The same of a whole fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetPodPidsList {
    /// An entry per container that holds a process, node by node.
    pub pods: Vec<FleetPodPids>,
}

/// An entry of a fleet's list: process ids mean nothing without their node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetPodPids {
    /// The node.
    pub node: String,
    /// The reference's keys.
    #[serde(flatten)]
    pub pod: PodPids,
}

/// One entry of the reference's `pods` list: a container of a pod with its processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodPids {
    /// `metadata.name`; empty only while no name source knows the pod.
    pub pod_name: String,
    /// `metadata.namespace`; empty likewise.
    pub namespace: String,
    /// Uid of the pod's cgroup.
    pub pod_uid: String,
    /// Container id; left out for processes at pod level, as the reference does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Processes.
    pub processes: Vec<PodProcess>,
}

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodProcess {
    /// Process id in the host's pid namespace.
    pub pid: u32,
    /// Command name.
    pub command: String,
    /// Parent; left out when 0, as the reference does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ppid: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(ppid: &u32) -> bool {
    *ppid == 0
}

/// The pods of one node, complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pods {
    /// Wall time of the walk, ns since the epoch.
    pub at_ns: i64,
    /// Pods, ascending by namespace, name, uid.
    pub pods: Vec<Pod>,
    /// Tasks outside pods.
    pub host: Host,
    /// Entries that could not be read, by reason.
    pub skipped: BTreeMap<String, u64>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Pod {
    /// Uid of the pod's cgroup.
    pub uid: String,
    /// A static pod: its uid is its manifest's hash.
    pub is_static: bool,
    /// `metadata.name`.
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `guaranteed`, `burstable`, `besteffort`, `unknown`.
    pub qos: String,
    /// `files`, `cri`, `kubelet`, or null.
    pub named_by: Option<String>,
    /// Processes in all containers.
    pub tasks: usize,
    /// Threads in all containers.
    pub threads: u64,
    /// What the pod uses: its own cgroup's figures, else the sum of its containers'. Null in records, which have a kind
    /// of their own for it.
    pub usage: Option<Box<Usage>>,
    /// How its tasks wait for a CPU. Null in records.
    pub runqueue: Option<Box<Runqueue>>,
    /// Containers, sandbox included.
    pub containers: Vec<Container>,
}

/// A container or another leaf cgroup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// Id.
    pub id: Option<String>,
    /// Name from the pod's spec.
    pub name: Option<String>,
    /// `containerd`, `crio`, `docker`, `podman`, `kata`, `ecs`, or null where the path does not say.
    pub runtime: Option<String>,
    /// `container`, `sandbox`, `conmon`, `nested-service`, `pod`, `kata-overhead`.
    pub kind: String,
    /// Path below the cgroup root.
    pub cgroup: String,
    /// Inode of the cgroup's directory.
    pub cgroup_id: u64,
    /// Threads of all processes.
    pub threads: u64,
    /// What it uses; null for sandboxes, which the pod's figures count.
    pub usage: Option<Box<Usage>>,
    /// How its tasks wait for a CPU. Null in records.
    pub runqueue: Option<Box<Runqueue>>,
    /// Processes.
    pub processes: Vec<Process>,
}

/// A process with its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time, clock ticks since boot: (pid, starttime) is never reused within a boot.
    pub starttime_ticks: u64,
    /// Parent.
    pub ppid: u32,
    /// Command name.
    pub comm: String,
    /// Threads.
    pub threads: u32,
}

/// Tasks outside pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Processes in no container.
    pub tasks: u64,
    /// Their threads.
    pub threads: u64,
    /// Containers outside Kubernetes.
    pub containers: Vec<Container>,
}

/// The reference's list: an entry per container that holds a process.
///
/// Sandboxes are listed (the reference lists `pause`), monitors are not: they are no part of the pod's work.
pub fn pod_pids(map: &domain::PodMap) -> Vec<PodPids> {
    let entry = |pod: &domain::Pod, container: &domain::Container| PodPids {
        pod_name: pod.name.clone().unwrap_or_default(),
        namespace: pod.namespace.clone().unwrap_or_default(),
        pod_uid: pod.uid.0.clone(),
        container_id: container.id.as_ref().map(|id| id.0.clone()).unwrap_or_default(),
        processes: container
            .tasks
            .iter()
            .map(|task| PodProcess { pid: task.key.pid, command: task.comm.to_string(), ppid: task.ppid })
            .collect(),
    };
    map.pods
        .iter()
        .flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
        .filter(|(_, container)| container.kind != domain::CgroupKind::Conmon && !container.tasks.is_empty())
        .map(|(pod, container)| entry(pod, container))
        .collect()
}

impl Pods {
    /// The pods with what they use.
    pub fn with_usage(pods: &domain::PodMap, map: &UsageMap) -> Self {
        let wire = |usage: &_| Box::new(Usage::new(usage, map.conversion));
        let fill = |wires: &mut [Container], containers: &[domain::Container]| {
            for (shown, container) in wires.iter_mut().zip(containers) {
                shown.usage = map.container(container).map(wire);
            }
        };
        let mut this = Self::from(pods);
        fill(&mut this.host.containers, &pods.host.containers);
        for (shown, pod) in this.pods.iter_mut().zip(&pods.pods) {
            fill(&mut shown.containers, &pod.containers);
            shown.usage = map.pod(pod).as_ref().map(wire);
        }
        this
    }

    /// The same pods with how their tasks wait for a CPU; as they are while there is no reading.
    #[must_use]
    pub fn with_runqueues(mut self, pods: &domain::PodMap, pair: &RunqueuePair) -> Self {
        if pair.now.at_ns == 0 {
            return self;
        }
        let now = runqueue::of_pods(&pair.now, pods);
        let lately = runqueue::lately(pair, pods).zip(pair.interval_ns());
        for (at, (shown, run)) in self.pods.iter_mut().zip(&now.pods).enumerate() {
            let recent = lately.as_ref().and_then(|(runs, ns)| Some((runs.pods.get(at)?, *ns)));
            let of_pod = recent.map(|(run, ns)| Recent::new(&run.totals, &run.neighbours, ns));
            shown.runqueue = Some(Box::new(Runqueue::new(&run.totals, of_pod)));
            for (at, (shown, totals)) in shown.containers.iter_mut().zip(&run.containers).enumerate() {
                let recent = recent.and_then(|(run, ns)| Some(Recent::new(run.containers.get(at)?, &[], ns)));
                shown.runqueue = Some(Box::new(Runqueue::new(totals, recent)));
            }
        }
        self
    }

    /// [`pod_pids`] of a map that came over the wire.
    pub fn pids(&self) -> Vec<PodPids> {
        let conmon = domain::CgroupKind::Conmon.name();
        let entry = |pod: &Pod, container: &Container| PodPids {
            pod_name: pod.name.clone().unwrap_or_default(),
            namespace: pod.namespace.clone().unwrap_or_default(),
            pod_uid: pod.uid.clone(),
            container_id: container.id.clone().unwrap_or_default(),
            processes: container
                .processes
                .iter()
                .map(|process| PodProcess {
                    pid: process.pid,
                    command: process.comm.clone(),
                    ppid: process.ppid,
                })
                .collect(),
        };
        self.pods
            .iter()
            .flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)))
            .filter(|(_, container)| container.kind != conmon && !container.processes.is_empty())
            .map(|(pod, container)| entry(pod, container))
            .collect()
    }
}

impl From<&domain::PodMap> for Pods {
    fn from(map: &domain::PodMap) -> Self {
        Self {
            at_ns: map.at_ns,
            pods: map.pods.iter().map(Pod::from).collect(),
            host: Host {
                tasks: map.host.tasks,
                threads: map.host.threads,
                containers: map.host.containers.iter().map(Container::from).collect(),
            },
            skipped: map.skipped.iter().map(|&(reason, count)| (reason.to_owned(), count)).collect(),
        }
    }
}

impl From<&domain::Pod> for Pod {
    fn from(pod: &domain::Pod) -> Self {
        let containers: Vec<_> = pod.containers.iter().map(Container::from).collect();
        Self {
            uid: pod.uid.0.clone(),
            is_static: pod.uid.is_static(),
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone(),
            qos: pod.qos.name().to_owned(),
            named_by: pod.named_by.map(str::to_owned),
            tasks: containers.iter().map(|container| container.processes.len()).sum(),
            threads: containers.iter().map(|container| container.threads).sum(),
            usage: None,
            runqueue: None,
            containers,
        }
    }
}

impl From<&domain::Container> for Container {
    fn from(container: &domain::Container) -> Self {
        Self {
            id: container.id.as_ref().map(|id| id.0.clone()),
            name: container.name.clone(),
            runtime: container.runtime.map(|runtime| runtime.name().to_owned()),
            kind: container.kind.name().to_owned(),
            cgroup: container.cgroup.clone(),
            cgroup_id: container.cgroup_id,
            threads: container.tasks.iter().map(|task| u64::from(task.threads)).sum(),
            usage: None,
            runqueue: None,
            processes: container.tasks.iter().map(Process::from).collect(),
        }
    }
}

impl From<&domain::Task> for Process {
    fn from(task: &domain::Task) -> Self {
        Self {
            pid: task.key.pid,
            starttime_ticks: task.key.starttime_ticks,
            ppid: task.ppid,
            comm: task.comm.to_string(),
            threads: task.threads,
        }
    }
}
