//! The running kernel, as sources that look into it need it: its types, our programs in it, what becomes of processes
//! as it happens, and a walk over all of them.

pub mod bell;
pub mod btf;
pub mod heap;
pub mod policy;
pub mod processes;
pub mod programs;
pub mod retry;
pub mod tasks;
pub mod types;
