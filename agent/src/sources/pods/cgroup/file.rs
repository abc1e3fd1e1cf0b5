//! A whole `/proc/PID/cgroup`: one line per hierarchy, and they may disagree.
//!
//! On hybrid hosts a container can be in its pod in `cpu` and `memory` while `0::` still says
//! `/reserved.slice/containerd.service`; so a line that names a pod beats one that names a container, which
//! beats the rest. Two different pods (or containers) in one file are an error: choosing one would be a guess.

use thiserror::Error;

use super::describe;
use crate::domain::pod::{CgroupRef, ContainerId, PodUid};

/// Lines that are looked at: the kernel has 15 controllers, named hierarchies are few.
const MAX_LINES: usize = 64;

/// Hierarchies place one task in two different places.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Disagreement {
    /// Two pods.
    #[error("hierarchies name two pods, {} and {}", .0.0, .1.0)]
    Pods(PodUid, PodUid),
    /// Two containers.
    #[error("hierarchies name two containers, {} and {}", .0.0, .1.0)]
    Containers(ContainerId, ContainerId),
}

/// What all lines of one `/proc/PID/cgroup` say together.
///
/// # Errors
/// [`Disagreement`] when two lines name different pods, or different containers of the same pod.
pub fn describe_file(text: &str) -> Result<CgroupRef, Disagreement> {
    let mut best = CgroupRef::default();
    for line in text.lines().take(MAX_LINES) {
        let here = describe(line);
        if let (Some(a), Some(b)) = (&best.pod_uid, &here.pod_uid)
            && a != b
        {
            return Err(Disagreement::Pods(a.clone(), b.clone()));
        }
        if let (Some(a), Some(b)) = (&best.container_id, &here.container_id)
            && best.pod_uid == here.pod_uid
            && a != b
        {
            return Err(Disagreement::Containers(a.clone(), b.clone()));
        }
        if rank(&here) > rank(&best) {
            best = here;
        }
    }
    Ok(best)
}

const fn rank(place: &CgroupRef) -> u8 {
    2 * (place.pod_uid.is_some() as u8) + place.container_id.is_some() as u8
}
