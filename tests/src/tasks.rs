//! The walk over all processes by /proc, in the records of the kernel-side one: a test compares the two, and a
//! benchmark times them.

mod proc;

use std::path::Path;

use agent_ebpf::task::TaskOffsets;
use anyhow::Result;
use sextant::kernel::tasks;
use sextant::kernel::types::Types;

pub use proc::{Proc, TICK_NS};

/// The running kernel's own types.
///
/// # Errors
/// It has none.
pub fn types() -> Result<Types> {
    Ok(Types::read(Path::new("/sys"))?)
}

/// The offsets on the running kernel.
///
/// # Errors
/// The kernel has no BTF, or lacks one of the fields.
pub fn offsets() -> Result<TaskOffsets> {
    Ok(tasks::offsets(&types()?)?)
}
