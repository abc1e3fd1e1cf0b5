//! A container's OCI `config.json`, written by the runtime when it makes the container: no RPC needed.
//!
//! containerd keeps it in the task's bundle, CRI-O in the container's user data; both put the pod's identity
//! into annotations (containerd tells the uid since 1.6.11).

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open, openat};
use serde::Deserialize;

use super::super::cgroup::canonical_uid;
use crate::domain::pod::{ContainerId, ContainerName, PodName, PodUid};
use crate::host::HostRoots;

/// Largest file that is read, bytes: real ones are 5 to 40 KiB, mostly mounts and seccomp.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Where bundles are, below the run root, and the file in the container's own: containerd, the distributions that move
/// it, CRI-O.
const RUN_BUNDLES: [(&str, &str); 4] = [
    ("containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("k3s/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("k0s/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
    ("containers/storage/overlay-containers", "userdata/config.json"),
];

/// The same below the var root: CRI-O's persistent copy, microk8s.
const VAR_BUNDLES: [(&str, &str); 2] = [
    ("lib/containers/storage/overlay-containers", "userdata/config.json"),
    ("snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task/k8s.io", "config.json"),
];

/// What one file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    /// The container.
    pub(super) container: ContainerName,
    /// Its pod's name; its uid is in `container.pod`, unless the runtime is too old to tell.
    pub(super) pod: Option<PodName>,
}

/// The places of bundles that this node has. Most have one, and a node at its start has hundreds of containers to look up.
#[derive(Debug)]
pub(super) struct Bundles(Vec<(OwnedFd, &'static str)>);

impl Bundles {
    pub(super) fn open(roots: &HostRoots) -> Self {
        let run = RUN_BUNDLES.iter().map(|place| (&roots.run, place));
        let var = VAR_BUNDLES.iter().map(|place| (&roots.var, place));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let there = run.chain(var).filter_map(|(root, &(place, file))| {
            Some((open(root.join(place), flags, Mode::empty()).ok()?, file))
        });
        Self(there.collect())
    }

    /// Finds and reads the container's file; `None` without one, or when it says nothing of a pod.
    pub(super) fn read(&self, id: &ContainerId) -> Option<Bundle> {
        // The id becomes part of a path: hex and dashes only.
        if !id.0.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return None;
        }
        self.0.iter().find_map(|(place, file)| parse(&read_bounded(place, &format!("{}/{file}", id.0))?))
    }
}

fn read_bounded(place: &OwnedFd, path: &str) -> Option<Vec<u8>> {
    // Non-blocking: a pipe in this place must not stop the walk.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(place, path, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file).take(MAX_CONFIG_BYTES + 1).read_to_end(&mut text).ok()?;
    (text.len() as u64 <= MAX_CONFIG_BYTES).then_some(text)
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The annotations of containerd, else of CRI-O.
fn parse(text: &[u8]) -> Option<Bundle> {
    let Config { annotations } = serde_json::from_slice(text).ok()?;
    let get =
        |keys: [&str; 2]| keys.iter().find_map(|key| annotations.get(*key)).filter(|value| !value.is_empty());
    let kind = get(["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"])?;
    let sandbox = kind == "sandbox";
    let uid = get(["io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"]);
    let hash = annotations.get("kubernetes.io/config.hash");
    let uid = hash.or(uid).and_then(|uid| canonical_uid(uid));
    let pod = get(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"])
        .zip(get(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]))
        .map(|(name, namespace)| PodName {
            name: name.clone(),
            namespace: namespace.clone(),
            labels: BTreeMap::new(),
            qos: None,
        });
    // CRI-O names a sandbox's container `POD`, which is no name from any spec.
    let name = get(["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]).filter(|_| !sandbox);
    Some(Bundle { container: ContainerName { name: name.cloned(), pod: uid, sandbox }, pod })
}

impl Bundle {
    /// The uid under which the pod is entered: the file's own, else the one its cgroup path has.
    pub(super) fn uid(&self, by_path: Option<&PodUid>) -> Option<PodUid> {
        self.container.pod.clone().or_else(|| by_path.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_and_crio_say_the_same() {
        let containerd =
            br#"{"ociVersion":"1.0","annotations":{"io.kubernetes.cri.container-type":"container",
            "io.kubernetes.cri.container-name":"web","io.kubernetes.cri.sandbox-name":"web-0",
            "io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-id":"x",
            "io.kubernetes.cri.sandbox-uid":"6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"}}"#;
        let crio = br#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container",
            "io.kubernetes.container.name":"web","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"}}"#;
        let bundle = parse(containerd).unwrap();
        assert_eq!(bundle.container.name.as_deref(), Some("web"));
        assert_eq!(bundle.pod.as_ref().unwrap().namespace, "shop");
        assert_eq!(parse(crio).unwrap(), bundle);
        let sandbox = String::from_utf8(crio.to_vec()).unwrap().replace("\"container\"", "\"sandbox\"");
        let bundle = parse(sandbox.as_bytes()).unwrap();
        assert!(bundle.container.sandbox && bundle.container.name.is_none());
    }

    #[test]
    fn a_static_pod_is_entered_under_its_hash() {
        let text = br#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"sandbox",
            "kubernetes.io/config.hash":"9729a196c4723b60ab401eaff722982d",
            "io.kubernetes.pod.uid":"6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e"}}"#;
        assert_eq!(parse(text).unwrap().uid(None).unwrap().0, "9729a196c4723b60ab401eaff722982d");
    }

    #[test]
    fn what_is_no_kubernetes_container_says_nothing() {
        for text in
            ["", "{}", "[]", "{\"annotations\":{}}", "{\"annotations\":{\"a\":1}}", "\u{0}", "{\"annot"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&vec![b'['; 100_000]), None, "deeply nested");
    }

    #[test]
    fn files_have_a_limit_and_ids_stay_inside_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let roots = HostRoots { run: dir.path().into(), var: dir.path().into(), ..HostRoots::default() };
        let bundle = dir.path().join("containerd/io.containerd.runtime.v2.task/k8s.io/abc");
        std::fs::create_dir_all(&bundle).unwrap();
        let file = bundle.join("config.json");
        let text = r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox"}}"#;
        std::fs::write(&file, text).unwrap();
        let read = |id: &str| Bundles::open(&roots).read(&ContainerId(id.to_owned()));
        assert!(read("abc").is_some());
        let padding = " ".repeat(usize::try_from(MAX_CONFIG_BYTES).unwrap());
        std::fs::write(&file, format!("{text}{padding}")).unwrap();
        assert!(read("abc").is_none(), "too large");
        std::fs::write(&file, text).unwrap();
        assert!(read("../k8s.io/abc").is_none());
    }
}
