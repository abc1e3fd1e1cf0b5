//! What name sources know of pods and containers, merged by rank.

use std::collections::{BTreeMap, HashMap};

use super::{ContainerId, PodUid, QosClass};

/// A pod's name, as one source tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.labels`; empty from sources that have none.
    pub labels: BTreeMap<String, String>,
    /// Quality of service, where the source says.
    pub qos: Option<QosClass>,
}

/// A container's name, as one source tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerName {
    /// Name from the pod's spec; sandboxes have none.
    pub name: Option<String>,
    /// Its pod: the only way to it from a relative path or a Kata overhead group.
    pub pod: Option<PodUid>,
    /// It is the pod's sandbox.
    pub sandbox: bool,
}

/// Everything one source knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameTable {
    /// By the uid of the cgroup: a static pod's is its manifest's hash.
    pub pods: HashMap<PodUid, PodName>,
    /// By container id.
    pub containers: HashMap<ContainerId, ContainerName>,
}

/// The tables of all sources, best first: (word for `named_by`, table).
///
/// All sources tell the same names; the best one that knows a pod is said to have named it, because only it
/// may have labels. A container's name is taken from the best source that has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names<'a>(pub &'a [(&'static str, &'a NameTable)]);

impl<'a> Names<'a> {
    /// The pod, and the word of the source that names it.
    pub fn pod(&self, uid: &PodUid) -> Option<(&'static str, &'a PodName)> {
        self.0.iter().find_map(|&(by, table)| Some((by, table.pods.get(uid)?)))
    }

    /// The container's spec name.
    pub fn container(&self, id: &ContainerId) -> Option<&'a str> {
        self.records(id).find_map(|record| record.name.as_deref())
    }

    /// The pod a container belongs to.
    pub fn pod_of(&self, id: &ContainerId) -> Option<&'a PodUid> {
        self.records(id).find_map(|record| record.pod.as_ref())
    }

    /// Some source says that this is a sandbox.
    pub fn is_sandbox(&self, id: &ContainerId) -> bool {
        self.records(id).any(|record| record.sandbox)
    }

    fn records(&self, id: &ContainerId) -> impl Iterator<Item = &'a ContainerName> {
        self.0.iter().filter_map(move |(_, table)| table.containers.get(id))
    }
}
