//! The pods of the fleet: what each uses and how it waits, from the last two records of its node.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::budget::Budget;
use crate::api::fleet_pods::{FleetContainer, FleetPod, FleetPods, FleetRunqueue, FleetUsage};
use crate::api::runqueue::record::{NodeRunqueue, PodRunqueue};
use crate::api::usage::record::{NodeUsage, PodUsage};

/// The last record of a sort, and the one before it.
#[derive(Debug)]
pub(super) struct Pair<T> {
    now: Option<(Arc<T>, usize)>,
    before: Option<(Arc<T>, usize)>,
}

impl<T> Default for Pair<T> {
    fn default() -> Self {
        Self { now: None, before: None }
    }
}

impl<T> Clone for Pair<T> {
    fn clone(&self) -> Self {
        Self { now: self.now.clone(), before: self.before.clone() }
    }
}

impl<T> Pair<T> {
    /// One more record of so many bytes; false, and nothing is kept, if the budget has no room.
    pub(super) fn push(&mut self, record: T, size_bytes: usize, budget: &mut Budget) -> bool {
        if let Some((_, size_bytes)) = self.before.take() {
            budget.release(size_bytes);
        }
        self.before = self.now.take();
        let fits = budget.take(size_bytes);
        if fits {
            self.now = Some((Arc::new(record), size_bytes));
        } else if let Some((_, size_bytes)) = self.before.take() {
            // Something old beside nothing new would pass for the present.
            budget.release(size_bytes);
        }
        fits
    }

    pub(super) fn now(&self) -> Option<&Arc<T>> {
        self.now.as_ref().map(|(record, _)| record)
    }

    fn before(&self) -> Option<&T> {
        self.before.as_ref().map(|(record, _)| &**record)
    }
}

/// What is known of a node's pods.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub(super) usage: Pair<NodeUsage>,
    pub(super) runqueue: Pair<NodeRunqueue>,
}

/// Which pods are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodQuery {
    /// Of this namespace.
    pub namespace: Option<String>,
    /// Of this name.
    pub pod: Option<String>,
    /// So many at most.
    pub limit: usize,
    /// Those that waited most lately come first; otherwise by node, namespace, name.
    pub by_wait: bool,
}

