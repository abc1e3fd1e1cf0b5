//! The BSS Metrics API family: the eleven-field record and the envelope around every answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::bss::{BssField, BssRecord};

/// The reference record. Output names a field the scheduler lacks as `null`; the compatible shape
/// ([`CompatRecord`]) demands a number and has 0 there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Record {
    /// Process id of the user-space scheduler.
    pub usersched_pid: Option<u64>,
    /// When the user-space scheduler last ran, ns.
    pub usersched_last_run_at: Option<u64>,
    /// Tasks queued to the user-space scheduler.
    pub nr_queued: Option<u64>,
    /// Tasks scheduled by user space.
    pub nr_scheduled: Option<u64>,
    /// Tasks running.
    pub nr_running: Option<u64>,
    /// CPUs online.
    pub nr_online_cpus: Option<u64>,
    /// Dispatches by user space.
    pub nr_user_dispatches: Option<u64>,
    /// Dispatches by the kernel side.
    pub nr_kernel_dispatches: Option<u64>,
    /// Cancelled dispatches.
    pub nr_cancel_dispatches: Option<u64>,
    /// Bounced dispatches.
    pub nr_bounce_dispatches: Option<u64>,
    /// Failed dispatches.
    pub nr_failed_dispatches: Option<u64>,
    /// Times the scheduler was congested.
    pub nr_sched_congested: Option<u64>,
}

impl From<&BssRecord> for Record {
    fn from(record: &BssRecord) -> Self {
        use BssField as F;
        Self {
            usersched_pid: record.get(F::UserschedPid),
            usersched_last_run_at: record.get(F::UserschedLastRunAt),
            nr_queued: record.get(F::NrQueued),
            nr_scheduled: record.get(F::NrScheduled),
            nr_running: record.get(F::NrRunning),
            nr_online_cpus: record.get(F::NrOnlineCpus),
            nr_user_dispatches: record.get(F::NrUserDispatches),
            nr_kernel_dispatches: record.get(F::NrKernelDispatches),
            nr_cancel_dispatches: record.get(F::NrCancelDispatches),
            nr_bounce_dispatches: record.get(F::NrBounceDispatches),
            nr_failed_dispatches: record.get(F::NrFailedDispatches),
            nr_sched_congested: record.get(F::NrSchedCongested),
        }
    }
}
