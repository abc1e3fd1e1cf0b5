//! Giving back what loading a program took.
//!
//! The kernel's types are 130,000 small things; parsed, used once and dropped, they leave some 15 MB of free memory
//! spread over the allocator's heap, which it keeps for later. An agent that is to be small has no such later.
#![expect(unsafe_code, reason = "malloc_trim() is a foreign function")]

/// Returns free pages to the kernel, wherever in the heap they are; takes about a millisecond.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, locks the allocator itself, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}
