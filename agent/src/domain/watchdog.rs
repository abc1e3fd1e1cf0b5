//! How near the kernel is to ejecting a sched_ext scheduler that leaves a task waiting.

/// A task that can run and does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// Thread id.
    pub tid: u32,
    /// Process id.
    pub pid: u32,
    /// The thread's name.
    pub comm: String,
    /// Its cgroup in the unified hierarchy: the inode number of the directory.
    pub cgroup_id: u64,
    /// For how long, ns; a multiple of the kernel's tick.
    pub wait_ns: u64,
}

/// What the kernel's watchdog would find now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Margin {
    /// How long a task may wait before the scheduler is ejected, ns; `None` where it cannot be read.
    pub timeout_ns: Option<u64>,
    /// The task that waits longest; `None` while nobody waits.
    pub longest: Option<Wait>,
    /// Tasks that wait; `None` where nobody looked.
    pub waiting: Option<u64>,
    /// The longest wait that was seen since the scheduler was loaded, ns; `None` where nobody looked.
    pub longest_of_epoch_ns: Option<u64>,
    /// Why nobody looked, or why there is no timeout.
    pub absent: Option<String>,
}

impl Margin {
    /// The longest wait as a share of the timeout: at 1 the kernel ejects. `None` where nobody looked, or without a
    /// timeout.
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    pub fn share(&self) -> Option<f64> {
        let timeout_ns = self.timeout_ns.filter(|&ns| ns > 0)?;
        self.waiting?;
        let wait_ns = self.longest.as_ref().map_or(0, |wait| wait.wait_ns);
        Some(wait_ns as f64 / timeout_ns as f64)
    }
}

/// Said once, before the kernel ejects: a task has waited for a good part of the timeout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StallWarning {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// `root/ops`.
    pub ops: String,
    /// `enable_seq` of the epoch.
    pub enable_seq: u64,
    /// Who waits longest.
    pub longest: Wait,
    /// Tasks that wait.
    pub waiting: u64,
    /// The timeout, ns.
    pub timeout_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_needs_a_timeout_and_nobody_waiting_is_none_of_it() {
        let wait = Wait { wait_ns: 2_500, ..Wait::default() };
        let (timeout_ns, longest, waiting) = (Some(5_000), Some(wait), Some(1));
        let margin = Margin { timeout_ns, longest, waiting, ..Margin::default() };
        assert_eq!(margin.share(), Some(0.5));
        assert_eq!(Margin { timeout_ns: None, ..margin.clone() }.share(), None);
        assert_eq!(Margin { timeout_ns: Some(0), ..margin.clone() }.share(), None);
        assert_eq!(
            Margin { longest: None, waiting: None, ..margin.clone() }.share(),
            None,
            "absent is not zero"
        );
        assert_eq!(Margin { longest: None, waiting: Some(0), ..margin }.share(), Some(0.0));
    }
}
