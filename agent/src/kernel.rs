//! The running kernel, as sources that look into it need it: its types, our programs in it, and a walk over all
//! processes by one of them.

pub mod btf;
pub mod memory;
pub mod programs;
pub mod tasks;
pub mod types;
