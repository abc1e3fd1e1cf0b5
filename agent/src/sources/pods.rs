//! The pods of this node.
pub mod cgroup;
mod skipped;
mod tasks;
mod tree;
