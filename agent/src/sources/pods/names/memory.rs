//! What a source has told, kept for a while after the pod is gone.
//!
//! A pod that ends is dropped by its runtime within seconds, but its last tasks, exits and samples still want
//! its name: entries stay [`KEPT_NS`] after they were last seen alive, at most [`MAX_DEPARTED`] of them.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::domain::pod::{ContainerId, NameTable, PodUid};

/// How long a departed pod's name is kept, ns: five minutes, longer than any delivery batch is late.
const KEPT_NS: i64 = 300_000_000_000;

/// Departed pods that are kept: at the kubelet's usual 110 pods a node, nine complete turnovers.
const MAX_DEPARTED: usize = 1024;

/// Departed containers that are kept: a few for each departed pod.
const MAX_DEPARTED_CONTAINERS: usize = 4 * MAX_DEPARTED;

/// What is alive in the cgroup tree.
#[derive(Debug, Default)]
pub(in super::super) struct Alive {
    /// Pods.
    pub(in super::super) pods: HashSet<PodUid>,
    /// Containers.
    pub(in super::super) containers: HashSet<ContainerId>,
}

/// One source's table with the time each entry was last seen alive.
#[derive(Debug, Default)]
pub(super) struct Memory {
    table: NameTable,
    pods_seen: HashMap<PodUid, i64>,
    containers_seen: HashMap<ContainerId, i64>,
}

impl Memory {
    /// Everything that is known.
    pub(super) const fn table(&self) -> &NameTable {
        &self.table
    }

    /// Takes over everything a source told now; whether any of it is new.
    pub(super) fn learn(&mut self, told: NameTable, at_ns: i64) -> bool {
        let known = &self.table;
        let new = told.pods.iter().any(|(uid, name)| known.pods.get(uid) != Some(name))
            || told.containers.iter().any(|(id, name)| known.containers.get(id) != Some(name));
        self.pods_seen.extend(told.pods.keys().map(|uid| (uid.clone(), at_ns)));
        self.containers_seen.extend(told.containers.keys().map(|id| (id.clone(), at_ns)));
        self.table.pods.extend(told.pods);
        self.table.containers.extend(told.containers);
        new
    }

    /// Forgets what has been gone for too long, and the longest gone where there are too many.
    pub(super) fn sweep(&mut self, alive: &Alive, at_ns: i64) {
        let gone = departed(&mut self.pods_seen, &alive.pods, at_ns, MAX_DEPARTED);
        self.table.pods.retain(|uid, _| !gone.contains(uid));
        let gone = departed(&mut self.containers_seen, &alive.containers, at_ns, MAX_DEPARTED_CONTAINERS);
        self.table.containers.retain(|id, _| !gone.contains(id));
    }
}

/// Refreshes the living, then takes out who has to go.
fn departed<K: Hash + Eq + Clone + Ord>(
    seen: &mut HashMap<K, i64>,
    alive: &HashSet<K>,
    at_ns: i64,
    limit: usize,
) -> HashSet<K> {
    let mut absent: Vec<(i64, K)> = Vec::new();
    for (key, last) in seen.iter_mut() {
        if alive.contains(key) {
            *last = at_ns;
        } else {
            absent.push((*last, key.clone()));
        }
    }
    absent.sort_unstable_by(|a, b| b.cmp(a));
    let keep = absent.partition_point(|(last, _)| at_ns.saturating_sub(*last) <= KEPT_NS).min(limit);
    let gone: HashSet<K> = absent.into_iter().skip(keep).map(|(_, key)| key).collect();
    seen.retain(|key, _| !gone.contains(key));
    gone
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::pod::PodName;

    const SECOND: i64 = 1_000_000_000;

    fn told(uids: std::ops::Range<usize>) -> NameTable {
        let name = |uid: usize| PodName {
            name: format!("pod-{uid}"),
            namespace: "default".to_owned(),
            labels: BTreeMap::new(),
            qos: None,
        };
        NameTable {
            pods: uids.map(|uid| (PodUid(uid.to_string()), name(uid))).collect(),
            ..NameTable::default()
        }
    }

    fn alive(uid: &str) -> Alive {
        Alive { pods: [PodUid(uid.to_owned())].into(), ..Alive::default() }
    }

    #[test]
    fn a_departed_pod_keeps_its_name_for_five_minutes() {
        let mut memory = Memory::default();
        memory.learn(told(0..2), 0);
        memory.sweep(&alive("0"), 100 * SECOND);
        memory.sweep(&alive("0"), 300 * SECOND);
        assert_eq!(memory.table().pods.len(), 2);
        memory.sweep(&alive("0"), 301 * SECOND);
        assert_eq!(memory.table().pods.len(), 1, "pod 1 was last heard of at 0");
        memory.sweep(&Alive::default(), 601 * SECOND);
        assert_eq!(memory.table().pods.len(), 1, "pod 0 was alive until 301");
        memory.sweep(&Alive::default(), 602 * SECOND);
        assert!(memory.table().pods.is_empty() && memory.pods_seen.is_empty());
    }

    #[test]
    fn churn_is_bounded_and_the_newest_stay() {
        let mut memory = Memory::default();
        for round in 0..5 {
            memory.learn(told(round * 1000..(round + 1) * 1000), i64::try_from(round).unwrap() * SECOND);
            memory.sweep(&Alive::default(), 10 * SECOND);
        }
        assert_eq!(memory.table().pods.len(), MAX_DEPARTED);
        assert!(memory.table().pods.contains_key(&PodUid("4999".to_owned())));
        assert!(!memory.table().pods.contains_key(&PodUid("0".to_owned())));
    }
}
