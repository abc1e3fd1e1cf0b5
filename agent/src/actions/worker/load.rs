//! Disk load: operations of one size at a rate, past the page cache, on a file without a name.
//!
//! What was never written is read without the disk, so that the file is written once before anything is read from it;
//! these writes count.

use std::os::fd::OwnedFd;

use memmap2::MmapMut;
use rustix::fs::OFlags;
use rustix::io::{pread, pwrite};

use super::clock::Clock;
use super::directory::nameless;
use super::pace::Pace;
use super::{PERIOD_NS, Task};
use crate::actions::order::DiskLoadWork;

/// More than a disk's own cache usually holds, little for a file system.
const FILE_BYTES: u64 = 64 << 20;

pub(super) struct Load {
    file: OwnedFd,
    /// Whole pages, as direct I/O needs it.
    block: MmapMut,
    blocks: u64,
    pace: Pace,
    write_share: f64,
    writes: u64,
    operations: u64,
    /// What one of them counts for in a report.
    worth: u64,
    state: u64,
}

impl Load {
    pub(super) fn begin(work: &DiskLoadWork) -> Result<Self, String> {
        let file = nameless(&work.place, OFlags::DIRECT)?;
        let bytes = usize::try_from(work.block_bytes).map_err(|error| error.to_string())?;
        let mut block = MmapMut::map_anon(bytes).map_err(|error| format!("a block: {error}"))?;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for byte in block.iter_mut() {
            state = next(state);
            *byte = state.to_ne_bytes()[0];
        }
        Ok(Self {
            file,
            block,
            blocks: (FILE_BYTES / work.block_bytes).max(1),
            pace: Pace::new(work.operations_per_s / 1e9, work.ramp_ns, PERIOD_NS),
            write_share: work.write_percent / 100.0,
            writes: 0,
            operations: 0,
            worth: if work.in_bytes { work.block_bytes } else { 1 },
            state,
        })
    }

    fn operate(&mut self) -> Result<(), String> {
        self.state = next(self.state);
        let size = self.block.len() as u64;
        let first_pass = self.writes < self.blocks;
        let block = if first_pass { self.writes } else { self.state % self.blocks };
        #[expect(clippy::cast_precision_loss, reason = "a share of 2^20")]
        let drawn = (self.state >> 40 & 0xf_ffff) as f64 / f64::from(1 << 20);
        let done = if first_pass || drawn < self.write_share {
            // Another content each time: no layer below may find that nothing changed.
            self.block[..8].copy_from_slice(&self.state.to_ne_bytes());
            self.writes += 1;
            pwrite(&self.file, &self.block, block * size)
        } else {
            pread(&self.file, &mut self.block[..], block * size)
        };
        match done {
            Ok(count) if count as u64 == size => {
                self.operations += 1;
                Ok(())
            }
            Ok(count) => Err(format!("the disk took {count} of {size} bytes: is it full?")),
            Err(error) => Err(format!("disk: {error}")),
        }
    }
}

const fn next(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^ state << 17
}

impl Task for Load {
    fn turn(&mut self, clock: Clock, until_ns: u64) -> Result<(), String> {
        let mut owed = self.pace.owed(clock.elapsed_ns(), until_ns, self.operations);
        while owed >= 1.0 && clock.elapsed_ns() < until_ns {
            self.operate()?;
            owed -= 1.0;
        }
        Ok(())
    }

    fn amount(&mut self) -> Option<u64> {
        Some(self.operations * self.worth)
    }
}
