//! One record of a node's stream: what is spooled, forwarded, stored.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{anomalies, bss, database, events, gpu, pods, runqueue, scheduler, usage, workloads};

/// A record: when and in which boot it was made, and what it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Record {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// The kernel's boot id: pids and ticks mean nothing outside it.
    pub boot_id: String,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// What a record says. A receiver refuses a record of a kind that it does not know, and only that one: the node drops it
/// and counts it as `refused`. Receivers are upgraded before nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
pub enum Body {
    /// A BSS record that somebody posted to this node's API.
    BssPosted(bss::Record),
    /// The node's own reading of the scheduler.
    Scheduler(Box<scheduler::Scheduler>),
    /// A scheduler ended.
    SchedulerExit(scheduler::Exit),
    /// A scheduler is about to be ejected.
    SchedulerWarning(scheduler::event::StallWarning),
    /// The kernel counted something against a scheduler.
    SchedulerEvent(scheduler::event::CounterChange),
    /// The node's pods, complete; sent when they changed.
    Pods(pods::Pods),
    /// What pods and containers use.
    Usage(usage::record::NodeUsage),
    /// An anomaly began on the node, or is over.
    Anomaly(anomalies::Event),
    /// A one-shot event was said at the node.
    Event(events::Said),
    /// How pods and containers wait for a CPU.
    Runqueue(runqueue::record::NodeRunqueue),
    /// What the node's GPUs say of themselves.
    Gpu(gpu::NodeGpu),
    /// What a database that the node was told of says of itself.
    Database(database::record::NodeDatabase),
    /// A workload of the node began, reported or is over.
    Workloads(workloads::record::NodeWorkloads),
}
