//! The reference BSS record: eleven fields that clients of the BSS Metrics API know by name.
//!
//! Two generations of that API differ in the first key (`usersched_pid`, later `usersched_last_run_at`), so
//! the record holds twelve names, each optional: a scheduler that lacks a field has `None`, never 0.

/// One name of the reference record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BssField {
    /// Process id of the user-space scheduler (first generation's key).
    UserschedPid,
    /// When the user-space scheduler last ran, ns (second generation's key).
    UserschedLastRunAt,
    /// Tasks queued to the user-space scheduler (gauge).
    NrQueued,
    /// Tasks scheduled by user space and not yet dispatched (gauge).
    NrScheduled,
    /// Tasks running under the scheduler (gauge).
    NrRunning,
    /// CPUs online when the scheduler was loaded (gauge).
    NrOnlineCpus,
    /// Dispatches by user space since load (counter).
    NrUserDispatches,
    /// Dispatches by the kernel side since load (counter).
    NrKernelDispatches,
    /// Cancelled dispatches since load (counter).
    NrCancelDispatches,
    /// Bounced dispatches since load (counter).
    NrBounceDispatches,
    /// Failed dispatches since load (counter).
    NrFailedDispatches,
    /// Times the scheduler was congested since load (counter).
    NrSchedCongested,
}

impl BssField {
    /// Every field, in the reference document's order.
    pub const ALL: [Self; 12] = [
        Self::UserschedPid,
        Self::UserschedLastRunAt,
        Self::NrQueued,
        Self::NrScheduled,
        Self::NrRunning,
        Self::NrOnlineCpus,
        Self::NrUserDispatches,
        Self::NrKernelDispatches,
        Self::NrCancelDispatches,
        Self::NrBounceDispatches,
        Self::NrFailedDispatches,
        Self::NrSchedCongested,
    ];

    /// The name in the scheduler's BTF and in the reference JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserschedPid => "usersched_pid",
            Self::UserschedLastRunAt => "usersched_last_run_at",
            Self::NrQueued => "nr_queued",
            Self::NrScheduled => "nr_scheduled",
            Self::NrRunning => "nr_running",
            Self::NrOnlineCpus => "nr_online_cpus",
            Self::NrUserDispatches => "nr_user_dispatches",
            Self::NrKernelDispatches => "nr_kernel_dispatches",
            Self::NrCancelDispatches => "nr_cancel_dispatches",
            Self::NrBounceDispatches => "nr_bounce_dispatches",
            Self::NrFailedDispatches => "nr_failed_dispatches",
            Self::NrSchedCongested => "nr_sched_congested",
        }
    }

    /// Cumulative since the scheduler was loaded; the others are gauges.
    pub const fn is_counter(self) -> bool {
        matches!(
            self,
            Self::NrUserDispatches
                | Self::NrKernelDispatches
                | Self::NrCancelDispatches
                | Self::NrBounceDispatches
                | Self::NrFailedDispatches
                | Self::NrSchedCongested
        )
    }
}

/// The record: a value per field, `None` where the scheduler has no such variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BssRecord {
    values: [Option<u64>; BssField::ALL.len()],
}

impl BssRecord {
    /// The field's value.
    pub const fn get(&self, field: BssField) -> Option<u64> {
        self.values[field as usize]
    }

    /// Sets the field's value.
    pub const fn set(&mut self, field: BssField, value: Option<u64>) {
        self.values[field as usize] = value;
    }

    /// Every field with its value, in the reference order.
    pub fn iter(&self) -> impl Iterator<Item = (BssField, Option<u64>)> + '_ {
        BssField::ALL.iter().map(|&field| (field, self.get(field)))
    }

    /// True when not one field has a value.
    pub fn is_empty(&self) -> bool {
        self.values.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_own_slot() {
        let mut record = BssRecord::default();
        assert!(record.is_empty());
        for (value, field) in (1..).zip(BssField::ALL) {
            record.set(field, Some(value));
        }
        let values: Vec<_> = record.iter().map(|(_, value)| value).collect();
        assert_eq!(values, (1..=12).map(Some).collect::<Vec<_>>());
    }
}
