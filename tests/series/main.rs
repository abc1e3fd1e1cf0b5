//! Series in other stores, real ones: Prometheus 2 and 3 and VictoriaMetrics, written, read, asked what the embedded engine
//! is asked, stopped, held up, lying; and as senders to a receiver of ours.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "waits in real time for processes")]

mod faults;
mod place;
mod questions;
mod senders;
mod trust;
