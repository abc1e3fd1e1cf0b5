//! How the kernel schedules the calling thread: `sched(7)`'s policies, which no crate here sets.
#![expect(unsafe_code, reason = "no crate here has the call")]

use std::io;

use serde::{Deserialize, Serialize};

/// A policy, with the priority of those that have one (1 to 99).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// `SCHED_BATCH`.
    Batch,
    /// `SCHED_IDLE`.
    Idle,
    /// `SCHED_EXT`: only with a kernel that has sched_ext.
    Ext,
    /// `SCHED_FIFO`; needs `CAP_SYS_NICE`.
    Fifo(u32),
    /// `SCHED_RR`; needs `CAP_SYS_NICE`.
    RoundRobin(u32),
}

/// `SCHED_EXT` of the kernel's `sched.h`.
const SCHED_EXT: i32 = 7;

/// Puts the calling thread, not its children, under `SCHED_FIFO` at the lowest priority: it runs before every task of the
/// ordinary and of the sched_ext class, so it must sleep nearly always. Needs `CAP_SYS_NICE`.
///
/// # Errors
/// The kernel's refusal.
pub fn go_first() -> io::Result<()> {
    set(Policy::Fifo(1))
}

/// Puts the calling thread, not its children, under a policy.
///
/// # Errors
/// The kernel's refusal.
pub fn set(policy: Policy) -> io::Result<()> {
    let (number, priority) = match policy {
        Policy::Batch => (libc::SCHED_BATCH, 0),
        Policy::Idle => (libc::SCHED_IDLE, 0),
        Policy::Ext => (SCHED_EXT, 0),
        Policy::Fifo(priority) => (libc::SCHED_FIFO, priority),
        Policy::RoundRobin(priority) => (libc::SCHED_RR, priority),
    };
    let sched_priority = i32::try_from(priority).unwrap_or(i32::MAX);
    let parameters = libc::sched_param { sched_priority };
    let number = number | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call reads the struct, which lives through it, and changes nothing but how this thread is scheduled.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, number, &raw const parameters) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_right_is_taken_and_what_cannot_be_is_refused() {
        let other = || std::thread::spawn(|| (set(Policy::Batch).is_ok(), set(Policy::Fifo(100)).is_err()));
        assert_eq!(other().join().unwrap(), (true, true));
    }
}
