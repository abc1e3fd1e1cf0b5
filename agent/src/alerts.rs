//! Alerts: rules over the stored series, each alert in one state at a time, told outside and remembered over restarts.
//!
//! Invariants:
//! - an alert is a rule and the labels of what it is about; it goes inactive → pending → firing → resolved, and fires when
//!   its condition has held for the rule's time, not before;
//! - it resolves when its value is beyond the rule's `clear`, which may lie apart from the limit: no flapping in between;
//! - states, and who is still to be told of them, are on disk before anybody is told; a restart neither fires an alert again
//!   nor forgets one that fires, nor one that a webhook or the events were not told of;
//! - for a rule's window after the start what is missing changes no state: it may wait at the nodes or in the queue;
//! - a question that fails changes no state: no data is an answer, an error is none;
//! - rules, alerts, targets and what waits to be told have limits; what is dropped is counted.
//!
//! [`rule`] is what a file may say, [`measure`] and [`state`] are pure, [`book`] is the file of states, [`owed`] what
//! is still to be told, [`notify`] the way out, [`run`] the loop.

pub mod book;
mod config;
mod measure;
mod metrics;
mod notify;
mod owed;
pub mod rule;
mod run;
pub mod state;

use std::sync::Arc;

use tokio::sync::watch;

pub use self::config::Config;
pub use self::metrics::Metrics;
pub use self::notify::Client;
pub use self::owed::Reader;
pub use self::run::Alerts;
use self::state::Alert;
use crate::tls;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;

/// What is known of all alerts.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Pending and firing ones, and those that were resolved lately, by rule and labels.
    pub alerts: Arc<[Alert]>,
    /// Rules that could not be evaluated the last time, and why.
    pub failing: Vec<(String, String)>,
    /// When all rules were evaluated last, ms since the epoch.
    pub evaluated_at_ms: Option<i64>,
}

/// The present state, and every later one.
pub type Watch = watch::Receiver<Status>;

/// Why alerts cannot be watched for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rules' file cannot be read.
    #[error("alerts: cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The rules' file says what cannot be.
    #[error("alerts: {path}: {words}")]
    Rules {
        /// The file.
        path: String,
        /// What.
        words: String,
    },
    /// A target that cannot be.
    #[error("alerts: {0}")]
    Target(String),
    /// Certificates that cannot be used.
    #[error("alerts: tls: {}", tls::words(.0))]
    Tls(#[from] tls::Error),
}
