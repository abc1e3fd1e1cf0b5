//! The run-queue part of the records that a node forwards: totals as rows of numbers, with their histograms.
//!
//! Totals grow from `since_ns` on, so that nothing between two records is missed, even if some are lost: whoever has two
//! records of one `since_ns` has what happened between them. A row's numbers are in the order of `fields`, as in
//! [`crate::api::usage::record`]. Neighbours are the interval's own: sums over all time would only ever grow longer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Neighbour;
use crate::domain::histogram::{Histogram, SLOTS};
use crate::domain::pod::PodMap;
use crate::domain::runqueue::{Migrations, RunTotals, RunqueuePair, lately, of_pods};

/// Rows in one record: more than a node of 500 pods has; the widest record fits the limit of a record.
pub const MAX_ROWS: usize = 2_000;

/// A field, and how it is found in totals.
type Field = (&'static str, fn(&RunTotals) -> u64);

const FIELDS: [Field; 10] = [
    ("wait_ns", |totals| totals.waits.sum_ns),
    ("on_cpu_ns", |totals| totals.on_cpu_ns),
    ("blocked_ns", |totals| totals.blocked_ns),
    ("voluntary_switches", |totals| totals.voluntary_switches),
    ("involuntary_switches", |totals| totals.involuntary_switches),
    ("migrations_same_core", |totals| totals.migrations.same_core),
    ("migrations_same_llc", |totals| totals.migrations.same_llc),
    ("migrations_same_node", |totals| totals.migrations.same_node),
    ("migrations_other_node", |totals| totals.migrations.other_node),
    ("longest_recent_wait_ns", |totals| totals.longest_recent_wait_ns),
];

/// How the tasks of all pods and containers waited for a CPU, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRunqueue {
    /// Wall time of the reading, ns since the epoch.
    pub at_ns: i64,
    /// Monotonic time of the reading, ns; means nothing beside another `since_ns`.
    pub mono_ns: u64,
    /// Wall time at which counting began, ns since the epoch; another one is another life of every counter.
    pub since_ns: i64,
    /// What the numbers of a row are.
    pub fields: Vec<String>,
    /// Pods whose tasks have run, ascending by namespace, name, uid.
    pub pods: Vec<PodRunqueue>,
    /// Pods beyond [`MAX_ROWS`].
    pub left_out: usize,
}

/// A pod's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PodRunqueue {
    /// Uid of the pod's cgroup.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: Option<String>,
    /// All its containers', and those of removed ones as long as the node knows the pod's own cgroup.
    pub row: RunqueueRow,
    /// Who had the CPU meanwhile since the record before, descending by time, the first five.
    pub neighbours: Vec<Neighbour>,
    /// Its containers'.
    pub containers: Vec<ContainerRunqueue>,
}

/// A container's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerRunqueue {
    /// Id.
    pub id: Option<String>,
    /// Name from the pod's spec.
    pub name: Option<String>,
    /// Its own.
    pub row: RunqueueRow,
}

/// The totals of some tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunqueueRow {
    /// One for each of the record's fields.
    pub values: Vec<u64>,
    /// Waits by length: slot `n` counts those of at least `2^n` ns and less than twice that, the first also 0 ns; zeros
    /// at the end are left out.
    pub waits: Vec<u64>,
}

impl NodeRunqueue {
    /// Of the pods in the map; whole pods up to [`MAX_ROWS`]. The pair is the last reading, and the one of the record
    /// before.
    pub fn new(pods: &PodMap, pair: &RunqueuePair) -> Self {
        let now = &pair.now;
        let mut this = Self {
            at_ns: now.at_ns,
            mono_ns: now.mono_ns,
            since_ns: now.since_ns,
            fields: FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            ..Self::default()
        };
        let recent = lately(pair, pods);
        let mut rows = 0_usize;
        for (at, (pod, run)) in pods.pods.iter().zip(of_pods(now, pods).pods).enumerate() {
            if run.totals == RunTotals::default() {
                continue;
            }
            let both = pod.containers.iter().zip(&run.containers);
            let ran = both.filter(|(_, totals)| **totals != RunTotals::default());
            let containers: Vec<_> = ran
                .map(|(container, totals)| ContainerRunqueue {
                    id: container.id.as_ref().map(|id| id.0.clone()),
                    name: container.name.clone(),
                    row: RunqueueRow::new(totals),
                })
                .collect();
            if rows + 1 + containers.len() > MAX_ROWS {
                this.left_out += 1;
                continue;
            }
            rows += 1 + containers.len();
            let neighbours = recent.as_ref().and_then(|recent| Some(&recent.pods.get(at)?.neighbours));
            this.pods.push(PodRunqueue {
                uid: pod.uid.0.clone(),
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                row: RunqueueRow::new(&run.totals),
                neighbours: neighbours.map(|all| Neighbour::first(all)).unwrap_or_default(),
                containers,
            });
        }
        this
    }

    /// What a row says; a field that the record does not have is 0.
    pub fn totals(&self, row: &RunqueueRow) -> RunTotals {
        let value = |field| self.value(row, field);
        let mut waits = Histogram { sum_ns: value("wait_ns"), ..Histogram::default() };
        for (slot, count) in row.waits.iter().enumerate() {
            // What a newer node tells apart beyond our last slot is in our last slot.
            let slot = &mut waits.slots[slot.min(SLOTS - 1)];
            *slot = slot.saturating_add(*count);
        }
        RunTotals {
            waits,
            on_cpu_ns: value("on_cpu_ns"),
            blocked_ns: value("blocked_ns"),
            voluntary_switches: value("voluntary_switches"),
            involuntary_switches: value("involuntary_switches"),
            migrations: Migrations {
                same_core: value("migrations_same_core"),
                same_llc: value("migrations_same_llc"),
                same_node: value("migrations_same_node"),
                other_node: value("migrations_other_node"),
            },
            longest_recent_wait_ns: value("longest_recent_wait_ns"),
        }
    }

    /// A field of a row; 0 where there is no such field.
    pub fn value(&self, row: &RunqueueRow, field: &str) -> u64 {
        let at = self.fields.iter().position(|name| name == field);
        at.and_then(|at| row.values.get(at)).copied().unwrap_or(0)
    }

    /// Time since an earlier record of the same counters, ns; `None` if it is none.
    pub fn interval_ns(&self, before: &Self) -> Option<u64> {
        let elapsed_ns = self.mono_ns.checked_sub(before.mono_ns)?;
        (self.since_ns == before.since_ns && elapsed_ns > 0).then_some(elapsed_ns)
    }
}

impl RunqueueRow {
    fn new(totals: &RunTotals) -> Self {
        let slots = &totals.waits.slots;
        let used = slots.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        let values = FIELDS.iter().map(|(_, value)| value(totals)).collect();
        Self { values, waits: slots[..used].to_vec() }
    }
}

#[cfg(test)]
mod tests;
