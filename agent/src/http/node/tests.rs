//! The node's router as clients meet them: one request in, one answer out.

mod anomalies;
mod compat;
mod events;
mod golden;
mod harness;
mod hostile;
mod listener;
mod stream;
mod workloads;
