//! `GET /api/v1/pods` at the receiver: what each pod of the fleet uses and how it waits for a CPU, by its node's latest
//! records.
//!
//! Counters restart with their `epoch` (usage) or `since_ns` (waits for a CPU), which are given beside them; what
//! happened between the last two records is null when they have nothing in common, and never negative.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::runqueue::record::{NodeRunqueue, RunqueueRow};
use super::runqueue::{Neighbour, Recent, Runqueue};
use super::usage::record::{NodeUsage, Row};
use crate::domain::rate::{Reading, per_second};

/// Pods of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetPods {
    /// Wall time of this answer, ns since the epoch.
    pub at_ns: i64,
    /// Pods, in the order that was asked for.
    pub pods: Vec<FleetPod>,
    /// Pods that were asked for, those beyond the limit included.
    pub matching: usize,
    /// Pods beyond the limit.
    pub left_out: usize,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetPod {
    /// Where it runs.
    pub node: String,
    /// Uid of its cgroup.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: Option<String>,
    /// What it uses; null where the node's latest record does not have it.
    pub usage: Option<FleetUsage>,
    /// How its tasks wait for a CPU; null likewise.
    pub runqueue: Option<FleetRunqueue>,
    /// Its containers.
    pub containers: Vec<FleetContainer>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetContainer {
    /// Id.
    pub id: Option<String>,
    /// Name from the pod's spec.
    pub name: Option<String>,
    /// What it uses.
    pub usage: Option<FleetUsage>,
    /// How its tasks wait for a CPU.
    pub runqueue: Option<FleetRunqueue>,
}

/// What a pod or container uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetUsage {
    /// Wall time of the collection, ns since the epoch.
    pub at_ns: i64,
    /// Counters of another epoch began anew.
    pub epoch: u64,
    /// Counters and sizes by name, as the node sent them; null is "not known".
    pub values: BTreeMap<String, Option<u64>>,
    /// CPUs used between the last two records.
    pub cpu_cores: Option<f64>,
    /// Share of the quota's periods between the last two records in which it was throttled, 0 to 1.
    pub throttled_ratio: Option<f64>,
}

/// How the tasks of a pod or container wait for a CPU.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetRunqueue {
    /// Wall time of the reading, ns since the epoch.
    pub at_ns: i64,
    /// Wall time at which counting began, ns since the epoch: the node's agent started then.
    pub since_ns: i64,
    /// Totals since then; `recent` is between the last two records.
    #[serde(flatten)]
    pub totals: Runqueue,
}

impl FleetUsage {
    /// From a row, and that of the record before if there was one.
    pub fn new((record, row): (&NodeUsage, &Row), before: Option<(&NodeUsage, &Row)>) -> Self {
        let rate = |field| {
            let (earlier, earlier_row) = before?;
            let reading = |record: &NodeUsage, row: &Row| {
                let at_ns = u64::try_from(record.at_ns).ok()?;
                Some(Reading { epoch: row.epoch, value: record.value(row, field)?, at_ns })
            };
            per_second(reading(earlier, earlier_row)?, reading(record, row)?)
        };
        let periods = rate("nr_periods").filter(|periods| *periods > 0.0);
        Self {
            at_ns: record.at_ns,
            epoch: row.epoch,
            values: record.fields.iter().cloned().zip(row.values.iter().copied()).collect(),
            cpu_cores: rate("usage_usec").map(|usec| usec / 1e6),
            throttled_ratio: periods.and_then(|periods| Some(rate("nr_throttled")? / periods)),
        }
    }
}

impl FleetRunqueue {
    /// From a row, and that of the record before if there was one; `neighbours` are of the interval between them.
    pub fn new(
        (record, row): (&NodeRunqueue, &RunqueueRow),
        before: Option<(&NodeRunqueue, &RunqueueRow)>,
        neighbours: &[Neighbour],
    ) -> Self {
        let totals = record.totals(row);
        let recent = before.and_then(|(earlier, earlier_row)| {
            let interval_ns = record.interval_ns(earlier)?;
            let delta = totals.since(&earlier.totals(earlier_row))?;
            Some(Recent { neighbours: neighbours.to_vec(), ..Recent::new(&delta, &[], interval_ns) })
        });
        Self { at_ns: record.at_ns, since_ns: record.since_ns, totals: Runqueue::new(&totals, recent) }
    }
}
