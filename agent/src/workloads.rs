//! Workloads on purpose: sysbench against the database, or our own generators, with live figures and a certain end.
//!
//! A request goes to the `steward`, which asks the database whether it can be, then to the `owner`, one thread that starts
//! processes, reads what they say and ends them. A process is this binary again ([`worker`]): it makes sure that the kernel
//! kills it with the node, takes its orders and secrets from a pipe, and becomes sysbench or a generator. So nothing
//! outlives the node however it ends, and there is nothing to write down or to sweep.
//!
//! Off until it is configured.

mod config;
mod handle;
mod id;
mod metrics;
mod owner;
mod process;
mod report;
mod steward;
mod sysbench;
pub mod worker;

pub use config::Config;
pub use handle::{Handle, Parts, start};
pub use metrics::Metrics;

/// Why nothing was started, or stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The request cannot be.
    #[error("{0}")]
    Invalid(String),
    /// Not now.
    #[error("{0}")]
    Conflict(String),
    /// No such workload.
    #[error("no workload {0:?} (GET /api/v1/workloads lists them)")]
    Unknown(String),
    /// The node lacks something.
    #[error("{0}")]
    Missing(String),
    /// The database cannot be reached, or refuses.
    #[error("{0}")]
    Database(String),
    /// A process could not be started, or ended before its work was done.
    #[error("{0}")]
    Failed(String),
    /// The node is stopping, or too many requests wait.
    #[error("workloads take no requests at the moment: {0}")]
    Unavailable(&'static str),
}
