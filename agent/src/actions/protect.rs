//! Targets that nobody may have: the node itself as a process, the first process, the kernel's, protected namespaces.
//!
//! A pod whose namespace is not known yet may be in a protected one, and is refused too.

use super::place::Place;
use super::{Config, Error};
use crate::domain::action::Target;
use crate::domain::pod::PodMap;

/// init, and the parent of the kernel's own threads.
const FIRST: [u32; 2] = [1, 2];

/// Refuses a protected target. `ours` are this process' groups and its pid, as the host sees them.
///
/// # Errors
/// What protects it.
pub(super) fn check(
    target: &Target,
    place: &Place,
    ours: &(Vec<String>, Option<u32>),
    pods: &PodMap,
    config: &Config,
) -> Result<(), Error> {
    let (our_paths, our_pid) = ours;
    if let Target::Pid(pid) = target
        && (FIRST.contains(pid) || config.protected_pids.contains(pid) || *our_pid == Some(*pid))
    {
        return Err(Error::Protected(format!("process {pid} is protected")));
    }
    // One tree in common is not yet the same place: on v1 hosts many processes share a tree's group.
    let ours = |path: &String| our_paths.iter().any(|ours| is_within(path, ours));
    if !place.paths.is_empty() && place.paths.iter().all(ours) {
        return Err(Error::Protected(format!("{} is the node agent's own cgroup", place.paths[0])));
    }
    namespaces(place, pods, config)
}

fn namespaces(place: &Place, pods: &PodMap, config: &Config) -> Result<(), Error> {
    if config.protected_namespaces.is_empty() {
        return Ok(());
    }
    for pod in &pods.pods {
        let groups =
            pod.containers.iter().map(|c| &c.cgroup).chain(pod.group.iter().map(|group| &group.cgroup));
        let mut groups = groups.filter(|group| **group != "/");
        if !groups
            .any(|group| place.paths.iter().any(|path| is_within(path, group) || is_within(group, path)))
        {
            continue;
        }
        match &pod.namespace {
            Some(namespace) if config.protected_namespaces.contains(namespace) => {
                return Err(Error::Protected(format!("namespace {namespace} is protected")));
            }
            Some(_) => {}
            None => {
                let why =
                    format!("the namespace of pod {} is not known yet, and might be protected", pod.uid.0);
                return Err(Error::Protected(why));
            }
        }
    }
    Ok(())
}

/// `path` is `group` or below it.
fn is_within(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::pod::{Pod, PodGroup, PodUid, QosClass};

    fn verdict(target: &Target, path: &str) -> Result<(), String> {
        let pod = |namespace: Option<&str>, cgroup: &str| Pod {
            uid: PodUid("uid".to_owned()),
            name: None,
            namespace: namespace.map(str::to_owned),
            labels: Default::default(),
            qos: QosClass::Unknown,
            named_by: None,
            group: Some(PodGroup { cgroup: cgroup.to_owned(), cgroup_id: 1 }),
            containers: Vec::new(),
        };
        let pods = PodMap {
            pods: vec![
                pod(Some("kube-system"), "/pods/dns"),
                pod(Some("shop"), "/pods/cart"),
                pod(None, "/pods/new"),
            ],
            ..PodMap::default()
        };
        let paths = if path == "/" { Vec::new() } else { vec![path.to_owned()] };
        let place = Place { paths, ..Place::default() };
        let ours = (vec!["/system.slice/sextant.service".to_owned()], Some(77));
        let config = Config { protected_pids: vec![99], ..Config::default() };
        check(target, &place, &ours, &pods, &config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_protected_is_refused_and_says_why() {
        for (target, path, why) in [
            (Target::Pid(1), "/", "process 1"),
            (Target::Pid(77), "/elsewhere", "process 77"),
            (Target::Pid(99), "/elsewhere", "process 99"),
            (Target::Pid(5), "/system.slice/sextant.service", "own cgroup"),
            (Target::Cgroup(String::new()), "/system.slice/sextant.service/inner", "own cgroup"),
            (Target::Cgroup(String::new()), "/pods/dns/container", "namespace kube-system"),
            (Target::Cgroup(String::new()), "/pods", "namespace kube-system"),
            (Target::Pid(5), "/pods/new", "not known yet"),
        ] {
            let error = verdict(&target, path).unwrap_err();
            assert!(error.contains(why), "{target} {path}: {error}");
        }
        for (target, path) in [
            (Target::Node, "/"),
            (Target::Pid(5), "/"),
            (Target::Pid(5), "/pods/cart"),
            (Target::Pid(5), "/pods/dns2"),
        ] {
            assert_eq!(verdict(&target, path), Ok(()), "{target} {path}");
        }
    }
}
