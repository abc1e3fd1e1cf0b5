//! A file system's space, taken by a file without a name: with the worker it is free again, also after a power cut.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags, OFlags, fallocate, fstat};

use super::Task;
use super::clock::Clock;
use super::directory::{nameless, of};
use super::pace::due;
use crate::actions::order::DiskFillWork;

/// Between two looks at what is left: a floor is missed by no more.
const CHUNK_BYTES: u64 = 64 << 20;
/// `st_blocks` counts these.
const SECTOR_BYTES: u64 = 512;

pub(super) struct Fill {
    work: DiskFillWork,
    file: OwnedFd,
    taken_bytes: u64,
    at_floor: u64,
}

impl Fill {
    pub(super) fn begin(work: DiskFillWork) -> Result<Self, String> {
        let file = nameless(&work.place, OFlags::empty())?;
        Ok(Self { work, file, taken_bytes: 0, at_floor: 0 })
    }

    fn grow(&mut self, goal_bytes: u64) -> Result<bool, String> {
        let left = goal_bytes.saturating_sub(self.taken_bytes).min(CHUNK_BYTES);
        if left == 0 {
            return Ok(false);
        }
        if of(&self.file)?.free_bytes < self.work.floor_bytes.saturating_add(left) {
            self.at_floor += 1;
            return Ok(false);
        }
        fallocate(&self.file, FallocateFlags::empty(), self.taken_bytes, left)
            .map_err(|error| format!("{}: {error}", self.work.place.path))?;
        self.taken_bytes += left;
        Ok(true)
    }
}

impl Task for Fill {
    fn turn(&mut self, clock: Clock, until_ns: u64) -> Result<(), String> {
        let goal = due(self.work.bytes, self.work.ramp_ns, until_ns);
        while clock.elapsed_ns() < until_ns && self.grow(goal)? {}
        Ok(())
    }

    fn amount(&mut self) -> u64 {
        let blocks = fstat(&self.file).map_or(0, |stat| stat.st_blocks);
        u64::try_from(blocks).unwrap_or_default() * SECTOR_BYTES
    }

    fn details(&self) -> BTreeMap<String, u64> {
        let at_floor = (self.at_floor > 0).then(|| ("times_at_floor".to_owned(), self.at_floor));
        at_floor.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::order::Directory;

    #[test]
    fn it_takes_what_was_asked_but_nothing_below_the_floor_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let place = Directory { root: dir.path().to_owned(), path: "/".to_owned() };
        let work =
            |floor_bytes| DiskFillWork { place: place.clone(), bytes: 3 << 20, ramp_ns: 0, floor_bytes };
        let mut fill = Fill::begin(work(0)).unwrap();
        fill.turn(Clock::start(), 1_000_000_000).unwrap();
        assert_eq!(fill.amount(), 3 << 20);
        let mut none = Fill::begin(work(u64::MAX / 2)).unwrap();
        none.turn(Clock::start(), 1_000_000_000).unwrap();
        assert_eq!((none.amount(), none.details()["times_at_floor"]), (0, 1));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no name");
    }
}
