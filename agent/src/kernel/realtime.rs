//! Running before every ordinary task: for the thread that must go on when a scheduler runs nobody any more.
#![expect(unsafe_code, reason = "no crate here has the call")]

use std::io;

/// Puts the calling thread, not its children, under `SCHED_FIFO` at the lowest priority: it runs before every task of the
/// ordinary and of the sched_ext class, so it must sleep nearly always. Needs `CAP_SYS_NICE`.
///
/// # Errors
/// The kernel's refusal.
pub fn go_first() -> io::Result<()> {
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the struct, which lives through it, and changes nothing but how this thread is scheduled.
    let done = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
