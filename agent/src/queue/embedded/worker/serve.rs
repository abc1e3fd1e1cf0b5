//! Deliveries: from what is on disk to whoever waits, in memory only.

use std::collections::VecDeque;

use super::super::ledger::Ledger;
use super::super::message::{Message, MessageId};
use super::super::metrics::Metrics;
use super::super::parcel::{Parcel, Taker};
use super::super::reader::{Found, Reader};
use super::super::{Config, Error, GroupState, Now, PartitionState, Pull, TopicState};
use super::{Ask, Command, MAX_WAITING, Worker};

impl Worker {
    /// Serves every pull that something is there for.
    pub(super) fn serve(&mut self) {
        self.waiting.retain(|ask| !ask.reply.is_closed());
        self.end_strangers();
        let Some(ledger) = &mut self.ledger else { return };
        for ask in &mut self.waiting {
            resume(ledger, &mut ask.pull);
        }
        let ledger = &*ledger;
        let ready = |ask: &mut Ask| !ask.pull.wait || has_something(ledger, &self.config, &ask.pull);
        let mut served: Vec<Ask> = self.waiting.extract_if(.., ready).collect();
        if self.waiting.len() > MAX_WAITING {
            let excess = self.waiting.drain(MAX_WAITING..);
            excess.for_each(|ask| _ = ask.reply.send(Err(Error::TooMany("too many pulls wait".to_owned()))));
        }
        if served.is_empty() {
            return;
        }
        let Some(mut ledger) = self.ledger.take() else { return };
        let (now, config, metrics, turn) = (self.now, self.config.clone(), self.metrics.clone(), self.turn);
        self.turn = self.turn.wrapping_add(1);
        let filled = self.with(|database| {
            let mut reader = Reader::new(database)?;
            let mut serving = Serving { ledger: &mut ledger, config: &config, metrics: &metrics, now, turn };
            served.iter().map(|ask| serving.fill(&ask.pull, &mut reader)).collect::<Result<Vec<_>, _>>()
        });
        match filled {
            Ok(filled) => {
                self.ledger = Some(ledger);
                for (ask, messages) in served.into_iter().zip(filled) {
                    // Another pull of this group was faster.
                    if messages.is_empty() && ask.pull.wait {
                        self.waiting.push(ask);
                        continue;
                    }
                    self.metrics.delivered.inc_by(messages.len() as u64);
                    let Pull { topic, group, consumer, .. } = ask.pull;
                    let (taker, back) = (Taker { topic, group, consumer }, self.back.clone());
                    let parcel = Parcel::new(messages, move |rest| {
                        let ids = rest.into_iter().map(|message| message.id).collect();
                        if let Some(back) = back.upgrade() {
                            // Where there is no room for this they come again when their time is out.
                            let _late = back.try_send(Command::Return { taker, ids });
                        }
                    });
                    // What nobody takes comes back by itself.
                    let _gone = ask.reply.send(Ok(parcel));
                }
            }
            Err(cause) => {
                let words = cause.to_string();
                for ask in served.drain(..) {
                    let _gone = ask.reply.send(Err(Error::Disk(words.clone())));
                }
            }
        }
    }

    /// Pulls of a group that was forgotten, or lost with a damaged file, wait for nothing.
    fn end_strangers(&mut self) {
        if self.ledger.is_none() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (joined, strangers): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|ask| self.is_joined(&ask.pull));
        self.waiting = joined;
        for Ask { pull: Pull { topic, group, .. }, reply, .. } in strangers {
            let _gone = reply.send(Err(Error::Unknown(format!("{topic} has no group {group} any more"))));
        }
    }

    /// Delivered records that never reached anybody.
    pub(super) fn take_back(&mut self, taker: &Taker, ids: &[MessageId]) {
        let Some(ledger) = &mut self.ledger else { return };
        let epoch = ledger.epoch;
        for id in ids.iter().filter(|id| id.epoch == epoch) {
            if let Some((flight, due)) = ledger.flight_mut(&taker.topic, id.partition, &taker.group) {
                flight.undeliver(due, id.offset, taker.consumer);
            }
        }
    }

    pub(super) fn orphan(&mut self, taker: &Taker) {
        let topic = self.ledger.as_mut().and_then(|ledger| ledger.topics.get_mut(&taker.topic));
        for partition in topic.into_iter().flat_map(|topic| topic.partitions.values_mut()) {
            if let Some(flight) = partition.flights.get_mut(&taker.group) {
                flight.orphan(taker.consumer);
            }
        }
    }

    /// Every topic; with `ages`, how old what each group owes is.
    pub(super) fn topics(&mut self, ages: bool) -> Result<Vec<TopicState>, Error> {
        if self.ledger.is_none() {
            self.load().map_err(Error::Disk)?;
        }
        let Some(ledger) = self.ledger.take() else { return Ok(Vec::new()) };
        let shown = self.with(|database| {
            let mut reader = Reader::new(database)?;
            show(&ledger, &mut reader, ages)
        });
        if shown.is_ok() {
            self.ledger = Some(ledger);
        }
        shown.map_err(|cause| Error::Disk(cause.to_string()))
    }
}