/// A pod of a node, by its place in the node's records.
struct Found<'a> {
    node: &'a str,
    figures: &'a Figures,
    usage: Option<(usize, &'a PodUsage)>,
    runqueue: Option<(usize, &'a PodRunqueue)>,
}

/// The pods of these nodes that are wanted.
#[must_use]
pub fn fleet_pods(nodes: &[(String, Figures)], query: &PodQuery, at_ns: i64) -> FleetPods {
    let mut found: Vec<_> = nodes.iter().flat_map(|(node, figures)| figures.find(node, query)).collect();
    let matching = found.len();
    if query.by_wait {
        found.sort_by_cached_key(|pod| std::cmp::Reverse(pod.waits()));
    }
    found.truncate(query.limit);
    let pods: Vec<_> = found.iter().map(Found::wire).collect();
    FleetPods { at_ns, matching, left_out: matching - pods.len(), pods }
}

impl Figures {
    fn find<'a>(&'a self, node: &'a str, query: &PodQuery) -> Vec<Found<'a>> {
        let wants = |namespace: &Option<String>, name: &Option<String>| {
            (query.namespace.is_none() || *namespace == query.namespace)
                && (query.pod.is_none() || *name == query.pod)
        };
        let mut pods: BTreeMap<&str, Found<'a>> = BTreeMap::new();
        let new = || Found { node, figures: self, usage: None, runqueue: None };
        for (at, pod) in self.usage.now().into_iter().flat_map(|record| record.pods.iter().enumerate()) {
            pods.entry(&pod.uid).or_insert_with(new).usage = Some((at, pod));
        }
        for (at, pod) in self.runqueue.now().into_iter().flat_map(|record| record.pods.iter().enumerate()) {
            pods.entry(&pod.uid).or_insert_with(new).runqueue = Some((at, pod));
        }
        let mut pods: Vec<_> = pods.into_values().filter(|pod| wants(pod.namespace(), pod.name())).collect();
        pods.sort_by_cached_key(|pod| (pod.namespace().clone(), pod.name().clone()));
        pods
    }
}

impl Found<'_> {
    /// A name may have been learned between the two records.
    fn namespace(&self) -> &Option<String> {
        let of_usage = self.usage.map(|(_, pod)| &pod.namespace).filter(|name| name.is_some());
        of_usage.or_else(|| self.runqueue.map(|(_, pod)| &pod.namespace)).unwrap_or(&None)
    }

    fn name(&self) -> &Option<String> {
        let of_usage = self.usage.map(|(_, pod)| &pod.name).filter(|name| name.is_some());
        of_usage.or_else(|| self.runqueue.map(|(_, pod)| &pod.name)).unwrap_or(&None)
    }

    /// Waited between the last two records, ns for each second.
    fn waits(&self) -> u64 {
        let waits = || {
            let (now, (_, pod)) = (self.figures.runqueue.now()?, self.runqueue?);
            let (record, before) = self.runqueue_before()?;
            let interval_ns = u128::from(now.interval_ns(record)?);
            let waited_ns =
                now.value(&pod.row, "wait_ns").checked_sub(record.value(&before.row, "wait_ns"))?;
            u64::try_from(u128::from(waited_ns) * 1_000_000_000 / interval_ns).ok()
        };
        waits().unwrap_or(0)
    }

    fn usage_before(&self) -> Option<(&NodeUsage, &PodUsage)> {
        let (record, (at, pod)) = (self.figures.usage.before()?, self.usage?);
        Some((record, near(&record.pods, at, |before| before.uid == pod.uid)?))
    }

    fn runqueue_before(&self) -> Option<(&NodeRunqueue, &PodRunqueue)> {
        let (record, (at, pod)) = (self.figures.runqueue.before()?, self.runqueue?);
        Some((record, near(&record.pods, at, |before| before.uid == pod.uid)?))
    }

    fn wire(&self) -> FleetPod {
        let (usage, runqueue) = (self.usage_now(), self.runqueue_now());
        let (usage_before, runqueue_before) = (self.usage_before(), self.runqueue_before());
        let mut containers: Vec<FleetContainer> = Vec::new();
        if let Some((record, pod)) = usage {
            for container in &pod.containers {
                let before = usage_before.and_then(|(record, before)| {
                    let before = before.containers.iter().find(|before| before.id == container.id)?;
                    Some((record, &before.row))
                });
                containers.push(FleetContainer {
                    id: container.id.clone(),
                    name: container.name.clone(),
                    usage: Some(FleetUsage::new((record, &container.row), before)),
                    runqueue: None,
                });
            }
        }
        if let Some((record, pod)) = runqueue {
            for container in &pod.containers {
                let before = runqueue_before.and_then(|(record, before)| {
                    let before = before.containers.iter().find(|before| before.id == container.id)?;
                    Some((record, &before.row))
                });
                let figures = Some(FleetRunqueue::new((record, &container.row), before, &[]));
                match containers.iter_mut().find(|known| known.id == container.id) {
                    Some(known) => known.runqueue = figures,
                    None => containers.push(FleetContainer {
                        id: container.id.clone(),
                        name: container.name.clone(),
                        usage: None,
                        runqueue: figures,
                    }),
                }
            }
        }
        let uid = self.usage.map(|(_, pod)| &pod.uid).or_else(|| self.runqueue.map(|(_, pod)| &pod.uid));
        FleetPod {
            node: self.node.to_owned(),
            uid: uid.cloned().unwrap_or_default(),
            namespace: self.namespace().clone(),
            name: self.name().clone(),
            usage: usage.and_then(|(record, pod)| {
                let before = usage_before.and_then(|(record, before)| Some((record, before.row.as_ref()?)));
                Some(FleetUsage::new((record, pod.row.as_ref()?), before))
            }),
            runqueue: runqueue.map(|(record, pod)| {
                let before = runqueue_before.map(|(record, before)| (record, &before.row));
                FleetRunqueue::new((record, &pod.row), before, &pod.neighbours)
            }),
            containers,
        }
    }

    fn usage_now(&self) -> Option<(&NodeUsage, &PodUsage)> {
        Some((self.figures.usage.now()?, self.usage?.1))
    }

    fn runqueue_now(&self) -> Option<(&NodeRunqueue, &PodRunqueue)> {
        Some((self.figures.runqueue.now()?, self.runqueue?.1))
    }
}

/// The one that is wanted, most likely where it is now: pods come and go less often than records.
fn near<T>(items: &[T], at: usize, is: impl Fn(&T) -> bool) -> Option<&T> {
    items.get(at).filter(|item| is(item)).or_else(|| items.iter().find(|item| is(item)))
}
