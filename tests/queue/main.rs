//! The queue of a receiver that is a process. What it promises is asserted once and run against every engine
//! ([`promises`]); what each does with faults of its own has its own tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "kills processes in real time")]

mod cluster;
mod embedded;
mod nodes;
mod place;
mod promises;
mod secrets;
mod servers;
mod stream;
