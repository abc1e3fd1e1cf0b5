//! A scheduler that can be read without a kernel that runs one: built BTF, a pretended kernel, real maps.
//!
//! For this room's tests, and with feature `fixture` for benches and tests of other packages.

mod fake;
mod schedulers;

use std::io;
use std::os::fd::OwnedFd;

pub use self::fake::{FakeKernel, FakeMap, FakeReader};
pub use self::schedulers::{Scheduler, UEI_KIND_OFFSET, kernel_btf, rustland_1_0, rustland_1_1};
use super::bpf::create;
pub use crate::kernel::btf::builder::BtfBuilder;

/// A section map in the running kernel, as a BPF loader makes it, and its BTF. Needs CAP_BPF.
#[derive(Debug)]
pub struct RealSection {
    map: OwnedFd,
    _btf: OwnedFd,
}

impl RealSection {
    /// Creates a map whose element has the section type `datasec` of `btf`; mappable or not.
    ///
    /// # Errors
    /// The kernel's refusal of the BTF or the map.
    pub fn create(btf: &[u8], datasec: u32, size: u32, mappable: bool) -> io::Result<Self> {
        let btf = create::load_btf(btf)?;
        let flags = if mappable { super::maps::FLAG_MMAPABLE } else { 0 };
        Ok(Self { map: create::section(&btf, datasec, size, flags)?, _btf: btf })
    }

    /// Writes the whole section.
    ///
    /// # Errors
    /// The kernel's refusal, as of a frozen map.
    pub fn write(&self, value: &[u8]) -> io::Result<()> {
        create::write(&self.map, value)
    }

    /// Ends writing for good.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn freeze(&self) -> io::Result<()> {
        create::freeze(&self.map)
    }

    /// The map's id.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn id(&self) -> io::Result<u32> {
        super::bpf::info_words::<22>(&self.map).map(|words| words[1])
    }
}
