//! Waiting for a descriptor of the kernel's without a thread: the one line that the runtime wants to be vouched for.
#![expect(
    unsafe_code,
    reason = "the runtime cannot see that a descriptor stays what it is; its type says so here"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that becomes readable, edge by edge.
#[derive(Debug)]
pub struct Bell(AsyncFd<OwnedFd>);

impl Bell {
    /// Inside a runtime only.
    ///
    /// # Errors
    /// The descriptor cannot be waited for.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an owned descriptor is open, and the same, until it is dropped, which only `AsyncFd` does.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Until it rang since the last time; at once, the first time, if there is something to read already.
    pub async fn rung(&self) {
        match self.0.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime is shutting down: nobody waits any more.
            Err(_) => std::future::pending().await,
        }
    }
}
