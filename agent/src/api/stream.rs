//! What `GET /api/v1/stream` carries in its `data:` lines, beside `GET /api/v1/schedulers`' own shape.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::pods::Pod;
use super::workloads::View;

/// `event: pods` of a node: the pods that are not as this stream last said.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PodsSample {
    /// Wall time of the newest of the readings that it is made of, ns since the epoch.
    pub at_ns: i64,
    /// All pods that were asked for are here: what the client knew before is void. True of a stream's first.
    pub complete: bool,
    /// Pods as `GET /api/v1/pods` has them, whole: to be put in the place of the one with the same `uid`.
    #[schema(value_type = Vec<Pod>)]
    pub pods: Vec<Box<RawValue>>,
    /// Uids of pods that are gone.
    pub gone: Vec<String>,
}

/// `event: workloads` of a node: those that have changed since this stream last told of them.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WorkloadsSample {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// As `GET /api/v1/workloads` has them: each to be put in the place of the one with the same `id`.
    pub workloads: Vec<View>,
}

/// An event of a receiver: a record's body and the node that sent it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FleetSample<T> {
    /// The node.
    pub node: String,
    /// The body, as in the node's record of that kind.
    pub body: T,
}

/// `event: skipped`: samples that this stream did not carry because its client reads more slowly than they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Skipped {
    /// Of the kind of the next event.
    pub samples: u64,
}
