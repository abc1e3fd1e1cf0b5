//! Harness shared by the integration tests.

pub mod bpftool;
pub mod role;
pub mod scheduler;
