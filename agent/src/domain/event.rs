//! What happens to a scheduler and is told once: its end, a warning before it, what the kernel counted against it.

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