/// What was sent to a lost stream and never arrived can be delivered again, once.
fn resume(ledger: &mut Ledger, pull: &mut Pull) {
    let Some(last) = pull.after.take().filter(|last| last.epoch == ledger.epoch) else { return };
    if let Some((flight, due)) = ledger.flight_mut(&pull.topic, last.partition, &pull.group) {
        flight.resume_after(due, last.offset);
    }
}

/// Records that the consumer may still get.
fn credit(ledger: &Ledger, pull: &Pull) -> usize {
    if pull.consumer == 0 {
        return pull.max_messages;
    }
    let Some(topic) = ledger.topics.get(&pull.topic) else { return 0 };
    let flights = topic.partitions.values().filter_map(|partition| partition.flights.get(&pull.group));
    let held: usize = flights.map(|flight| flight.held_by(pull.consumer)).sum();
    pull.credit.saturating_sub(held).min(pull.max_messages)
}

fn has_something(ledger: &Ledger, config: &Config, pull: &Pull) -> bool {
    let there = ledger.wanted(pull).into_iter().any(|index| {
        let Some(partition) = ledger.partition(&pull.topic, index) else { return false };
        let flight = partition.flights.get(&pull.group);
        flight.is_some_and(|flight| {
            flight.next(partition.head).is_some() && flight.in_flight() < config.max_in_flight
        })
    });
    there && credit(ledger, pull) > 0
}

struct Serving<'a> {
    ledger: &'a mut Ledger,
    config: &'a Config,
    metrics: &'a Metrics,
    now: Now,
    turn: usize,
}

impl Serving<'_> {
    fn fill(&mut self, pull: &Pull, reader: &mut Reader) -> Result<VecDeque<Message>, redb::Error> {
        let mut room = credit(self.ledger, pull);
        let (mut messages, mut bytes) = (VecDeque::new(), 0);
        let mut indexes = self.ledger.wanted(pull);
        if !indexes.is_empty() {
            let by = self.turn % indexes.len();
            indexes.rotate_left(by);
        }
        for index in indexes {
            let Some(partition) = self.ledger.partition(&pull.topic, index) else { continue };
            let (number, head, epoch) = (partition.number, partition.head, self.ledger.epoch);
            while room > 0 {
                let Some((flight, due)) = self.ledger.flight_mut(&pull.topic, index, &pull.group) else {
                    break;
                };
                if flight.in_flight() >= self.config.max_in_flight {
                    break;
                }
                let Some(offset) = flight.next(head) else { break };
                let fits = |size: usize| messages.is_empty() || bytes + size <= pull.max_bytes;
                match reader.get(number, offset, fits)? {
                    None => return Ok(messages),
                    Some(Found::Gap { next, damaged }) => {
                        flight.skip(due, offset, next.min(head));
                        if damaged {
                            self.metrics.damaged_chunks.inc();
                            tracing::error!(
                                topic = pull.topic,
                                partition = index,
                                offset,
                                "records are damaged"
                            );
                        }
                    }
                    Some(Found::Record { at_ns, origin, payload }) => {
                        let until = self.now.mono + self.config.visibility_timeout();
                        let deliveries = flight.deliver(due, offset, pull.consumer, (self.now.mono, until));
                        bytes += payload.len();
                        room -= 1;
                        let id = MessageId { epoch, partition: index, offset };
                        messages.push_back(Message { id, at_ns, deliveries, origin, payload });
                    }
                }
                self.ledger.note_unwritten(&pull.topic, index);
            }
        }
        Ok(messages)
    }
}

fn show(ledger: &Ledger, reader: &mut Reader, ages: bool) -> Result<Vec<TopicState>, redb::Error> {
    let mut topics = Vec::with_capacity(ledger.topics.len());
    for (name, topic) in &ledger.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (&index, partition) in &topic.partitions {
            let mut groups = Vec::new();
            for (group, flight) in partition.flights.iter().filter(|_| ages) {
                let lag = flight.lag(partition.head);
                let oldest = reader.get(partition.number, flight.floor(), |_| true);
                let oldest_at_ns = match oldest {
                    Ok(Some(Found::Record { at_ns, .. })) if lag > 0 => Some(at_ns),
                    Ok(_) => None,
                    Err(error) => return Err(error),
                };
                let in_flight = flight.in_flight() as u64;
                groups.push(GroupState { name: group.clone(), lag, in_flight, oldest_at_ns });
            }
            let records = partition.head.saturating_sub(partition.tail);
            partitions.push(PartitionState { index, records, depth: partition.depth(), groups });
        }
        topics.push(TopicState { name: name.clone(), width: topic.width, partitions });
    }
    Ok(topics)
}
