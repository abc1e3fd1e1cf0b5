//! What happens and is told once: a scheduler's end, a warning before it, what the kernel counted against it; the
//! beginning and the end of an anomaly.

use super::exit::SchedulerExit;
use super::watchdog::StallWarning;

/// One of the kernel's event counters moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterChange {
    /// Wall time of the look that found it, ns since the epoch.
    pub at_ns: i64,
    /// Wall time since which it is the sum, ns since the epoch.
    pub since_ns: i64,
    /// `root/ops`.
    pub ops: String,
    /// `enable_seq` of the epoch.
    pub enable_seq: u64,
    /// The kernel's name: `SCX_EV_BYPASS_ACTIVATE`.
    pub name: String,
    /// By how much; ns for a duration.
    pub delta: u64,
    /// Since the scheduler was loaded.
    pub total: u64,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchedulerEvent {
    /// A scheduler ended.
    Ended(SchedulerExit),
    /// The kernel is about to eject it.
    Warned(StallWarning),
    /// The kernel counted something.
    Counted(CounterChange),
}

/// An anomaly began, or is over.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyEvent {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Names it.
    pub id: String,
    /// Its kind's name.
    pub kind: &'static str,
    /// Where, in words.
    pub target: String,
    /// Its state's name: `running`, or how it ended.
    pub state: &'static str,
    /// What the amounts are.
    pub unit: &'static str,
    /// What was asked for.
    pub amount: f64,
    /// What was achieved.
    pub achieved: Option<f64>,
    /// Why it is over.
    pub reason: Option<String>,
}
