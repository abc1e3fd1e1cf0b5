//! Cgroups of the run queues joined with pods, by path: a cgroup belongs to the container whose path it lies under.

use std::collections::{BTreeMap, HashMap};

use super::{Blame, RunTotals, RunqueueReading};
use crate::domain::pod::{Container, Pod, PodMap};

/// What the run queues did to one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRun {
    /// All its containers, and what no living one of them accounts for.
    pub totals: RunTotals,
    /// In the order of [`Pod::containers`].
    pub containers: Vec<RunTotals>,
    /// Who had the CPU while its tasks waited, descending by time: names as people know them, its own included.
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
/// Neighbours kept for each pod: the third already says little.
const NEIGHBOURS: usize = 5;

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
        run.neighbours.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        run.neighbours.truncate(NEIGHBOURS);
    }
    runs
}

impl PodRun {
    fn empty(pod: &Pod) -> Self {
        Self { containers: vec![RunTotals::default(); pod.containers.len()], ..Self::default() }
    }
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
            for (at, container) in pod.containers.iter().enumerate() {
                if let Some(level) = pod_level(pod, container) {
                    places.entry(level).or_insert((pod_at, None));
                }
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

/// The pod's own directory, if the container lies right in it.
fn pod_level<'a>(pod: &Pod, container: &'a Container) -> Option<&'a str> {
    let (parent, _) = container.cgroup.rsplit_once('/')?;
    let last = parent.rsplit('/').next().unwrap_or_default();
    // Slices of the systemd driver have underscores where the uid has dashes.
    let mark = pod.uid.0.replace('-', "_");
    (last.contains(&*pod.uid.0) || last.contains(&*mark)).then_some(parent)
}

#[cfg(test)]
mod tests;
