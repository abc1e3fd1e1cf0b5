//! The join: cgroup leaves with their tasks, and names, become pods.
//!
//! Pure. A leaf goes to the pod its path names, else to the pod a name source gives its container, else to
//! the host. Pods come ascending by (namespace, name, uid), containers by cgroup, tasks by pid.

use std::collections::BTreeMap;

use super::names::Names;
use super::{CgroupKind, CgroupRef, Churn, Container, Pod, PodGroup, PodUid, QosClass, Task};

/// A cgroup with everything below it that belongs to the same place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// What its path says.
    pub place: CgroupRef,
    /// Path below the cgroup root.
    pub cgroup: String,
    /// Inode of the directory.
    pub cgroup_id: u64,
    /// Its processes.
    pub tasks: Vec<Task>,
    /// What happened in it, where that is known.
    pub churn: Option<Churn>,
}

/// Pods, and containers that belong to none.
pub fn join(leaves: Vec<Leaf>, names: Names<'_>) -> (Vec<Pod>, Vec<Container>) {
    let mut pods: BTreeMap<PodUid, Pod> = BTreeMap::new();
    let mut outside = Vec::new();
    for leaf in leaves {
        let by_name = || leaf.place.container_id.as_ref().and_then(|id| names.pod_of(id)).cloned();
        let uid = leaf.place.pod_uid.clone().or_else(by_name);
        let qos = leaf.place.qos;
        let container = container(leaf, names);
        match uid {
            Some(uid) => {
                let pod = pods.entry(uid).or_insert_with_key(|uid| unnamed(uid.clone()));
                if pod.qos == QosClass::Unknown {
                    pod.qos = qos.unwrap_or_default();
                }
                if container.kind == CgroupKind::Pod {
                    let (cgroup, cgroup_id) = (container.cgroup.clone(), container.cgroup_id);
                    pod.group = Some(PodGroup { cgroup, cgroup_id });
                }
                // A pod-level cgroup makes the pod; it is an entry of its own only while it holds tasks.
                if container.kind != CgroupKind::Pod || !container.tasks.is_empty() {
                    pod.containers.push(container);
                }
            }
            None if container.kind != CgroupKind::None => outside.push(container),
            None => {}
        }
    }
    let mut pods: Vec<Pod> = pods.into_values().map(|pod| named(pod, names)).collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
    outside.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    (pods, outside)
}

fn container(leaf: Leaf, names: Names<'_>) -> Container {
    let Leaf { place, cgroup, cgroup_id, mut tasks, churn } = leaf;
    tasks.sort_by_key(|task| task.key);
    let id = place.container_id;
    let said = id.as_ref().is_some_and(|id| names.is_sandbox(id));
    // Without any source: the pause process alone in a pod's container is its sandbox.
    let pause = place.pod_uid.is_some() && matches!(tasks.as_slice(), [task] if &*task.comm == "pause");
    let kind = match place.kind {
        CgroupKind::Container if said || pause => CgroupKind::Sandbox,
        kind => kind,
    };
    let name = id.as_ref().and_then(|id| names.container(id)).map(str::to_owned);
    Container { id, name, runtime: place.runtime, kind, cgroup, cgroup_id, tasks, churn }
}

const fn unnamed(uid: PodUid) -> Pod {
    Pod {
        uid,
        name: None,
        namespace: None,
        labels: BTreeMap::new(),
        qos: QosClass::Unknown,
        named_by: None,
        group: None,
        containers: Vec::new(),
    }
}

fn named(mut pod: Pod, names: Names<'_>) -> Pod {
    pod.containers.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    if let Some((by, known)) = names.pod(&pod.uid) {
        pod.name = Some(known.name.clone());
        pod.namespace = Some(known.namespace.clone());
        pod.labels = known.labels.clone();
        pod.named_by = Some(by);
        if pod.qos == QosClass::Unknown {
            pod.qos = known.qos.unwrap_or_default();
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pod::{ContainerId, ContainerName, NameTable, PodName, TaskKey};

    fn task(pid: u32, comm: &str) -> Task {
        Task { key: TaskKey { pid, starttime_ticks: 1 }, ppid: 1, comm: comm.into(), threads: 1 }
    }

    fn leaf(uid: Option<&str>, id: &str, tasks: Vec<Task>) -> Leaf {
        let place = CgroupRef {
            pod_uid: uid.map(|uid| PodUid(uid.to_owned())),
            container_id: Some(ContainerId(id.to_owned())),
            qos: uid.map(|_| QosClass::Unknown),
            kind: CgroupKind::Container,
            ..CgroupRef::default()
        };
        Leaf { place, cgroup: format!("/{id}"), cgroup_id: 7, tasks, churn: None }
    }

    fn table(name: &str) -> NameTable {
        let pod = PodUid("u".to_owned());
        let known = PodName {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            labels: BTreeMap::new(),
            qos: Some(QosClass::Burstable),
        };
        let record = ContainerName { name: Some("web".to_owned()), pod: Some(pod.clone()), sandbox: false };
        NameTable { pods: [(pod, known)].into(), containers: [(ContainerId("c".to_owned()), record)].into() }
    }

    #[test]
    fn a_lone_pause_is_the_sandbox_and_only_in_a_pod() {
        let leaves = vec![
            leaf(Some("u"), "a", vec![task(2, "pause")]),
            leaf(Some("u"), "b", vec![task(4, "pause"), task(3, "sh")]),
            leaf(None, "c", vec![task(5, "pause")]),
        ];
        let (pods, outside) = join(leaves, Names::default());
        let kinds: Vec<_> = pods[0].containers.iter().map(|container| container.kind).collect();
        assert_eq!(kinds, [CgroupKind::Sandbox, CgroupKind::Container]);
        assert_eq!(outside[0].kind, CgroupKind::Container);
        assert_eq!(pods[0].containers[1].tasks[0].key.pid, 3, "ascending by pid");
    }

    #[test]
    fn a_container_whose_path_lost_the_pod_finds_it_by_name() {
        let table = table("web-0");
        let names = [("cri", &table)];
        let (pods, outside) = join(vec![leaf(None, "c", vec![task(2, "nginx")])], Names(&names));
        assert!(outside.is_empty());
        assert_eq!(pods[0].uid.0, "u");
        assert_eq!((pods[0].name.as_deref(), pods[0].named_by), (Some("web-0"), Some("cri")));
        assert_eq!(pods[0].containers[0].name.as_deref(), Some("web"));
        assert_eq!(pods[0].qos, QosClass::Burstable, "the source says what the path lost");
        // The control: without the table the task stays outside every pod.
        let (pods, outside) = join(vec![leaf(None, "c", vec![task(2, "nginx")])], Names::default());
        assert!(pods.is_empty() && outside.len() == 1);
    }

    #[test]
    fn the_best_source_names_and_an_empty_pod_level_is_no_container() {
        let (best, other) = (table("best"), table("other"));
        let mut level = leaf(Some("u"), "x", Vec::new());
        level.place.kind = CgroupKind::Pod;
        level.place.container_id = None;
        let names = [("kubelet", &best), ("files", &other)];
        let (pods, _) = join(vec![level], Names(&names));
        assert_eq!((pods[0].name.as_deref(), pods[0].named_by), (Some("best"), Some("kubelet")));
        assert!(pods[0].containers.is_empty());
    }
}
