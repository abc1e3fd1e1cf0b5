//! Names from the kubelet's Pods API (beta and on by default in Kubernetes 1.37, alpha from 1.35): `ListPods`.
//!
//! No API server, no token; the socket belongs to root. The answer's pods are serialized `core/v1` Pods; whether
//! the definition calls them bytes or messages makes no difference on the wire. Messages hold only the fields
//! that are read, by their numbers in `core/v1` and `meta/v1`. A field mask asks for no others.

use std::collections::HashMap;
use std::path::PathBuf;

use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use super::super::cgroup::canonical_uid;
use super::MAX_ANSWER_BYTES;
use crate::domain::pod::{ContainerId, ContainerName, NameTable, PodName, PodUid, QosClass};
use crate::host::HostRoots;
use crate::rpc::{RpcError, Socket};

/// The service as 1.35 to 1.37 name it, then the names that a graduated one would have.
const LIST_PODS: [&str; 3] = ["/v1alpha1.Pods/ListPods", "/v1beta1.Pods/ListPods", "/v1.Pods/ListPods"];

/// gRPC metadata key of the field mask, a comma-separated list.
const FIELD_MASK_KEY: &str = "x-kubernetes-fieldmask";

const FIELD_MASK: &str = "metadata.name,metadata.namespace,metadata.uid,metadata.labels,metadata.annotations,\
                          status.containerStatuses.name,status.containerStatuses.containerID,\
                          status.initContainerStatuses.name,status.initContainerStatuses.containerID,\
                          status.ephemeralContainerStatuses.name,status.ephemeralContainerStatuses.containerID,\
                          status.qosClass";

/// Without a filter: everything.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPodsRequest {}

/// `ListPodsResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ListPodsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) pods: Vec<Pod>,
}

/// `core/v1.Pod`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pod {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<PodStatus>,
}

/// `meta/v1.ObjectMeta`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMeta {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
    #[prost(string, tag = "5")]
    pub(super) uid: String,
    #[prost(map = "string, string", tag = "11")]
    pub(super) labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "12")]
    pub(super) annotations: HashMap<String, String>,
}

/// `core/v1.PodStatus`: three lists share the pod's cgroup.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodStatus {
    #[prost(message, repeated, tag = "8")]
    pub(super) container_statuses: Vec<ContainerStatus>,
    #[prost(string, tag = "9")]
    pub(super) qos_class: String,
    #[prost(message, repeated, tag = "10")]
    pub(super) init_container_statuses: Vec<ContainerStatus>,
    #[prost(message, repeated, tag = "13")]
    pub(super) ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// `core/v1.ContainerStatus`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerStatus {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    /// `containerd://<id>`.
    #[prost(string, tag = "8")]
    pub(super) container_id: String,
}

/// Beta path, then alpha path.
pub(super) fn sockets(roots: &HostRoots) -> Vec<PathBuf> {
    let kubelet = roots.var.join("lib/kubelet");
    vec![kubelet.join("pods-api/pods-api.sock"), kubelet.join("pods/kubelet.sock")]
}

/// Everything the kubelet knows.
///
/// # Errors
/// [`RpcError`]; `FailedPrecondition` and `Unavailable` until the kubelet has synced its pods.
pub(super) async fn list(roots: &HostRoots) -> Result<NameTable, RpcError> {
    let socket = Socket::connect("the kubelet's Pods API", sockets(roots), MAX_ANSWER_BYTES).await?;
    let mut answer = list_pods(&socket, LIST_PODS[0], true).await;
    // A kubelet that knows none of the fields by these names still has the pods.
    if answer.as_ref().is_err_and(|error| error.code() == Some(Code::InvalidArgument)) {
        answer = list_pods(&socket, LIST_PODS[0], false).await;
    }
    for method in &LIST_PODS[1..] {
        if !answer.as_ref().is_err_and(|error| error.code() == Some(Code::Unimplemented)) {
            break;
        }
        answer = list_pods(&socket, method, true).await;
    }
    answer.map(table)
}

async fn list_pods(
    socket: &Socket,
    method: &'static str,
    masked: bool,
) -> Result<ListPodsResponse, RpcError> {
    let mut request = Request::new(ListPodsRequest {});
    if masked {
        request.metadata_mut().insert(FIELD_MASK_KEY, MetadataValue::from_static(FIELD_MASK));
    }
    socket.call(method, request).await
}

fn table(answer: ListPodsResponse) -> NameTable {
    let mut table = NameTable::default();
    for pod in answer.pods {
        let Some(metadata) = pod.metadata else { continue };
        // Static pods and their mirrors: the cgroup carries the manifest's hash.
        let hash = metadata.annotations.get("kubernetes.io/config.hash");
        let Some(uid) = canonical_uid(hash.unwrap_or(&metadata.uid)) else { continue };
        let status = pod.status.unwrap_or_default();
        let qos = qos(&status.qos_class);
        for container in
            [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses]
                .into_iter()
                .flatten()
        {
            enter(&mut table, &uid, container);
        }
        let name = PodName {
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels.into_iter().collect(),
            qos,
        };
        table.pods.insert(uid, name);
    }
    table
}

fn enter(table: &mut NameTable, uid: &PodUid, status: ContainerStatus) {
    let id = status.container_id.split_once("://").map_or("", |(_, id)| id);
    if !id.is_empty() {
        let name = Some(status.name).filter(|name| !name.is_empty());
        let record = ContainerName { name, pod: Some(uid.clone()), sandbox: false };
        table.containers.insert(ContainerId(id.to_owned()), record);
    }
}

fn qos(word: &str) -> Option<QosClass> {
    match word {
        "Guaranteed" => Some(QosClass::Guaranteed),
        "Burstable" => Some(QosClass::Burstable),
        "BestEffort" => Some(QosClass::BestEffort),
        _ => None,
    }
}
