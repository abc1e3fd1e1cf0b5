//! What the node reads: one room per source, siblings that never import one another.

pub mod scheduler;
