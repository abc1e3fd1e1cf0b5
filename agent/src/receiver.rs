//! The receiver: takes what nodes send, stores it, knows the fleet.
//!
//! - [`ingest`]: batches and posted records, validated, stored, answered;
//! - [`changes`]: in which order its values came, for streams;
//! - [`fleet`]: the latest of every node, in memory, rebuilt from the store at start;
//! - [`pods`]: its pods, what they use and how they wait;
//! - [`collector`]: records and queued telemetry on their way into the store of series;
//! - [`measured`], [`telemetry`]: what they are there.

mod budget;
pub mod changes;
pub mod collector;
pub mod fleet;
pub mod ingest;
pub mod measured;
pub mod pods;
pub mod telemetry;

#[cfg(test)]
mod tests;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;
