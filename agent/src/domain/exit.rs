//! How a sched_ext scheduler ended: its user_exit_info, decoded.
//!
//! Kinds and the exit code's three parts are the kernel's `enum scx_exit_kind` and `enum scx_exit_code`.

/// Why the kernel unloaded the scheduler (`enum scx_exit_kind`, by value).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// 0: still running, or the record was never written.
    None,
    /// 1: the exit was handled, no reason kept.
    Done,
    /// 64: unregistered from user space.
    Unreg,
    /// 65: unregistered from BPF.
    UnregBpf,
    /// 66: unregistered by the kernel (hotplug, for one).
    UnregKern,
    /// 67: SysRq-S.
    Sysrq,
    /// 68: the parent scheduler ended (kernel 7.1 on).
    Parent,
    /// 1024: runtime error.
    Error,
    /// 1025: `scx_bpf_error()`.
    ErrorBpf,
    /// 1026: the watchdog found a runnable task that did not run.
    ErrorStall,
    /// A value of a kernel newer than this table.
    Unknown(u64),
}

impl ExitKind {
    /// From the kernel's number.
    pub const fn from_raw(raw: u64) -> Self {
        match raw {
            0 => Self::None,
            1 => Self::Done,
            64 => Self::Unreg,
            65 => Self::UnregBpf,
            66 => Self::UnregKern,
            67 => Self::Sysrq,
            68 => Self::Parent,
            1024 => Self::Error,
            1025 => Self::ErrorBpf,
            1026 => Self::ErrorStall,
            other => Self::Unknown(other),
        }
    }

    /// The kernel's number.
    pub const fn raw(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Done => 1,
            Self::Unreg => 64,
            Self::UnregBpf => 65,
            Self::UnregKern => 66,
            Self::Sysrq => 67,
            Self::Parent => 68,
            Self::Error => 1024,
            Self::ErrorBpf => 1025,
            Self::ErrorStall => 1026,
            Self::Unknown(raw) => raw,
        }
    }

    /// A closed set of words for labels and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Done => "done",
            Self::Unreg => "unreg",
            Self::UnregBpf => "unreg_bpf",
            Self::UnregKern => "unreg_kern",
            Self::Sysrq => "sysrq",
            Self::Parent => "parent",
            Self::Error => "error",
            Self::ErrorBpf => "error_bpf",
            Self::ErrorStall => "error_stall",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The kernel ejected the scheduler: nobody asked it to go.
    pub const fn is_error(self) -> bool {
        self.raw() >= 1024
    }
}

/// One scheduler's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerExit {
    /// `root/ops` while it ran.
    pub ops: String,
    /// `enable_seq` of the epoch that ended.
    pub enable_seq: u64,
    /// Why it ended. [`ExitKind::None`] when the exit record could not be read: see `detail`.
    pub kind: ExitKind,
    /// The kernel's 64-bit exit code: action in bits 63-48, reason in 47-32, the scheduler's own in 31-0.
    pub exit_code: i64,
    /// The kernel's words for the kind ("runnable task stall").
    pub reason: String,
    /// What exactly happened ("kworker/0:1\[32\] failed to run for 5.120s").
    pub msg: String,
    /// Where the record came from, or why there is none ("exit record unreadable: ...").
    pub detail: String,
    /// Wall time at which the end was noticed, ns since the epoch.
    pub noticed_at_ns: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_numbers_round_trip() {
        for raw in [0, 1, 64, 65, 66, 67, 68, 1024, 1025, 1026, 7, u64::MAX] {
            assert_eq!(ExitKind::from_raw(raw).raw(), raw);
        }
        assert!(ExitKind::ErrorStall.is_error());
        assert!(!ExitKind::Sysrq.is_error());
    }
}
