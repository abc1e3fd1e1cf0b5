//! Memory: taken at a pace, filled with what neither compresses nor merges, written again so that it stays.
//!
//! What the worker itself needs counts: asked for 64 MiB, it is 64 MiB in all. It stops growing while the node has less
//! than the floor available, and goes on when there is more again.

use std::collections::BTreeMap;

use memmap2::MmapMut;
use rustix::param::page_size;

use super::clock::Clock;
use super::pace::{Pace, due};
use super::{PERIOD_NS, Task};
use crate::actions::order::MemoryWork;

/// Between two looks at what the node has left: a floor is missed by no more.
const CHUNK_BYTES: usize = 1 << 20;

pub(super) struct Memory {
    work: MemoryWork,
    map: MmapMut,
    held_bytes: usize,
    own_bytes: u64,
    touch: Pace,
    touched_bytes: u64,
    cursor: usize,
    state: u64,
    at_floor: u64,
}

impl Memory {
    pub(super) fn begin(work: MemoryWork) -> Result<Self, String> {
        let own_bytes = resident_bytes();
        let bytes = usize::try_from(work.bytes.saturating_sub(own_bytes)).unwrap_or(usize::MAX).max(1);
        let map = MmapMut::map_anon(bytes).map_err(|error| format!("{bytes} bytes of memory: {error}"))?;
        #[expect(clippy::cast_precision_loss, reason = "a rate below 2^53")]
        let touch = Pace::new(work.touch_bytes_per_s as f64 / 1e9, 0, PERIOD_NS);
        // Any seed but 0, another for every worker.
        let state = u64::from(std::process::id()) | 0x9e37_79b9_0000_0000;
        Ok(Self {
            work,
            map,
            held_bytes: 0,
            own_bytes,
            touch,
            touched_bytes: 0,
            cursor: 0,
            state,
            at_floor: 0,
        })
    }

    /// One chunk more, up to `goal_bytes`; false when nothing was added.
    fn grow(&mut self, goal_bytes: u64) -> Result<bool, String> {
        let goal = usize::try_from(goal_bytes).unwrap_or(usize::MAX).min(self.map.len());
        if self.held_bytes >= goal {
            return Ok(false);
        }
        if available_bytes()? < self.work.floor_bytes.saturating_add(CHUNK_BYTES as u64) {
            self.at_floor += 1;
            return Ok(false);
        }
        let end = goal.min(self.held_bytes + CHUNK_BYTES);
        for piece in self.map[self.held_bytes..end].chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            piece.copy_from_slice(&self.state.to_ne_bytes()[..piece.len()]);
        }
        self.held_bytes = end;
        Ok(true)
    }

    /// Writes one byte of each page that is due.
    fn touch(&mut self, clock: Clock, until_ns: u64) {
        let mut owed = self.touch.owed(clock.elapsed_ns(), until_ns, self.touched_bytes);
        let page = page_size();
        #[expect(clippy::cast_precision_loss, reason = "a page")]
        let page_f = page as f64;
        while owed >= page_f && self.held_bytes > 0 && clock.elapsed_ns() < until_ns {
            if self.cursor >= self.held_bytes {
                self.cursor = 0;
            }
            self.map[self.cursor] = self.map[self.cursor].wrapping_add(1);
            self.cursor += page;
            self.touched_bytes += page as u64;
            owed -= page_f;
        }
    }
}

impl Task for Memory {
    fn turn(&mut self, clock: Clock, until_ns: u64) -> Result<(), String> {
        let goal = due(self.map.len() as u64, self.work.ramp_ns, until_ns);
        while clock.elapsed_ns() < until_ns && self.grow(goal)? {}
        self.touch(clock, until_ns);
        Ok(())
    }

    fn amount(&mut self) -> u64 {
        resident_bytes()
    }

    fn details(&self) -> BTreeMap<String, u64> {
        let details = [
            ("own_bytes", self.own_bytes),
            ("written_again_bytes", self.touched_bytes),
            ("times_at_floor", self.at_floor),
        ];
        details
            .into_iter()
            .filter(|(_, value)| *value > 0)
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// Anonymous memory of this process, as the kernel counts it: `/proc/self/statm`, resident less shared, in pages.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut words = text.split(' ').skip(1).map(|word| word.parse::<u64>().unwrap_or_default());
    let (resident, shared) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    resident.saturating_sub(shared) * page_size() as u64
}

/// `MemAvailable` of `/proc/meminfo`.
fn available_bytes() -> Result<u64, String> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| "/proc/meminfo: no MemAvailable".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: u64, floor_bytes: u64, touch_bytes_per_s: u64) -> Memory {
        Memory::begin(MemoryWork {
            bytes: resident_bytes() + bytes,
            ramp_ns: 0,
            touch_bytes_per_s,
            floor_bytes,
        })
        .unwrap()
    }

    #[test]
    fn it_grows_to_what_was_asked_and_is_really_there() {
        let mut memory = memory(8 << 20, 0, 1 << 30);
        let before = resident_bytes();
        let clock = Clock::start();
        memory.turn(clock, 2_000_000_000).unwrap();
        let grown = resident_bytes().saturating_sub(before);
        // Other tests of this process take and give memory meanwhile.
        assert!((6 << 20..64 << 20).contains(&grown), "{grown}");
        assert!(memory.held_bytes.abs_diff(8 << 20) < 64 << 10, "{}", memory.held_bytes);
        memory.turn(clock, 2_050_000_000).unwrap();
        assert!(memory.details()["written_again_bytes"] > 0);
    }

    #[test]
    fn it_stops_at_the_floor() {
        let mut memory = memory(8 << 20, u64::MAX / 2, 0);
        memory.turn(Clock::start(), 100_000_000).unwrap();
        assert_eq!((memory.held_bytes, memory.details()["times_at_floor"]), (0, 1));
    }
}
