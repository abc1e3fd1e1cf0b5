//! `sextant inspect cgroup PATH...`: one JSON object per path.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::pod::CgroupRef;

/// What a cgroup path says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cgroup {
    /// The input as it was given.
    pub path: String,
    /// Uid of the innermost pod, with dashes, or 32 hex for a static pod.
    pub pod_uid: Option<String>,
    /// Id of the container.
    pub container_id: Option<String>,
    /// `containerd`, `crio`, `docker`, `podman`, `kata`, `ecs`, or null where the path does not say.
    pub runtime: Option<String>,
    /// `guaranteed`, `burstable`, `besteffort`, `unknown`, or null without a pod.
    pub qos: Option<String>,
    /// `container`, `sandbox`, `conmon`, `nested-service`, `pod`, `kata-overhead`, `none`.
    pub kind: String,
}

impl Cgroup {
    /// The answer for `path`.
    pub fn new(path: &str, place: &CgroupRef) -> Self {
        Self {
            path: path.to_owned(),
            pod_uid: place.pod_uid.as_ref().map(|uid| uid.0.clone()),
            container_id: place.container_id.as_ref().map(|id| id.0.clone()),
            runtime: place.runtime.map(|runtime| runtime.name().to_owned()),
            qos: place.qos.map(|qos| qos.name().to_owned()),
            kind: place.kind.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pod::{CgroupKind, PodUid, QosClass};

    #[test]
    fn absent_is_null_and_unknowable_is_a_word() {
        let pod = CgroupRef {
            pod_uid: Some(PodUid("e039200acb850c82bb901653cc38ff6e".to_owned())),
            qos: Some(QosClass::Unknown),
            kind: CgroupKind::Pod,
            ..CgroupRef::default()
        };
        let json =
            serde_json::to_string(&Cgroup::new("/../pode039200acb850c82bb901653cc38ff6e", &pod)).unwrap();
        assert!(
            json.contains(r#""container_id":null,"runtime":null,"qos":"unknown","kind":"pod""#),
            "{json}"
        );
        let none = serde_json::to_string(&Cgroup::new("/", &CgroupRef::default())).unwrap();
        assert!(none.ends_with(r#""qos":null,"kind":"none"}"#), "{none}");
    }
}
