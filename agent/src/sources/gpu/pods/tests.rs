use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::timeout;
use tonic::Status;

use super::*;
use crate::domain::gpu::Device;
use crate::rpc::fake::{message, serve};

fn container(name: &str, resource: &str, ids: &[&str]) -> ContainerResources {
    let device_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    ContainerResources {
        name: name.to_owned(),
        devices: vec![ContainerDevices { resource_name: resource.to_owned(), device_ids }],
        dynamic_resources: Vec::new(),
    }
}

fn claimed(driver: &str, device: &str, cdi: &str) -> ContainerResources {
    let claim = ClaimResource {
        cdi_devices: vec![CdiDevice { name: cdi.to_owned() }],
        driver_name: driver.to_owned(),
        device_name: device.to_owned(),
    };
    let dynamic_resources = vec![DynamicResource { claim_resources: vec![claim] }];
    ContainerResources { name: "c".to_owned(), devices: Vec::new(), dynamic_resources }
}

fn pod(name: &str, containers: Vec<ContainerResources>) -> PodResources {
    PodResources { name: name.to_owned(), namespace: "ml".to_owned(), containers }
}

fn pods_of(all: &Allocations, uuid: &str, device: &str) -> Vec<String> {
    let device = Device { uuid: uuid.to_owned(), device: device.to_owned(), ..Device::default() };
    all.workers(&device).iter().map(|worker| worker.pod.clone()).collect()
}

#[test]
fn devices_are_found_in_every_form_and_other_resources_are_not_devices() {
    let all = allocations(List {
        pod_resources: vec![
            pod("plain", vec![container("c", "nvidia.com/gpu", &["GPU-1"])]),
            pod("mig", vec![container("c", "nvidia.com/mig-1g.10gb", &["MIG-1"])]),
            pod("one", vec![container("c", "nvidia.com/gpu.shared", &["GPU-2::0", "GPU-2::1"])]),
            pod("two", vec![container("c", "nvidia.com/gpu.shared", &["GPU-2::2"])]),
            pod("gke", vec![container("c", "nvidia.com/gpu", &["nvidia3/vgpu0"])]),
            pod("amd", vec![container("c", "amd.com/gpu", &["0000:1b:00.0"])]),
            pod("dra", vec![claimed("gpu.nvidia.com", "gpu-5", "k8s.gpu.nvidia.com/claim=x-gpu-5")]),
            pod("dra-old", vec![claimed("", "", "nvidia.com/gpu=GPU-6")]),
            pod(
                "network",
                vec![
                    container("c", "intel.com/sriov", &["GPU-1"]),
                    claimed("net.example", "gpu-5", "a.com/nic=GPU-6"),
                ],
            ),
            pod("none", vec![container("c", "nvidia.com/gpu", &[""])]),
        ],
    });
    for (uuid, device, pods) in [
        ("GPU-1", "nvidia0", &["plain"][..]),
        ("MIG-1", "", &["mig"]),
        ("GPU-2", "nvidia2", &["one", "two"]),
        ("GPU-3", "nvidia3", &["gke"]),
        ("0000:1b:00.0", "card1", &["amd"]),
        ("GPU-5", "nvidia5", &["dra"]),
        ("GPU-6", "nvidia6", &["dra-old"]),
        ("GPU-7", "nvidia7", &[]),
    ] {
        assert_eq!(pods_of(&all, uuid, device), pods, "{uuid}");
    }
}

#[tokio::test]
async fn the_last_list_stands_while_the_kubelet_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kubelet.sock");
    let (out, mut all) = watch::channel(Arc::default());
    let (health_out, mut health) = watch::channel(SourceHealth { name: NAME, ..SourceHealth::default() });
    let cancel = CancellationToken::new();
    let following = tokio::spawn(follow(
        socket.clone(),
        Duration::from_millis(20),
        || 7,
        out,
        health_out,
        cancel.clone(),
    ));
    // No kubelet is no error.
    health.wait_for(|health| health.condition == Condition::Off).await.unwrap();

    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fake = serve(&socket, move |path, _| {
        assert_eq!(path, LIST);
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => message(&List {
                pod_resources: vec![pod("p", vec![container("c", "nvidia.com/gpu", &["GPU-1"])])],
            }),
            _ => Err(Status::resource_exhausted("later")),
        }
    });
    timeout(Duration::from_secs(60), all.changed()).await.unwrap().unwrap();
    assert_eq!(pods_of(&all.borrow_and_update(), "GPU-1", ""), ["p"]);
    health.wait_for(|health| health.condition == Condition::Degraded).await.unwrap();
    assert!(health.borrow().last_error.as_deref().unwrap().contains("later"), "{:?}", health.borrow());
    assert_eq!(pods_of(&all.borrow(), "GPU-1", ""), ["p"]);
    drop(fake);
    std::fs::remove_file(&socket).unwrap();
    health.wait_for(|health| health.condition == Condition::Off).await.unwrap();
    assert_eq!(pods_of(&all.borrow(), "GPU-1", ""), ["p"], "still the last list");
    cancel.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn a_list_larger_than_grpc_takes_by_default_is_read_and_one_beyond_the_limit_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("kubelet.sock");
    let large = |pods: usize| List {
        pod_resources: (0..pods).map(|n| pod(&format!("{n}-{}", "x".repeat(1_000)), Vec::new())).collect(),
    };
    let fake = serve(&socket, move |_, _| message(&large(6_000)));
    assert_eq!(list(&socket).await.unwrap().pod_resources.len(), 6_000);
    drop(fake);
    let _fake = serve(&socket, move |_, _| message(&large(70_000)));
    assert!(matches!(list(&socket).await, Err(RpcError::Call { .. })));
}
