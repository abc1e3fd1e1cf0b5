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

/// `data` of `GET /api/v1/metrics`: a number in every field, as clients of the reference demand. 0 where the
/// scheduler has no such variable; `/api/v1/schedulers` has null and the reason there.
///
/// Both generations' first keys are present: each client reads its own and ignores the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CompatRecord {
    /// First generation's key.
    pub usersched_pid: u64,
    /// Second generation's key.
    pub usersched_last_run_at: u64,
    /// See [`Record`].
    pub nr_queued: u64,
    /// See [`Record`].
    pub nr_scheduled: u64,
    /// See [`Record`].
    pub nr_running: u64,
    /// See [`Record`].
    pub nr_online_cpus: u64,
    /// See [`Record`].
    pub nr_user_dispatches: u64,
    /// See [`Record`].
    pub nr_kernel_dispatches: u64,
    /// See [`Record`].
    pub nr_cancel_dispatches: u64,
    /// See [`Record`].
    pub nr_bounce_dispatches: u64,
    /// See [`Record`].
    pub nr_failed_dispatches: u64,
    /// See [`Record`].
    pub nr_sched_congested: u64,
}

/// What `GET /api/v1/metrics` adds to the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Retrieved {
    /// The record.
    pub data: CompatRecord,
    /// Wall time of the record: of the reading, or of its arrival.
    pub metrics_timestamp: String,
    /// `scheduler` (this node's own reading) or `posted`.
    pub source: String,
}

impl From<&Record> for CompatRecord {
    fn from(record: &Record) -> Self {
        Self {
            usersched_pid: record.usersched_pid.unwrap_or(0),
            usersched_last_run_at: record.usersched_last_run_at.unwrap_or(0),
            nr_queued: record.nr_queued.unwrap_or(0),
            nr_scheduled: record.nr_scheduled.unwrap_or(0),
            nr_running: record.nr_running.unwrap_or(0),
            nr_online_cpus: record.nr_online_cpus.unwrap_or(0),
            nr_user_dispatches: record.nr_user_dispatches.unwrap_or(0),
            nr_kernel_dispatches: record.nr_kernel_dispatches.unwrap_or(0),
            nr_cancel_dispatches: record.nr_cancel_dispatches.unwrap_or(0),
            nr_bounce_dispatches: record.nr_bounce_dispatches.unwrap_or(0),
            nr_failed_dispatches: record.nr_failed_dispatches.unwrap_or(0),
            nr_sched_congested: record.nr_sched_congested.unwrap_or(0),
        }
    }
}

impl From<&Record> for BssRecord {
    fn from(record: &Record) -> Self {
        use BssField as F;
        let mut this = Self::default();
        for (field, value) in [
            (F::UserschedPid, record.usersched_pid),
            (F::UserschedLastRunAt, record.usersched_last_run_at),
            (F::NrQueued, record.nr_queued),
            (F::NrScheduled, record.nr_scheduled),
            (F::NrRunning, record.nr_running),
            (F::NrOnlineCpus, record.nr_online_cpus),
            (F::NrUserDispatches, record.nr_user_dispatches),
            (F::NrKernelDispatches, record.nr_kernel_dispatches),
            (F::NrCancelDispatches, record.nr_cancel_dispatches),
            (F::NrBounceDispatches, record.nr_bounce_dispatches),
            (F::NrFailedDispatches, record.nr_failed_dispatches),
            (F::NrSchedCongested, record.nr_sched_congested),
        ] {
            this.set(field, value);
        }
        this
    }
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
