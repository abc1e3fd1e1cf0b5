//! Names from the container runtime's CRI socket: `ListPodSandbox` and `ListContainers`.
//!
//! Messages hold only the fields that are read, by their numbers in the CRI's `runtime.v1` definition.

use std::collections::HashMap;
use std::path::PathBuf;

use prost::Message;
use tonic::Request;

use super::super::cgroup::canonical_uid;
use super::MAX_ANSWER_BYTES;
use crate::domain::pod::{ContainerId, ContainerName, NameTable, PodName, PodUid};
use crate::host::HostRoots;
use crate::rpc::{RpcError, Socket};

const LIST_SANDBOXES: &str = "/runtime.v1.RuntimeService/ListPodSandbox";
const LIST_CONTAINERS: &str = "/runtime.v1.RuntimeService/ListContainers";

/// Labels that the kubelet adds to a sandbox and that are no labels of the pod.
const KUBELET_LABELS: &str = "io.kubernetes.";

/// Without a filter: everything.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListRequest {}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    pub(super) items: Vec<Sandbox>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sandbox {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(message, optional, tag = "2")]
    pub(super) metadata: Option<SandboxMetadata>,
    #[prost(map = "string, string", tag = "5")]
    pub(super) labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "6")]
    pub(super) annotations: HashMap<String, String>,
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

/// `ListContainersResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub(super) containers: Vec<Container>,
}

/// `Container`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Container {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(super) metadata: Option<ContainerMetadata>,
}

/// `ContainerMetadata`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// Where runtimes listen, most common first.
pub(super) fn sockets(roots: &HostRoots) -> Vec<PathBuf> {
    vec![
        roots.run.join("containerd/containerd.sock"),
        roots.run.join("k3s/containerd/containerd.sock"),
        roots.run.join("k0s/containerd.sock"),
        roots.var.join("snap/microk8s/common/run/containerd.sock"),
        roots.run.join("crio/crio.sock"),
        roots.run.join("cri-dockerd.sock"),
    ]
}

/// Everything the runtime knows.
///
/// # Errors
/// [`RpcError`]; a containerd that serves only plain containers answers `Unimplemented`.
pub(super) async fn list(roots: &HostRoots) -> Result<NameTable, RpcError> {
    let socket = Socket::connect("a container runtime (CRI)", sockets(roots), MAX_ANSWER_BYTES).await?;
    let sandboxes: Sandboxes = socket.call(LIST_SANDBOXES, Request::new(ListRequest {})).await?;
    let containers: Containers = socket.call(LIST_CONTAINERS, Request::new(ListRequest {})).await?;
    Ok(table(sandboxes, containers))
}

fn table(sandboxes: Sandboxes, containers: Containers) -> NameTable {
    let mut table = NameTable::default();
    for sandbox in sandboxes.items {
        let Some((uid, pod)) = pod(&sandbox) else { continue };
        table.containers.insert(
            ContainerId(sandbox.id),
            ContainerName { name: None, pod: Some(uid.clone()), sandbox: true },
        );
        table.pods.insert(uid, pod);
    }
    for container in containers.containers {
        let sandbox = table.containers.get(&ContainerId(container.pod_sandbox_id));
        let pod = sandbox.and_then(|sandbox| sandbox.pod.clone());
        let name = container.metadata.map(|metadata| metadata.name).filter(|name| !name.is_empty());
        table.containers.insert(ContainerId(container.id), ContainerName { name, pod, sandbox: false });
    }
    table
}

fn pod(sandbox: &Sandbox) -> Option<(PodUid, PodName)> {
    let metadata = sandbox.metadata.as_ref()?;
    // A static pod's cgroup carries its manifest's hash, whatever uid its mirror has.
    let hash = sandbox.annotations.get("kubernetes.io/config.hash");
    let uid = canonical_uid(hash.unwrap_or(&metadata.uid))?;
    let labels = sandbox.labels.iter().filter(|(key, _)| !key.starts_with(KUBELET_LABELS));
    let pod = PodName {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
        qos: None,
    };
    Some((uid, pod))
}
