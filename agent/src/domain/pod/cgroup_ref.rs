//! What a cgroup's path says by itself, before any name source is asked.

use super::{CgroupKind, ContainerId, PodUid, QosClass, Runtime};

/// The place a cgroup path names.
///
/// Invariants: `qos` is set exactly when `pod_uid` is; a kind of [`CgroupKind::None`] has no ids; a kind of
/// [`CgroupKind::Pod`] has no container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupRef {
    /// The innermost pod of the path.
    pub pod_uid: Option<PodUid>,
    /// The container right of the pod, or without a pod the innermost one.
    pub container_id: Option<ContainerId>,
    /// Runtime, where the leaf says.
    pub runtime: Option<Runtime>,
    /// Quality of service; `None` without a pod, [`QosClass::Unknown`] where the path does not say.
    pub qos: Option<QosClass>,
    /// What the cgroup holds.
    pub kind: CgroupKind,
    /// The path started with `..`: it was read from another cgroup namespace, and its upper part is lost.
    pub relative: bool,
    /// The cgroup was removed while the task still pointed to it.
    pub deleted: bool,
}

impl CgroupRef {
    /// Same pod, container and kind: a cgroup below a container belongs to it.
    pub fn same_place(&self, other: &Self) -> bool {
        self.kind == other.kind && self.container_id == other.container_id && self.pod_uid == other.pod_uid
    }
}
