//! In which order the fleet's latest values came: what a stream follows.
//!
//! A value that is replaced leaves its place and takes a new one at the end, so that a reader who comes late finds each
//! value once, the latest, and nothing grows but with the number of nodes. Ids ascend, over restarts too as long as the
//! clock does: they are the wall time of arrival, made different. Of what was stored before a restart they are the node's
//! time, since that of the arrival is not kept.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::api::anomalies::Event;
use crate::api::database::record::NodeDatabase;
use crate::api::events::Said;
use crate::api::gpu::NodeGpu;
use crate::api::runqueue::record::NodeRunqueue;
use crate::api::scheduler::event::{CounterChange, StallWarning};
use crate::api::scheduler::{Exit, Scheduler};
use crate::api::usage::record::NodeUsage;
use crate::api::workloads::record::NodeWorkloads;

/// What changed of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Its scheduler's reading.
    Scheduler,
    /// A scheduler ended.
    SchedulerExit,
    /// A scheduler came near its ejection.
    SchedulerWarning,
    /// The kernel counted something of its scheduler.
    SchedulerEvent,
    /// An anomaly began on it, or is over.
    Anomaly,
    /// A one-shot event was said at it.
    Event,
    /// Its pods.
    Pods,
    /// What they use.
    Usage,
    /// How they wait for a CPU.
    Runqueue,
    /// Its GPUs.
    Gpu,
    /// Its database.
    Database,
    /// Its workloads.
    Workloads,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Scheduler,
        Self::SchedulerExit,
        Self::SchedulerWarning,
        Self::SchedulerEvent,
        Self::Anomaly,
        Self::Event,
        Self::Pods,
        Self::Usage,
        Self::Runqueue,
        Self::Gpu,
        Self::Database,
        Self::Workloads,
    ];

    /// It happened, and replaces nothing that happened before.
    const fn happens(self) -> bool {
        matches!(
            self,
            Self::SchedulerExit | Self::SchedulerWarning | Self::SchedulerEvent | Self::Anomaly | Self::Event
        )
    }

    /// The record's own word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::SchedulerExit => "scheduler_exit",
            Self::SchedulerWarning => "scheduler_warning",
            Self::SchedulerEvent => "scheduler_event",
            Self::Anomaly => "anomaly",
            Self::Event => "event",
            Self::Pods => "pods",
            Self::Usage => "usage",
            Self::Runqueue => "runqueue",
            Self::Gpu => "gpu",
            Self::Database => "database",
            Self::Workloads => "workloads",
        }
    }
}

/// One place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Ascending.
    pub id: i64,
    /// Whose.
    pub node: Arc<str>,
    /// Of what.
    pub kind: Kind,
    /// How often this value was replaced before; happenings replace nothing, and count too.
    pub version: u64,
}

/// A value as it came.
#[derive(Clone, Debug)]
pub enum Sample {
    /// Of [`Kind::Scheduler`].
    Scheduler(Arc<Scheduler>),
    /// Of [`Kind::SchedulerExit`].
    SchedulerExit(Exit),
    /// Of [`Kind::SchedulerWarning`].
    SchedulerWarning(StallWarning),
    /// Of [`Kind::SchedulerEvent`].
    SchedulerEvent(CounterChange),
    /// Of [`Kind::Anomaly`].
    Anomaly(Event),
    /// Of [`Kind::Event`].
    Event(Said),
    /// Of [`Kind::Pods`].
    Pods(Arc<crate::api::pods::Pods>),
    /// Of [`Kind::Usage`].
    Usage(Arc<NodeUsage>),
    /// Of [`Kind::Runqueue`].
    Runqueue(Arc<NodeRunqueue>),
    /// Of [`Kind::Gpu`].
    Gpu(Arc<NodeGpu>),
    /// Of [`Kind::Database`].
    Database(Arc<NodeDatabase>),
    /// Of [`Kind::Workloads`].
    Workloads(Arc<NodeWorkloads>),
}

/// The order.
#[derive(Debug, Default)]
pub(super) struct Changes {
    order: BTreeMap<i64, Change>,
    latest: HashMap<(Arc<str>, Kind), (i64, u64)>,
    last_id: i64,
}

impl Changes {
    /// Something of a node changed at this wall time; its id. The place that the value had before is gone, except that
    /// of a happening, which is until it is [forgotten](Self::forget).
    pub(super) fn note(&mut self, node: &Arc<str>, kind: Kind, now_ns: i64) -> i64 {
        let id = now_ns.max(self.last_id.saturating_add(1));
        self.last_id = id;
        let key = (Arc::clone(node), kind);
        let before = self.latest.get(&key).copied();
        let version = before.map_or(0, |(_, version)| version + 1);
        if let Some((before, _)) = before
            && !kind.happens()
        {
            self.order.remove(&before);
        }
        self.latest.insert(key, (id, version));
        self.order.insert(id, Change { id, node: Arc::clone(node), kind, version });
        id
    }

    /// Ids from here on are larger than this.
    pub(super) fn skip_to(&mut self, id: i64) {
        self.last_id = self.last_id.max(id);
    }

    pub(super) fn forget(&mut self, id: i64) {
        self.order.remove(&id);
    }

    /// What came after this id, ascending.
    pub(super) fn after(&self, id: i64) -> impl Iterator<Item = &Change> {
        self.order.range((Bound::Excluded(id), Bound::Unbounded)).map(|(_, change)| change)
    }

    pub(super) const fn last_id(&self) -> i64 {
        self.last_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_found_once_where_it_was_replaced_last() {
        let mut changes = Changes::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for (node, now_ns) in [(&a, 10), (&b, 10), (&a, 10), (&a, 5)] {
            changes.note(node, Kind::Scheduler, now_ns);
        }
        let exits = [changes.note(&a, Kind::SchedulerExit, 20), changes.note(&a, Kind::SchedulerExit, 20)];
        let found = |id| -> Vec<_> {
            changes.after(id).map(|change| (change.id, &*change.node, change.version)).collect()
        };
        assert_eq!(found(0), [(11, "b", 0), (13, "a", 2), (20, "a", 0), (21, "a", 1)]);
        assert_eq!(found(13), [(20, "a", 0), (21, "a", 1)]);
        assert_eq!(found(21), []);
        assert_eq!(changes.last_id(), 21);
        changes.forget(exits[0]);
        assert_eq!(changes.after(13).count(), 1);
        for _ in 0..1_000 {
            changes.note(&a, Kind::Pods, 0);
        }
        assert_eq!(changes.order.len(), 4, "nothing grows");
    }
}
