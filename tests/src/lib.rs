//! Harness shared by the integration tests.

#![expect(clippy::disallowed_methods, reason = "tests start processes, read the clock and the environment")]

pub mod role;
