//! Packets that wait, and what else becomes of them: pure, with the time as an argument.
//!
//! A packet may be lost, come twice, be damaged; then it waits its turn on the slow line, if there is one, and after that
//! the delay. When memory or the line's patience is at its end the newest packet is dropped and counted, as a full
//! switch does. Shares are exact in the long run: dice that came out wrong are made up for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use agent_ebpf::network::MEMORY_PACKETS;

use super::order::Fault;
use crate::kernel::tap::HEADER_BYTES;

/// Memory for packets: 200 ms of 2.5 Gbit/s.
const MAX_HELD_BYTES: usize = 64 << 20;
/// The same of small ones: 200 ms of 300,000 packets a second.
const MAX_HELD: usize = 65_536;
/// How long a packet waits for a slow line at most; a longer queue would be a delay that nobody asked for.
const MAX_LINE_NS: u64 = 500_000_000;
/// Of a frame, before what IP carries.
const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) dropped: u64,
    pub(super) duplicated: u64,
    pub(super) corrupted: u64,
    pub(super) reordered: u64,
    pub(super) overflowed: u64,
}

/// A packet that waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    /// When it goes on, ns since boot.
    pub(super) due_ns: u64,
    /// Those of one moment keep their order.
    turn: u64,
    /// Of which interface.
    pub(super) lane: usize,
    /// With its header.
    pub(super) frame: Box<[u8]>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    fault: Fault,
    held: BinaryHeap<Reverse<Held>>,
    held_bytes: usize,
    turn: u64,
    /// When the slow line of each interface is free again.
    free_ns: Vec<u64>,
    random: Random,
    dice: [Dice; 4],
    pub(super) tally: Tally,
}

/// What is diced for, in the order of its dice.
#[derive(Clone, Copy)]
enum What {
    Loss,
    Duplicate,
    Corrupt,
    Reorder,
}

impl Queue {
    pub(super) fn new(fault: Fault, lanes: usize, seed: u64) -> Self {
        let (held, free_ns) = (BinaryHeap::new(), vec![0; lanes]);
        let Fault { loss_percent, duplicate_percent, corrupt_percent, reorder_percent, .. } = fault;
        let dice = [loss_percent, duplicate_percent, corrupt_percent, reorder_percent];
        let dice = dice.map(|percent| Dice { share: percent / 100.0, debt: 0.0 });
        Self {
            fault,
            held,
            held_bytes: 0,
            turn: 0,
            free_ns,
            random: Random(seed),
            dice,
            tally: Tally::default(),
        }
    }

    /// Takes in a frame that came now.
    pub(super) fn push(&mut self, lane: usize, frame: &[u8], now_ns: u64) {
        if self.hits(What::Loss) {
            self.tally.dropped += 1;
            return;
        }
        if self.hits(What::Duplicate) && self.hold(lane, frame, now_ns) {
            self.tally.duplicated += 1;
        }
        self.hold(lane, frame, now_ns);
    }

    fn hits(&mut self, what: What) -> bool {
        let Self { dice, random, .. } = self;
        // There is one for each.
        dice.get_mut(what as usize).is_some_and(|dice| dice.hits(random))
    }

    /// False when there was no room.
    fn hold(&mut self, lane: usize, frame: &[u8], now_ns: u64) -> bool {
        let room = self.held.len() < MAX_HELD && self.held_bytes + frame.len() <= MAX_HELD_BYTES;
        let Some(through_ns) = self.through(lane, frame, now_ns).filter(|_| room) else {
            self.tally.overflowed += 1;
            return false;
        };
        let mut frame: Box<[u8]> = frame.into();
        if self.hits(What::Corrupt) && self.random.damage(&mut frame) {
            self.tally.corrupted += 1;
        }
        let due_ns = if self.hits(What::Reorder) {
            self.tally.reordered += 1;
            through_ns
        } else {
            let Fault { delay_ns, jitter_ns, .. } = self.fault;
            let more_ns = self.random.below(jitter_ns.saturating_mul(2).saturating_add(1));
            through_ns.saturating_add(delay_ns).saturating_sub(jitter_ns).saturating_add(more_ns)
        };
        self.held_bytes += frame.len();
        self.turn += 1;
        self.held.push(Reverse(Held { due_ns, turn: self.turn, lane, frame }));
        true
    }

    /// When a frame has gone through the slow line; `None` if it would wait too long.
    fn through(&mut self, lane: usize, frame: &[u8], now_ns: u64) -> Option<u64> {
        let rate = self.fault.rate_bits_per_s;
        let Some(free_ns) = self.free_ns.get_mut(lane).filter(|_| rate > 0) else { return Some(now_ns) };
        let begins_ns = now_ns.max(*free_ns);
        if begins_ns - now_ns > MAX_LINE_NS {
            return None;
        }
        let bits = frame.len().saturating_sub(HEADER_BYTES) as u64 * 8;
        // A frame has at most some hundred thousand bits.
        *free_ns = begins_ns.saturating_add(bits * 1_000_000_000 / rate);
        Some(*free_ns)
    }

    /// The next one that is due by now.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Held> {
        if self.next_ns()? > now_ns {
            return None;
        }
        let Reverse(held) = self.held.pop()?;
        self.held_bytes -= held.frame.len();
        Some(held)
    }

    /// When the next one is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.held.peek().map(|Reverse(held)| held.due_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

/// Dice that make up for what came out wrong before.
#[derive(Clone, Copy, Debug)]
struct Dice {
    share: f64,
    /// Hits that should have been and were not.
    debt: f64,
}

impl Dice {
    fn hits(&mut self, random: &mut Random) -> bool {
        if self.share <= 0.0 || self.share >= 1.0 {
            return self.share > 0.0;
        }
        let hit = random.share() < self.share + self.debt / f64::from(MEMORY_PACKETS);
        self.debt += self.share - if hit { 1.0 } else { 0.0 };
        hit
    }
}

/// `SplitMix64`: even, fast and good enough for dice.
#[derive(Debug)]
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    const fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Flips a bit of what IP carries, so that whoever has a checksum notices; false where there is nothing to flip.
    #[expect(clippy::cast_possible_truncation, reason = "below the length of a frame")]
    fn damage(&mut self, frame: &mut [u8]) -> bool {
        let ethertype = frame.get(HEADER_BYTES + 12..HEADER_BYTES + ETHERNET_BYTES);
        let header = if ethertype == Some(&[0x86, 0xdd]) { IPV6_BYTES } else { IPV4_BYTES };
        let Some(carried) = frame.get_mut(HEADER_BYTES + ETHERNET_BYTES + header..) else { return false };
        let at = self.below(carried.len() as u64) as usize;
        let Some(byte) = carried.get_mut(at) else { return false };
        *byte ^= 1 << self.below(8);
        true
    }
}

#[cfg(test)]
mod tests;
