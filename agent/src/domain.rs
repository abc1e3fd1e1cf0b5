//! Ground floor: what Sextant talks about, as plain values.
//!
//! No IO, no async, no serde, no clock: every function here is pure, wall time is an argument, and the
//! wire has its own types in [`crate::api`]. Kernel fields keep the kernel's names; units come last.

pub mod action;
pub mod bss;
pub mod database;
pub mod event;
pub mod exit;
pub mod gpu;
pub mod histogram;
pub mod pod;
pub mod rate;
pub mod runqueue;
pub mod scheduler;
pub mod series;
pub mod source;
pub mod top;
pub mod usage;
pub mod watchdog;
pub mod workload;
