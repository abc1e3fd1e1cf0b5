//! Giving memory back after the kernel's types were read: they are tens of megabytes for a moment, and the allocator
//! would keep them for ever, spread over the threads that read them.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the allocator is asked by a C function"))]

/// Gives the system what the allocator holds and nobody uses. Takes milliseconds: not for every day.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function takes a number, locks what it touches, and moves nothing that is in use.
    let _anything_given_back = unsafe { libc::malloc_trim(0) };
}
