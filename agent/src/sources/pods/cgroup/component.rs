//! One component of a cgroup path: is it a pod, is it a container's leaf?

use crate::domain::pod::{CgroupKind, ContainerId, PodUid, QosClass, Runtime};

/// A component, or one of the two halves of a driver mismatch (`<slice>.slice:<prefix>:<id>`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    /// The component, or the id of the second half.
    pub(super) name: &'a str,
    /// The second half's prefix (`cri-containerd`).
    prefix: Option<&'a str>,
}

/// Splits a mismatched component, passes every other one through.
pub(super) fn parts_of(component: &str) -> impl Iterator<Item = Part<'_>> {
    let plain = |name| Part { name, prefix: None };
    let halves = component.split_once(".slice:").and_then(|(slice, rest)| {
        let (prefix, id) = rest.split_once(':')?;
        let slice = &component[..slice.len() + ".slice".len()];
        Some([Some(plain(slice)), Some(Part { name: id, prefix: Some(prefix) })])
    });
    halves.unwrap_or([Some(plain(component)), None]).into_iter().flatten()
}

/// A container's own cgroup.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf<'a> {
    id: &'a str,
    /// From the prefix.
    pub(super) runtime: Option<Runtime>,
    /// Container, conmon or (Kata) sandbox.
    pub(super) kind: CgroupKind,
    /// The component ended in `.scope`.
    pub(super) scope: bool,
    /// It is the second half of a driver mismatch.
    pub(super) split: bool,
}

impl Leaf<'_> {
    pub(super) fn id(&self) -> ContainerId {
        ContainerId(self.id.to_owned())
    }
}

/// Prefixes of leaves; a monitor's stands before its runtime's own, which it contains.
const PREFIXES: [(&str, Runtime, CgroupKind); 7] = [
    ("crio-conmon", Runtime::Crio, CgroupKind::Conmon),
    ("libpod-conmon", Runtime::Podman, CgroupKind::Conmon),
    ("cri-containerd", Runtime::Containerd, CgroupKind::Container),
    ("crio", Runtime::Crio, CgroupKind::Container),
    ("docker", Runtime::Docker, CgroupKind::Container),
    ("libpod", Runtime::Podman, CgroupKind::Container),
    ("kata", Runtime::Kata, CgroupKind::Sandbox),
];

/// The container this component names. Mount units, short ids and foreign prefixes name none.
pub(super) fn leaf(part: Part<'_>) -> Option<Leaf<'_>> {
    let (name, scope) = part.name.strip_suffix(".scope").map_or((part.name, false), |name| (name, true));
    let make = |id, runtime, kind| Leaf { id, runtime, kind, scope, split: part.prefix.is_some() };
    if let Some(prefix) = part.prefix {
        let &(_, runtime, kind) = PREFIXES.iter().find(|(known, ..)| *known == prefix)?;
        return is_hex(name, 64).then(|| make(name, Some(runtime), kind));
    }
    if is_hex(name, 64) {
        return Some(make(name, None, CgroupKind::Container));
    }
    PREFIXES.iter().find_map(|&(prefix, runtime, kind)| {
        let separator = if runtime == Runtime::Kata { '_' } else { '-' };
        let id = name.strip_prefix(prefix)?.strip_prefix(separator)?;
        is_hex(id, 64).then(|| make(id, Some(runtime), kind))
    })
}

/// `/ecs/<task>/<task>-<number>`: Amazon ECS repeats the task's 32 hex in the container's id.
pub(super) fn ecs<'a>(window: &[Part<'a>]) -> Option<Leaf<'a>> {
    let [root, task, container] = window else { return None };
    let number = container.name.strip_prefix(task.name)?.strip_prefix('-')?;
    let known = root.name == "ecs" && is_hex(task.name, 32);
    let numeric = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (known && numeric).then_some(Leaf {
        id: container.name,
        runtime: Some(Runtime::Ecs),
        kind: CgroupKind::Container,
        scope: false,
        split: false,
    })
}

/// The pod this component names: `[anything-]pod<uid>[.slice]`, the whole component.
pub(super) fn pod_uid(part: Part<'_>) -> Option<PodUid> {
    split_pod(part).and_then(|(_, uid)| canonical_uid(uid))
}

/// (what stands before `pod`, the uid as written).
fn split_pod(part: Part<'_>) -> Option<(&str, &str)> {
    if part.prefix.is_some() {
        return None;
    }
    let name = part.name.strip_suffix(".slice").unwrap_or(part.name);
    [36, 32].into_iter().find_map(|length| {
        let (head, uid) = name.split_at_checked(name.len().checked_sub(length)?)?;
        let before = head.strip_suffix("pod")?;
        let anchored = before.is_empty() || before.ends_with('-');
        (anchored && canonical_uid(uid).is_some()).then_some((before, uid))
    })
}

/// A uid with dashes and in lower case, or a static pod's 32 hex; nothing else is a uid.
pub(crate) fn canonical_uid(raw: &str) -> Option<PodUid> {
    let dashed = || {
        raw.len() == 36
            && raw.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
                _ => byte.is_ascii_hexdigit(),
            })
    };
    (is_hex(raw, 32) || dashed()).then(|| PodUid(raw.to_ascii_lowercase().replace('_', "-")))
}

/// Class stated by the pod's component or its parent; `parts` ends with the pod.
pub(super) fn qos(parts: &[Part<'_>]) -> QosClass {
    let Some((pod, above)) = parts.split_last() else { return QosClass::Unknown };
    let own = split_pod(*pod).map_or("", |(before, _)| before.trim_end_matches('-'));
    let parent = above.last().map_or("", |part| part.name.strip_suffix(".slice").unwrap_or(part.name));
    let class = |name: &str| match name.rsplit('-').next() {
        Some("besteffort") => Some(QosClass::BestEffort),
        Some("burstable") => Some(QosClass::Burstable),
        _ => None,
    };
    let kubepods = |name: &str| name.trim_end_matches(".slice").split('-').any(|word| word == "kubepods");
    class(own).or_else(|| class(parent)).unwrap_or_else(|| {
        let below_kubepods = kubepods(own) || above.iter().any(|part| kubepods(part.name));
        if below_kubepods { QosClass::Guaranteed } else { QosClass::Unknown }
    })
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit())
}
