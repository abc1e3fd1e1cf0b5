//! Cgroups of the run queues joined with pods, by path: a cgroup belongs to the container whose path it lies under.

use std::collections::{BTreeMap, HashMap};

use super::{Blame, RunTotals, RunqueuePair, RunqueueReading};
use crate::domain::pod::{Pod, PodMap};

/// What the run queues did to one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRun {
    /// All its containers, and what no living one of them accounts for.
    pub totals: RunTotals,
    /// In the order of [`Pod::containers`].
    pub containers: Vec<RunTotals>,
    /// Who had the CPU while its tasks waited, descending by time: names as people know them, its own included. All that
    /// the reading has: a list that is cut differs from the next one by more than what happened between them.
    pub neighbours: Vec<(String, u64)>,
}

/// What they did to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// In the order of [`PodMap::pods`].
    pub pods: Vec<PodRun>,
    /// Tasks outside pods.
    pub host: RunTotals,
}

/// Named when nobody had the CPU: the wait was the scheduler's own doing.
const IDLE: &str = "idle CPU";

/// Joins a reading with the pods of about the same time.
///
/// A cgroup right below a container's is the container's; one below the pod's own directory (which is its containers'
/// parent) is the pod's. The rest is the host's.
pub fn of_pods(reading: &RunqueueReading, map: &PodMap) -> Runs {
    let places = Places::of(map);
    let mut runs = Runs { pods: map.pods.iter().map(PodRun::empty).collect(), host: RunTotals::default() };
    for group in &reading.cgroups {
        match places.of_path(&group.path) {
            Some((pod, container)) => {
                let Some(run) = runs.pods.get_mut(pod) else { continue };
                run.totals.add(&group.totals);
                if let Some(totals) = container.and_then(|at| run.containers.get_mut(at)) {
                    totals.add(&group.totals);
                }
            }
            None => runs.host.add(&group.totals),
        }
    }
    for (pod, names) in neighbours(&reading.blames, &places, map) {
        let Some(run) = runs.pods.get_mut(pod) else { continue };
        run.neighbours = names.into_iter().collect();
        sort_neighbours(&mut run.neighbours);
    }
    runs
}

/// What happened between the two readings of a pair, joined with the pods; `None` until there are two.
///
/// A pod that was not there before counts from its beginning.
pub fn lately(pair: &RunqueuePair, map: &PodMap) -> Option<Runs> {
    let (before, now) = (of_pods(pair.before.as_ref()?, map), of_pods(&pair.now, map));
    let pods = now.pods.iter().zip(&before.pods).map(|(now, before)| now.since(before)).collect();
    Some(Runs { pods, host: now.host.since(&before.host).unwrap_or(now.host) })
}

impl PodRun {
    fn since(&self, before: &Self) -> Self {
        let earlier =
            |name: &str| before.neighbours.iter().find(|(found, _)| found == name).map_or(0, |(_, ns)| *ns);
        let delta = |(name, ns): &(String, u64)| (name.clone(), ns.saturating_sub(earlier(name)));
        let mut neighbours: Vec<_> = self.neighbours.iter().map(delta).filter(|(_, ns)| *ns > 0).collect();
        sort_neighbours(&mut neighbours);
        let containers = self.containers.iter().zip(&before.containers);
        Self {
            totals: self.totals.since(&before.totals).unwrap_or(self.totals),
            containers: containers.map(|(now, before)| now.since(before).unwrap_or(*now)).collect(),
            neighbours,
        }
    }

    fn empty(pod: &Pod) -> Self {
        Self { containers: vec![RunTotals::default(); pod.containers.len()], ..Self::default() }
    }
}

fn sort_neighbours(neighbours: &mut [(String, u64)]) {
    neighbours.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
}

fn neighbours(blames: &[Blame], places: &Places<'_>, map: &PodMap) -> HashMap<usize, BTreeMap<String, u64>> {
    let mut all: HashMap<usize, BTreeMap<String, u64>> = HashMap::new();
    for blame in blames {
        let Some((pod, _)) = places.of_path(&blame.waiter) else { continue };
        let name = match &blame.runner {
            None => IDLE.to_owned(),
            Some(path) => match places.of_path(path).and_then(|(pod, _)| map.pods.get(pod)) {
                Some(pod) => pod_name(pod),
                None => path.to_string(),
            },
        };
        let sum = all.entry(pod).or_default().entry(name).or_default();
        *sum = sum.saturating_add(blame.wait_ns);
    }
    all
}

/// `namespace/name`, or the uid while nobody knows the name.
fn pod_name(pod: &Pod) -> String {
    match (&pod.namespace, &pod.name) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => pod.uid.0.clone(),
    }
}

/// Whose a path is: indexes of pod and container.
struct Places<'a>(HashMap<&'a str, (usize, Option<usize>)>);

impl<'a> Places<'a> {
    fn of(map: &'a PodMap) -> Self {
        let mut places = HashMap::new();
        for (pod_at, pod) in map.pods.iter().enumerate() {
            if let Some(group) = &pod.group {
                places.entry(&*group.cgroup).or_insert((pod_at, None));
            }
            for (at, container) in pod.containers.iter().enumerate() {
                places.insert(&*container.cgroup, (pod_at, Some(at)));
            }
        }
        Self(places)
    }

    /// The nearest place at or above the path.
    fn of_path(&self, path: &str) -> Option<(usize, Option<usize>)> {
        let mut path = path;
        loop {
            if let Some(&place) = self.0.get(path) {
                return Some(place);
            }
            path = &path[..path.rfind('/')?];
        }
    }
}

#[cfg(test)]
mod tests;
