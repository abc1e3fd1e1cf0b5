use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::pods::{ContainerDevices, ContainerResources, List, PodResources};
use super::*;
use crate::domain::gpu::fields::{FB_USED, GPU_UTIL, SM_CLOCK};
use crate::rpc::fake;

/// A node with a root of its own, without NVIDIA's library.
fn host(root: &Path) -> (Config, HostRoots) {
    let roots = HostRoots { sys: root.join("sys"), var: root.join("var"), ..HostRoots::default() };
    let nvml_library = root.join("no-library.so");
    (Config { interval_ms: 1_000, nvml_library, ..Config::default() }, roots)
}

fn amd_card(root: &Path) {
    let device = root.join("sys/class/drm/card0/device");
    std::fs::create_dir_all(&device).unwrap();
    for (file, text) in
        [("vendor", "0x1002"), ("unique_id", "ab"), ("gpu_busy_percent", "50"), ("mem_busy_percent", "5")]
    {
        std::fs::write(device.join(file), text).unwrap();
    }
}

struct Running {
    map: watch::Receiver<Arc<GpuMap>>,
    health: watch::Receiver<Vec<SourceHealth>>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

fn start((config, roots): (Config, HostRoots)) -> Running {
    let (map_out, map) = watch::channel(Arc::default());
    let (health_out, health) = watch::channel(Vec::new());
    let cancel = CancellationToken::new();
    let out = Outputs { map: map_out, health: health_out };
    let task = tokio::spawn(run(config, roots, "n1".to_owned(), || 7, out, cancel.clone()));
    Running { map, health, cancel, task }
}

impl Running {
    async fn first(&mut self) -> (Arc<GpuMap>, SourceHealth) {
        self.health.changed().await.unwrap();
        (Arc::clone(&self.map.borrow()), self.health.borrow_and_update()[0].clone())
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_node_without_a_gpu_is_an_ordinary_node() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(host(dir.path()));
    let (map, health) = running.first().await;
    assert_eq!((map.at_ns, map.devices.len()), (7, 0));
    assert_eq!((health.condition, health.failures, health.collections), (Condition::Off, 0, 1));
    let lacks = health.lacks.join("\n");
    assert!(lacks.contains("no NVIDIA driver") && lacks.contains("no GPU of AMD"), "{lacks}");
    running.stop().await;

    let (config, roots) = host(dir.path());
    let mut off = start((Config { enabled: false, ..config }, roots));
    assert!(off.first().await.1.lacks[0].contains("enabled is false"));
    off.stop().await;
}

#[tokio::test]
async fn inputs_join_and_the_file_of_counters_chooses() {
    let dir = tempfile::tempdir().unwrap();
    amd_card(dir.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let body =
            format!("{GPU_UTIL}{{UUID=\"GPU-1\",device=\"nvidia0\"}} 9\n{SM_CLOCK}{{UUID=\"GPU-1\"}} 1\n<\n");
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let (mut config, roots) = host(dir.path());
    config.scrape = vec![url, "http://127.0.0.1:1/metrics".to_owned()];
    config.counters_file = dir.path().join("counters.csv");
    std::fs::write(&config.counters_file, format!("{GPU_UTIL}, gauge, use\n{FB_USED}, gauge, memory\n"))
        .unwrap();
    assert_eq!(config.check(), Ok(()));
    let mut running = start((config, roots));
    let (map, health) = running.first().await;
    let shown: Vec<_> = map
        .devices
        .iter()
        .map(|one| (&*one.device.uuid, &*one.device.hostname, one.value(GPU_UTIL), one.values.len()))
        .collect();
    assert_eq!(shown, [("ab", "n1", Some(50.0), 1), ("GPU-1", "n1", Some(9.0), 1)]);
    assert_eq!(health.condition, Condition::Degraded);
    let lacks = health.lacks.join("\n");
    assert!(lacks.contains("1 lines are no samples") && lacks.contains("127.0.0.1:1"), "{lacks}");
    assert!(!lacks.contains("no NVIDIA driver"), "who has GPUs is not told of others: {lacks}");
    running.stop().await;
}

#[tokio::test]
async fn a_kubelet_that_says_nonsense_changes_no_reading() {
    let dir = tempfile::tempdir().unwrap();
    amd_card(dir.path());
    let (config, roots) = host(dir.path());
    let socket = roots.var.join("lib/kubelet/pod-resources/kubelet.sock");
    let _fake = fake::serve(&socket, |_, _| Ok(vec![0xff; 100]));
    let mut running = start((config, roots));
    let (map, _) = running.first().await;
    assert_eq!((map.devices.len(), map.devices[0].worker()), (1, None));
    let degraded = |all: &Vec<SourceHealth>| {
        all.iter().any(|one| one.name == pods::NAME && one.condition == Condition::Degraded)
    };
    running.health.wait_for(degraded).await.unwrap();
    assert_eq!(running.map.borrow().devices.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_device_has_the_pod_that_the_kubelet_says() {
    let dir = tempfile::tempdir().unwrap();
    amd_card(dir.path());
    let (mut config, roots) = host(dir.path());
    config.pod_resources = dir.path().join("elsewhere/kubelet.sock");
    let devices =
        ContainerDevices { resource_name: "amd.com/gpu".to_owned(), device_ids: vec!["ab".to_owned()] };
    let container =
        ContainerResources { name: "c".to_owned(), devices: vec![devices], dynamic_resources: Vec::new() };
    let pod = PodResources { name: "p".to_owned(), namespace: "ml".to_owned(), containers: vec![container] };
    let list = List { pod_resources: vec![pod] };
    let _fake = fake::serve(&config.pod_resources.clone(), move |_, _| fake::message(&list));
    let mut running = start((config, roots));
    let has_pod = |map: &Arc<GpuMap>| {
        map.devices.iter().any(|one| one.worker().is_some_and(|worker| worker.pod == "p"))
    };
    tokio::time::timeout(Duration::from_secs(30), running.map.wait_for(has_pod)).await.unwrap().unwrap();
    running.stop().await;
}

#[test]
fn a_configuration_that_cannot_be_is_told() {
    let with = |scrape: Vec<String>| Config { scrape, ..Config::default() }.check();
    assert!(with(vec!["gpu:9400".to_owned()]).unwrap_err().contains("gpu:9400"));
    assert!(with(vec!["http://h/".to_owned(); MAX_EXPORTERS + 1]).is_err());
    assert_eq!(with(vec!["http://h:9400/metrics".to_owned()]), Ok(()));
}
