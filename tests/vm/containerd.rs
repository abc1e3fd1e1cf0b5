//! A real containerd, driven through its CRI socket as a kubelet would: pods with real groups and real processes,
//! without a kubelet and without a network (they share the machine's).
//!
//! Messages hold only the fields that are set, by their numbers in the CRI's `runtime.v1` definition.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prost::Message;
use sextant_tests::role::eventually;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

const SOCKET: &str = "/run/containerd/containerd.sock";
const IMAGE: &str = "localhost/sleep:1";
const PATIENCE: Duration = Duration::from_secs(120);

const CONFIG: &str = r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/sleep:1"
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#;

/// A pod with one container that sleeps.
pub(crate) struct Pod {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) uid: &'static str,
    pub(crate) container: &'static str,
}

/// Ids of what runs.
pub(crate) struct Running {
    pub(crate) sandbox: String,
    pub(crate) container: String,
}

/// Stops when dropped.
pub(crate) struct Containerd {
    child: Child,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What a failed test left; containers outlive their runtime.
        let left: Result<Sandboxes> = self.call("/runtime.v1.RuntimeService/ListPodSandbox", Nothing {});
        for sandbox in left.map(|left| left.items).unwrap_or_default() {
            let _best_effort = self.remove(&Running { sandbox: sandbox.id, container: String::new() });
        }
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
        let _never_there = fs::remove_file(SOCKET);
    }
}

impl Containerd {
    pub(crate) fn start() -> Result<Self> {
        let dir = Path::new("/tmp/containerd");
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.toml"), CONFIG)?;
        let log = fs::File::create(dir.join("log"))?;
        let child = Command::new("containerd")
            .args(["--config", "/tmp/containerd/config.toml"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start containerd")?;
        let this = Self { child, runtime: tokio::runtime::Runtime::new()? };
        eventually(PATIENCE, "containerd", || {
            let _: Nothing = this.call("/runtime.v1.RuntimeService/ListPodSandbox", Nothing {})?;
            Ok(())
        })
        .with_context(|| fs::read_to_string("/tmp/containerd/log").unwrap_or_default())?;
        import()?;
        Ok(this)
    }

    /// Starts the pod below `/kubepods/burstable`, as a kubelet with the cgroupfs driver does.
    pub(crate) fn run(&self, pod: &Pod) -> Result<Running> {
        let labels = [
            ("app", "web"),
            ("io.kubernetes.pod.name", pod.name),
            ("io.kubernetes.pod.namespace", pod.namespace),
            ("io.kubernetes.pod.uid", pod.uid),
        ];
        let config = SandboxConfig {
            metadata: Some(SandboxMetadata {
                name: pod.name.into(),
                uid: pod.uid.into(),
                namespace: pod.namespace.into(),
            }),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            linux: Some(LinuxSandbox {
                cgroup_parent: format!("/kubepods/burstable/pod{}", pod.uid),
                security: Some(SandboxSecurity { namespaces: Some(NAMESPACES) }),
            }),
        };
        let run = RunSandbox { config: Some(config.clone()) };
        let sandbox: Id = self.call("/runtime.v1.RuntimeService/RunPodSandbox", run)?;
        let create = CreateContainer {
            sandbox: sandbox.id.clone(),
            config: Some(ContainerConfig {
                metadata: Some(Name { name: pod.container.into() }),
                image: Some(Name { name: IMAGE.into() }),
                linux: Some(LinuxContainer {
                    security: Some(ContainerSecurity { namespaces: Some(NAMESPACES) }),
                }),
            }),
            sandbox_config: Some(config),
        };
        let container: Id = self.call("/runtime.v1.RuntimeService/CreateContainer", create)?;
        let _: Nothing =
            self.call("/runtime.v1.RuntimeService/StartContainer", Id { id: container.id.clone() })?;
        Ok(Running { sandbox: sandbox.id, container: container.id })
    }

    /// Ends the pod with everything in it.
    pub(crate) fn remove(&self, pod: &Running) -> Result<()> {
        for method in
            ["/runtime.v1.RuntimeService/StopPodSandbox", "/runtime.v1.RuntimeService/RemovePodSandbox"]
        {
            let _: Nothing = self.call(method, Id { id: pod.sandbox.clone() })?;
        }
        // The kubelet removes the pod's own group.
        let _may_be_gone = Command::new("find")
            .args(["/sys/fs/cgroup/kubepods", "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .status();
        Ok(())
    }

    fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.runtime.block_on(async {
            let channel = Endpoint::from_shared(format!("unix://{SOCKET}"))?.connect().await?;
            let mut client = Grpc::new(channel);
            client.ready().await?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = client.unary(Request::new(request), PathAndQuery::from_static(method), codec).await;
            Ok(answer.with_context(|| method)?.into_inner())
        })
    }
}

/// Makes an image of one static program and gives it to containerd.
fn import() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("bin"))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.context("no busybox")?, root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sleep"))?;
    for dir in ["dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir(root.join(dir))?;
    }
    let script = r#"tar -C root -cf layer.tar . && sum=$(sha256sum layer.tar | cut -d' ' -f1) &&
        printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/sleep","86400"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $sum > config.json &&
        printf '[{"Config":"config.json","RepoTags":["localhost/sleep:1"],"Layers":["layer.tar"]}]' > manifest.json &&
        tar -cf image.tar manifest.json config.json layer.tar &&
        ctr -n k8s.io images import --snapshotter native image.tar"#;
    let output = Command::new("sh").args(["-c", script]).current_dir(dir.path()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

/// Every request and answer whose only field is an id.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

/// `ListPodSandboxResponse`, of which only the ids are read.
#[derive(Clone, PartialEq, Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

/// `ContainerMetadata`, `ImageSpec`.
#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<SandboxMetadata>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxSandbox {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<SandboxSecurity>,
}

/// `LinuxSandboxSecurityContext`.
#[derive(Clone, PartialEq, Message)]
struct SandboxSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

/// The machine's network: no plugin for another one is needed.
const NAMESPACES: Namespaces = Namespaces { network: 2, pid: 1, ipc: 0 };

/// 0 is the pod's, 1 the container's own, 2 the node's.
#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Name>,
    #[prost(message, optional, tag = "2")]
    image: Option<Name>,
    #[prost(message, optional, tag = "15")]
    linux: Option<LinuxContainer>,
}

/// `LinuxContainerConfig`.
#[derive(Clone, PartialEq, Message)]
struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    security: Option<ContainerSecurity>,
}

/// `LinuxContainerSecurityContext`.
#[derive(Clone, PartialEq, Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
}
