//! A small heap for a process that sits beside everybody else's work.
//!
//! The C library's allocator keeps a heap for each of several threads, and in each what a moment once needed. Reading
//! the kernel's types takes tens of megabytes for a moment, and every second's maps of pods are built by whichever
//! thread is free: kept apart, these were three times the size of what was in use. Elsewhere than with the GNU C
//! library nothing is done.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the allocator is asked by C functions"))]

/// One heap for all threads. To be said before there are any others. Few of the node's threads are busy at once, so
/// none waits for another's allocation to speak of.
pub fn share() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes two numbers; no other thread allocates yet, and if one did it would keep its heap.
    let _accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Gives the system what the allocator holds and nobody uses. Takes milliseconds: not for every day.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes a number, locks what it touches, and moves nothing that is in use.
    let _anything_given_back = unsafe { libc::malloc_trim(0) };
}
