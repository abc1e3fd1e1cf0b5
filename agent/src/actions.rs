//! Anomalies provoked on purpose, exactly as strong as asked, and always undone.
//!
//! One `owner` thread holds all of it: it checks a request against the limits, finds the target's groups (`place`),
//! refuses what is protected (`protect`), writes down what it is about to do (`journal`), does it step by step through
//! an [`executor::Executor`], and undoes the steps in reverse when time is up, when it is asked to, when a step fails, when
//! the kill switch appears, and before the node ends. Whatever becomes of the node, its [`worker`]s end by themselves;
//! what the journal says was begun and not ended is looked for at the next start.
//!
//! Off until it is configured.

use crate::domain::action::Invalid;

mod config;
pub mod executor;
mod handle;
mod journal;
mod metrics;
mod namespaces;
pub mod network;
mod order;
mod owner;
mod place;
mod plan;
mod protect;
pub mod worker;

pub use config::Config;
pub use handle::{Handle, Parts, start};
pub use metrics::Metrics;
pub use order::Order;

/// Why nothing was started, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request cannot be.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The target is protected.
    #[error("target: {0}")]
    Protected(String),
    /// Not now.
    #[error("{0}")]
    Conflict(String),
    /// No such anomaly.
    #[error("no anomaly {0:?} (GET /api/v1/anomalies lists them)")]
    Unknown(String),
    /// A step or the journal failed; what had been done was undone.
    #[error("not started: {0}")]
    Failed(String),
    /// The node is stopping, or too many requests wait.
    #[error("anomalies take no requests at the moment: {0}")]
    Unavailable(&'static str),
}
