//! The pods of this node.
pub mod cgroup;
