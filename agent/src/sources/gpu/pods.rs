//! Which pods have which devices: the kubelet's pod-resources socket (`v1.PodResourcesLister/List`, stable since Kubernetes
//! 1.28), asked in the background.
//!
//! No collection waits for it. While it does not answer, the last list stands: devices change hands when pods come and go,
//! and a kubelet that restarts changes nothing of that. Messages hold only the fields that are read, by their numbers in
//! the kubelet's `podresources/v1` definition.

use std::path::PathBuf;
use std::sync::Arc;

use prost::Message;
use tokio::sync::watch;
use tokio::time::{Duration, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::domain::gpu::{Allocations, DeviceId, Worker};
use crate::domain::source::{Condition, SourceHealth};
use crate::rpc::{RpcError, Socket};

const LIST: &str = "/v1.PodResourcesLister/List";

/// Between two questions: a pod that was just started has its device for a moment without its name.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// Largest answer, bytes. It lists every pod with every device, hugepage and CPU: some nodes' is more than the 4 MiB that
/// gRPC takes by default.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Devices given to pods that are remembered; a node has a few hundred with all their shares.
const MAX_DEVICES: usize = 10_000;

/// The source's name.
pub(super) const NAME: &str = "gpu/pods";

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListRequest {}

/// `ListPodResourcesResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct List {
    #[prost(message, repeated, tag = "1")]
    pub(super) pod_resources: Vec<PodResources>,
}

/// `PodResources`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodResources {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) containers: Vec<ContainerResources>,
}

/// `ContainerResources`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerResources {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) devices: Vec<ContainerDevices>,
    #[prost(message, repeated, tag = "5")]
    pub(super) dynamic_resources: Vec<DynamicResource>,
}

/// `ContainerDevices`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerDevices {
    #[prost(string, tag = "1")]
    pub(super) resource_name: String,
    #[prost(string, repeated, tag = "2")]
    pub(super) device_ids: Vec<String>,
}

/// `DynamicResource`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DynamicResource {
    #[prost(message, repeated, tag = "4")]
    pub(super) claim_resources: Vec<ClaimResource>,
}

/// `ClaimResource`; the driver and the device are told from Kubernetes 1.34 on.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ClaimResource {
    #[prost(message, repeated, tag = "1")]
    pub(super) cdi_devices: Vec<CdiDevice>,
    #[prost(string, tag = "2")]
    pub(super) driver_name: String,
    #[prost(string, tag = "4")]
    pub(super) device_name: String,
}

/// `CDIDevice`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CdiDevice {
    /// `vendor.com/class=device`.
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// Asks at once and then every `period` until cancelled.
pub(super) async fn follow(
    socket: PathBuf,
    period: Duration,
    wall: fn() -> i64,
    out: watch::Sender<Arc<Allocations>>,
    health: watch::Sender<SourceHealth>,
    cancel: CancellationToken,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let Some(listed) = cancel.run_until_cancelled(list(&socket)).await else { return };
        health.send_modify(|health| told(health, listed.as_ref().map(drop), wall()));
        match listed {
            Ok(list) => {
                let allocations = allocations(list);
                out.send_if_modified(|known| {
                    let is_new = **known != allocations;
                    if is_new {
                        *known = Arc::new(allocations);
                    }
                    is_new
                });
            }
            Err(error) => tracing::debug!(%error, "no list of pods' devices"),
        }
    }
}

async fn list(socket: &std::path::Path) -> Result<List, RpcError> {
    let service = "the kubelet's pod resources";
    let socket = Socket::connect(service, vec![socket.to_owned()], MAX_ANSWER_BYTES).await?;
    socket.call(LIST, Request::new(ListRequest {})).await
}

fn told(health: &mut SourceHealth, listed: Result<(), &RpcError>, at_ns: i64) {
    health.lacks.clear();
    health.last_error = None;
    match listed {
        Ok(()) => {
            health.condition = Condition::Up;
            health.collections += 1;
            health.last_success_at_ns = Some(at_ns);
        }
        // A node that is none of Kubernetes'.
        Err(error @ RpcError::Absent { .. }) => {
            health.condition = Condition::Off;
            health.lacks = vec![format!("{error}: devices have no pods")];
        }
        Err(error) => {
            health.condition = Condition::Degraded;
            health.failures += 1;
            health.last_error = Some(error.to_string());
            health.lacks =
                vec!["the kubelet does not say which pod has which device: the last list stands".to_owned()];
        }
    }
}

fn allocations(list: List) -> Allocations {
    let mut all = Allocations::default();
    for pod in list.pod_resources {
        for container in pod.containers {
            let worker = Worker {
                namespace: pod.namespace.clone(),
                pod: pod.name.clone(),
                container: container.name.clone(),
            };
            let plugged = container.devices.iter().filter(|devices| is_gpu(&devices.resource_name));
            let claimed = container.dynamic_resources.iter().flat_map(|dynamic| &dynamic.claim_resources);
            let ids = plugged.flat_map(|devices| devices.device_ids.iter().map(String::as_str));
            for id in ids.chain(claimed.flat_map(claimed_ids)) {
                if let Some(id) = DeviceId::parse(id)
                    && all.len() < MAX_DEVICES
                {
                    all.add(id, worker.clone());
                }
            }
        }
    }
    all
}

/// Resources that are GPUs, whole or in parts, and not network cards or the like, whose ids could be anything.
fn is_gpu(resource: &str) -> bool {
    let (vendor, name) = resource.split_once('/').unwrap_or(("", resource));
    ["gpu", "mig-", "vgpu"].iter().any(|word| name.contains(word))
        || ["nvidia.com", "amd.com"].contains(&vendor)
}

/// What a claim's device may be known by: its name, and what its CDI names end with.
fn claimed_ids(claim: &ClaimResource) -> Vec<&str> {
    let is_ours = claim.driver_name.is_empty() || claim.driver_name.contains("gpu");
    let cdi = claim.cdi_devices.iter().filter_map(|device| {
        let (kind, name) = device.name.split_once('=')?;
        kind.contains("gpu").then_some(name)
    });
    let own = Some(claim.device_name.as_str()).filter(|name| is_ours && !name.is_empty());
    own.into_iter().chain(cdi).collect()
}

#[cfg(test)]
mod tests;
