//! The routers as clients meet them: one request in, one answer out.

mod compat;
mod golden;
pub(super) mod harness;
mod hostile;
mod listener;
