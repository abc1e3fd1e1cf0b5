//! `GET /api/v1/nodes` at the receiver: every node, how far behind it is, and what became of its records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::usage::record::NodeUsage;
use super::{bss, scheduler};

/// The fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Nodes {
    /// Wall time of this answer, ns since the epoch.
    pub at_ns: i64,
    /// Nodes, by name.
    pub nodes: Vec<Node>,
}

/// A node as the receiver knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Its present spool file; the accounts below are that file's.
    pub spool_id: String,
    /// When its last batch came, RFC 3339.
    pub last_seen: String,
    /// Age of the newest record that is here, seconds.
    pub lag_seconds: f64,
    /// Records the node made, as it said with its last batch.
    pub produced: u64,
    /// Records that are stored here, each once; expired ones included.
    pub stored: u64,
    /// Records that other receivers acknowledged and that are not here.
    pub elsewhere: u64,
    /// Records that waited at the node when its last batch had come, and that are not here.
    pub spooled: u64,
    /// Records the node lost, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// `produced = stored + elsewhere + spooled + dropped`, where nothing counts as elsewhere that was acknowledged here:
    /// false if this store lost something, is younger than the node's spool, or if something is wrong.
    pub adds_up: bool,
    /// Records that came more than once; stored once.
    pub duplicates: u64,
    /// Numbers skipped by the node so far: what it dropped after giving it a number, or what went elsewhere.
    pub missing: u64,
    /// Its scheduler.
    pub scheduler: Option<NodeScheduler>,
    /// How its last scheduler ended.
    pub last_exit: Option<scheduler::Exit>,
    /// Its pods, counted; null if it sent none.
    pub pods: Option<usize>,
    /// What its pods use together; null if it sent none.
    pub usage: Option<NodeUsageSum>,
}

/// What a node's pods use together, from its latest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeUsageSum {
    /// Wall time of the collection, ns since the epoch.
    pub at_ns: i64,
    /// Pods it is the sum of.
    pub pods: usize,
    /// CPU time of the pods that are there now, us: it falls when one goes.
    pub usage_usec: Option<u64>,
    /// Memory without inactive page cache.
    pub memory_working_set_bytes: Option<u64>,
}

impl From<&NodeUsage> for NodeUsageSum {
    fn from(usage: &NodeUsage) -> Self {
        Self {
            at_ns: usage.at_ns,
            pods: usage.pods.len(),
            usage_usec: usage.sum("usage_usec"),
            memory_working_set_bytes: usage.sum("memory_working_set_bytes"),
        }
    }
}

/// The scheduler of a node, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeScheduler {
    /// `unsupported`, `disabled`, `enabling`, `enabled`, `disabling`.
    pub state: String,
    /// The kernel's name of it, version and target included.
    pub ops: Option<String>,
    /// Its base name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Tasks refused since the last enable.
    pub nr_rejected: Option<u64>,
    /// The reference record.
    #[serde(flatten)]
    pub bss: bss::Record,
}

impl From<&scheduler::Scheduler> for NodeScheduler {
    fn from(scheduler: &scheduler::Scheduler) -> Self {
        Self {
            state: scheduler.state.clone(),
            ops: scheduler.ops.clone(),
            name: scheduler.name.clone(),
            version: scheduler.version.clone(),
            nr_rejected: scheduler.nr_rejected,
            bss: scheduler.bss,
        }
    }
}
