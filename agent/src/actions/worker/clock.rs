//! The clocks of a worker: the one that also runs while the machine sleeps, and the thread's own CPU time.

use rustix::time::{ClockId, clock_gettime};

/// Time since a beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started_ns: u64,
}

impl Clock {
    /// Begins now.
    pub(super) fn start() -> Self {
        Self { started_ns: since_boot_ns() }
    }

    /// Since then, ns.
    pub(super) fn elapsed_ns(self) -> u64 {
        since_boot_ns().saturating_sub(self.started_ns)
    }
}

/// CPU time of this thread, ns.
pub(super) fn used_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// ns since boot, sleep included: the clock of every deadline here.
pub(in crate::actions) fn since_boot_ns() -> u64 {
    read(ClockId::Boottime)
}

fn read(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}
