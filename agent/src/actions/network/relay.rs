//! The process's part of a fault: reads what the kernel's part hands over, and writes it back when it is due.
//!
//! One thread, the caller's, before ordinary tasks where the kernel allows that: what it does late is delay that nobody
//! asked for. It rests after every [`BUSY_NS`] of work, so that a flood of packets takes most of a CPU and never all.

use std::num::NonZeroU64;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::is_ready;
use super::order::Fault;
use super::queue::Queue;
use super::sieve::Lane;
use crate::kernel::policy::go_first;
use crate::kernel::tap::MAX_FRAME_BYTES;

/// Frames of one interface between two looks at what is due.
const BATCH: usize = 64;
/// Work without a rest.
const BUSY_NS: u64 = 2_000_000;
/// A rest: a tenth of that.
const REST_NS: u64 = 200_000;
/// Packets late by up to five milliseconds are told apart.
const LATE_SLOTS: usize = 1_000;
const LATE_SLOT_NS: u64 = 5_000;

/// What was done so far; packets are those of the wire, except where the kernel handles many as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Packets that were hit.
    pub matched: u64,
    /// Their size with all headers, bytes.
    pub matched_bytes: u64,
    /// Frames that were held and have gone on.
    pub released: u64,
    /// Their size, bytes.
    pub released_bytes: u64,
    /// Frames that are held.
    pub held: u64,
    /// Packets lost on purpose.
    pub dropped: u64,
    /// Packets sent twice.
    pub duplicated: u64,
    /// Packets damaged.
    pub corrupted: u64,
    /// Packets that overtook.
    pub reordered: u64,
    /// Packets dropped because too many were held, or the slow line's queue was full.
    pub overflowed: u64,
    /// How late half of what was held went on, at most; steps of 5 us.
    pub late_p50_ns: u64,
    /// How late the latest went on.
    pub late_max_ns: u64,
    /// The relay runs before ordinary tasks.
    pub realtime: bool,
}

/// Why [`Running::run_until`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is that late.
    Time,
    /// What was watched has something to say, or was closed.
    Watched,
}

/// A fault at work. What is held while nobody runs it waits; dropping it lets everything go at once.
#[derive(Debug)]
pub struct Running {
    lanes: Vec<Lane>,
    queue: Queue,
    late: Late,
    seen: Seen,
    buffer: Box<[u8]>,
    begun: bool,
    rested_ns: u64,
}

