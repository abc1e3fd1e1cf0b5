//! Somebody who asks a desk for records.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::super::Error;
use super::super::super::message::{Message, Pull};
use super::super::super::parcel::Parcel;
use super::super::flight::{Flight, Held};

/// What is to be asked for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many records that this partition has now.
    Probe(u32, usize),
    /// The first that comes.
    Wait,
    /// An answer is on its way, or the consumer has all that it may hold.
    Nothing,
}

/// See the module.
pub(super) struct Waiting {
    pub(super) pull: Pull,
    /// Those that it wants records of, in its order.
    pub(super) partitions: Vec<u32>,
    pub(super) reply: oneshot::Sender<Result<Parcel, Error>>,
    pub(super) messages: VecDeque<Message>,
    bytes: usize,
    /// A record did not fit any more.
    full: bool,
    /// Partitions that were not asked yet what they have.
    sweep: VecDeque<u32>,
    /// The request that is answered now, and of which partition.
    probe: Option<(u64, u32)>,
    /// Since when it asks.
    pub(super) since: Instant,
}

impl Waiting {
    pub(super) fn new(
        pull: Pull,
        partitions: Vec<u32>,
        reply: oneshot::Sender<Result<Parcel, Error>>,
    ) -> Self {
        let sweep = partitions.iter().copied().collect();
        let (messages, since) = (VecDeque::new(), Instant::now());
        Self { pull, partitions, reply, messages, bytes: 0, full: false, sweep, probe: None, since }
    }

    /// Somebody still waits for the answer. What one that has gone was to get is in nobody's hands yet.
    pub(super) fn is_wanted(&self) -> bool {
        !self.reply.is_closed() || !self.messages.is_empty()
    }

    /// Records that it may still get.
    fn room(&self, flights: &[Flight]) -> usize {
        if self.full || self.reply.is_closed() {
            return 0;
        }
        let room = self.pull.max_messages.saturating_sub(self.messages.len());
        if self.pull.consumer == 0 {
            return room;
        }
        let held: usize = flights.iter().map(|flight| flight.held_by(self.pull.consumer)).sum();
        room.min(self.pull.credit.saturating_sub(held))
    }

    /// Takes what lies ready; returns it as it lay.
    pub(super) fn take(&mut self, flights: &mut [Flight], times: (Instant, Instant)) -> Vec<Held> {
        let mut taken = Vec::new();
        let mut room = self.room(flights);
        for partition in self.partitions.clone() {
            let Some(flight) = flights.get_mut(partition as usize) else { continue };
            while room > 0 {
                let Some((&sequence, held)) = flight.ready.first_key_value() else { break };
                let size = held.message.payload.len();
                if !self.messages.is_empty() && self.bytes + size > self.pull.max_bytes {
                    self.full = true;
                    return taken;
                }
                let Some(held) = flight.take(sequence, self.pull.consumer, times) else { break };
                self.bytes += size;
                room -= 1;
                self.messages.push_back(held.message.clone());
                taken.push(held);
            }
        }
        taken
    }

    /// It has what there is, or waits for nothing.
    pub(super) fn is_done(&self, flights: &[Flight]) -> bool {
        if self.reply.is_closed() {
            return true;
        }
        let room = self.room(flights);
        if room == 0 {
            return !self.messages.is_empty() || !self.pull.wait;
        }
        let swept = self.sweep.is_empty() && self.probe.is_none();
        swept && (!self.messages.is_empty() || !self.pull.wait)
    }

    pub(super) fn next(&self, flights: &[Flight]) -> Next {
        let room = self.room(flights);
        match (self.probe, self.sweep.front()) {
            (Some(_), _) => Next::Nothing,
            (None, _) if room == 0 => Next::Nothing,
            (None, Some(partition)) => Next::Probe(*partition, room),
            (None, None) => Next::Wait,
        }
    }

    /// The partition in front is asked.
    pub(super) fn probing(&mut self, number: u64) {
        self.probe = self.sweep.pop_front().map(|partition| (number, partition));
    }

    /// A request is answered.
    pub(super) fn over(&mut self, number: u64) {
        self.probe = self.probe.filter(|probe| probe.0 != number);
    }

    /// A request found nobody: that partition is asked again.
    pub(super) fn lost(&mut self, number: u64) {
        if let Some((_, partition)) = self.probe.take_if(|probe| probe.0 == number) {
            self.sweep.push_front(partition);
        }
    }

    /// It was not to wait, and the servers have not said what there is.
    pub(super) fn is_late(&self, now: Instant, patience: Duration) -> bool {
        let unanswered = self.probe.is_some() || !self.sweep.is_empty();
        let waits = self.pull.wait || !self.messages.is_empty();
        unanswered && !waits && now.saturating_duration_since(self.since) > patience
    }

    /// The requests are lost.
    pub(super) fn restart(&mut self) {
        self.probe = None;
        self.sweep = self.partitions.iter().copied().collect();
    }
}
