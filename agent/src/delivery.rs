//! Delivery: what a node produced goes to a receiver, and nothing that was accepted is lost on the way.
//!
//! - [`spool`]: records on disk, accepted when they are synced, counted until they are gone;
//! - [`forwarder`]: reads the spool in order, sends batches, retries, deletes what the receiver confirmed;
//! - [`transport`]: how a batch reaches a receiver (HTTP), and which of several;
//! - [`status`] and [`age`]: how far behind it is and why.
//!
//! Invariants: records are opaque bytes here; `produced = acknowledged + spooled + dropped` at every moment;
//! a record is deleted only when a receiver confirmed it or when it is counted as dropped.

pub mod age;
pub mod forwarder;
pub(crate) mod pace;
pub mod spool;
pub mod status;
pub mod transport;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;