impl Running {
    pub(super) fn new(lanes: Vec<Lane>, fault: &Fault) -> Self {
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            queue: Queue::new(*fault, lanes.len(), seed),
            lanes,
            late: Late::default(),
            seen: Seen::default(),
            buffer: vec![0; MAX_FRAME_BYTES].into(),
            begun: false,
            rested_ns: 0,
        }
    }

    /// Works until a moment, ns since boot, or until `watched` is readable or closed.
    ///
    /// # Errors
    /// Why the fault cannot go on: its interface is gone.
    pub fn run_until(&mut self, until_ns: u64, watched: Option<BorrowedFd<'_>>) -> Result<Why, String> {
        self.lanes.iter().try_for_each(Lane::is_there)?;
        if self.lanes.iter().all(|lane| lane.tap.is_none()) {
            return Ok(loop {
                let now_ns = now_ns();
                if is_ready(watched, until_ns.saturating_sub(now_ns)) {
                    break Why::Watched;
                }
                if now_ns >= until_ns {
                    break Why::Time;
                }
            });
        }
        if !self.begun {
            self.begun = true;
            self.seen.realtime = go_first().is_ok();
            // Refused is late by what other tasks take, which is reported; the clock at least is exact.
            let _coarser = set_current_timer_slack(NonZeroU64::new(1));
        }
        loop {
            let work = self.release(now_ns())? + self.receive()?;
            let now_ns = now_ns();
            if now_ns >= until_ns {
                return Ok(Why::Time);
            }
            if work > 0 && now_ns.saturating_sub(self.rested_ns) < BUSY_NS {
                continue;
            }
            let called = if work > 0 {
                is_ready(watched, REST_NS)
            } else {
                let due_ns = self.queue.next_ns().unwrap_or(until_ns).min(until_ns);
                self.wait(due_ns.saturating_sub(now_ns), watched)
            };
            let after_ns = self::now_ns();
            if work > 0 || after_ns.saturating_sub(now_ns) >= REST_NS {
                self.rested_ns = after_ns;
            }
            if called {
                return Ok(Why::Watched);
            }
        }
    }

    /// Until a frame comes, or time is over; true when `watched` is ready.
    fn wait(&self, timeout_ns: u64, watched: Option<BorrowedFd<'_>>) -> bool {
        let taps = self.lanes.iter().filter_map(|lane| lane.tap.as_ref());
        let mut fds: Vec<_> = taps.map(|tap| PollFd::new(tap, PollFlags::IN)).collect();
        let at = fds.len();
        fds.extend(watched.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // An interrupted wait is a shorter one.
        let ready = poll(&mut fds, Some(&timespec(timeout_ns))).unwrap_or_default();
        ready > 0 && fds.get(at).is_some_and(|fd| !fd.revents().is_empty())
    }

    /// Sends on what is due; how many.
    fn release(&mut self, now_ns: u64) -> Result<usize, String> {
        let mut count = 0;
        while count < BATCH
            && let Some(held) = self.queue.due(now_ns)
        {
            count += 1;
            let Some(tap) = self.lanes.get(held.lane).and_then(|lane| lane.tap.as_ref()) else { continue };
            match rustix::io::write(tap, &held.frame) {
                Ok(_) => {
                    self.late.add(now_ns.saturating_sub(held.due_ns));
                    self.seen.released += 1;
                    self.seen.released_bytes += held.frame.len() as u64;
                }
                Err(Errno::BADFD) => return Err(format!("the relay's interface {} is gone", tap.name)),
                // No memory, or a frame that the kernel itself does not take back: dropped, as anywhere.
                Err(_) => self.seen.overflowed += 1,
            }
        }
        Ok(count)
    }

    /// Takes in what came; how many.
    fn receive(&mut self) -> Result<usize, String> {
        let mut count = 0;
        for (at, lane) in self.lanes.iter().enumerate() {
            let Some(tap) = &lane.tap else { continue };
            for _ in 0..BATCH {
                match rustix::io::read(tap, &mut *self.buffer) {
                    Ok(length) => {
                        count += 1;
                        self.queue.push(at, self.buffer.get(..length).unwrap_or_default(), now_ns());
                    }
                    Err(Errno::BADFD) => return Err(format!("the relay's interface {} is gone", tap.name)),
                    // Nothing more for now.
                    Err(_) => break,
                }
            }
        }
        Ok(count)
    }

    /// What was done so far.
    ///
    /// # Errors
    /// The kernel's part tells nothing.
    pub fn seen(&mut self) -> Result<Seen, String> {
        let tally = self.queue.tally;
        let mut seen = Seen {
            held: self.queue.len() as u64,
            dropped: tally.dropped,
            duplicated: tally.duplicated,
            corrupted: tally.corrupted,
            reordered: tally.reordered,
            overflowed: self.seen.overflowed + tally.overflowed,
            late_p50_ns: self.late.p50_ns(),
            late_max_ns: self.late.max_ns,
            ..self.seen
        };
        for lane in &mut self.lanes {
            let counts = lane.counts().map_err(|error| error.said())?;
            seen.matched += counts.matched;
            seen.matched_bytes += counts.matched_bytes;
            seen.dropped += counts.dropped;
            seen.duplicated += counts.duplicated;
            seen.overflowed += lane.overflowed();
        }
        Ok(seen)
    }
}

impl Drop for Running {
    /// Nothing more is hit; then what is held goes on at once, in its order.
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            lane.release();
        }
        // As many as can have been waiting: the queues in front of us are of that length.
        for _ in 0..BATCH {
            if !self.receive().is_ok_and(|count| count > 0) {
                break;
            }
        }
        while self.release(u64::MAX).is_ok_and(|count| count > 0) {}
    }
}

/// How late packets went on.
#[derive(Debug)]
struct Late {
    /// Counts of `LATE_SLOT_NS` each; the last one of all that is later.
    slots: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Default for Late {
    fn default() -> Self {
        Self { slots: vec![0; LATE_SLOTS], count: 0, max_ns: 0 }
    }
}

impl Late {
    fn add(&mut self, late_ns: u64) {
        let slot = usize::try_from(late_ns / LATE_SLOT_NS).unwrap_or(usize::MAX).min(LATE_SLOTS - 1);
        if let Some(count) = self.slots.get_mut(slot) {
            *count += 1;
        }
        self.count += 1;
        self.max_ns = self.max_ns.max(late_ns);
    }

    /// The upper end of the slot that holds the middle one.
    fn p50_ns(&self) -> u64 {
        let mut left = self.count.div_ceil(2);
        for (upper_ns, count) in (1..).map(|slot| slot * LATE_SLOT_NS).zip(&self.slots) {
            if left <= *count {
                return upper_ns.min(self.max_ns);
            }
            left -= count;
        }
        self.max_ns
    }
}

/// ns since boot, sleep included.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}

pub(super) fn timespec(ns: u64) -> Timespec {
    let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Timespec { tv_sec: part(ns / 1_000_000_000), tv_nsec: part(ns % 1_000_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_what_was_late() {
        let mut late = Late::default();
        assert_eq!(late.p50_ns(), 0);
        late.add(1_200);
        assert_eq!((late.p50_ns(), late.max_ns), (1_200, 1_200));
        for late_ns in [7_000, 8_000, 9_000_000] {
            late.add(late_ns);
        }
        assert_eq!((late.p50_ns(), late.max_ns), (10_000, 9_000_000));
        late.add(9_000_000);
        late.add(u64::MAX);
        late.add(u64::MAX);
        assert_eq!(late.p50_ns(), 5_000_000, "five milliseconds or more");
    }
}
