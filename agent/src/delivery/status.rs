//! How far behind delivery is, and why: what `/status` shows and the node reports of itself.

use serde::Serialize;
use tokio::sync::watch;

use super::WallClock;
use super::spool::{self, Spool};
use super::transport::Other;
use crate::api::batch::Accounts;

/// The way to one receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The receiver.
    pub receiver: String,
    /// Those that would take over.
    pub others: Vec<Other>,
    /// Attempts that failed since the last success.
    pub failures: u64,
    /// When the receiver last confirmed something, ns since the epoch.
    pub last_success_at_ns: Option<i64>,
    /// Why the last failed attempt failed; kept after a success.
    pub last_error: Option<String>,
    /// When that was, ns since the epoch.
    pub last_error_at_ns: Option<i64>,
}

/// Delivery at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryStatus {
    /// The receiver; none keeps everything in the spool.
    pub receiver: Option<String>,
    /// What became of every record.
    pub accounts: Accounts,
    /// Age of the oldest record that no receiver has, ns; 0 when all is delivered.
    pub lag_ns: i64,
    /// Why the disk takes nothing at present.
    pub degraded: Option<String>,
    /// The last damage found in the spool's file.
    pub damage: Option<String>,
    /// Attempts that failed since the last success.
    pub failures: u64,
    /// When the receiver last confirmed something, ns since the epoch.
    pub last_success_at_ns: Option<i64>,
    /// Why the last failed attempt failed.
    pub last_error: Option<String>,
    /// When that was, ns since the epoch.
    pub last_error_at_ns: Option<i64>,
    /// Receivers that would take over.
    #[serde(skip)]
    pub others: Vec<Other>,
}

/// Where the status is asked; clones are cheap.
#[derive(Clone, Debug)]
pub struct StatusDoor {
    spool: watch::Receiver<spool::Status>,
    link: Option<watch::Receiver<Link>>,
    clock: WallClock,
}

impl StatusDoor {
    /// A door on `spool`, and on a forwarder's link if there is one.
    pub fn new(spool: &Spool, link: Option<watch::Receiver<Link>>, clock: WallClock) -> Self {
        Self { spool: spool.status(), link, clock }
    }

    /// Delivery now.
    pub fn now(&self) -> DeliveryStatus {
        let link = self.link.as_ref().map(|link| link.borrow().clone());
        let spool = self.spool.borrow();
        let lag_ns = spool.oldest_at_ns.map_or(0, |at_ns| (self.clock)().saturating_sub(at_ns).max(0));
        let (receiver, link) =
            link.map_or((None, Link::default()), |link| (Some(link.receiver.clone()), link));
        DeliveryStatus {
            receiver,
            accounts: spool.accounts(),
            lag_ns,
            degraded: spool.degraded.clone(),
            damage: spool.damage.clone(),
            failures: link.failures,
            last_success_at_ns: link.last_success_at_ns,
            last_error: link.last_error,
            last_error_at_ns: link.last_error_at_ns,
            others: link.others,
        }
    }
}
