//! What the node reads: one room per source, none of which knows another.
//!
//! A source is best effort: it counts what it could not read, says in its health what it lacks, and never
//! stops the rest. Joins between sources are pure functions in [`crate::domain`].

pub mod database;
pub mod gpu;
pub mod pods;
pub mod runqlat;
pub mod scheduler;
pub mod usage;
