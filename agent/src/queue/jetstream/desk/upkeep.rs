//! What a desk does without being told: deadlines, silence, what nobody wants, what nobody can take.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::super::super::message::MessageId;
use super::super::super::{Error, name};
use super::super::dead::Letter;
use super::super::flight::{Entry, Held};
use super::inbox::Inbox;
use super::waiting::Waiting;
use super::{Command, Desk, LINGER};

/// A group of servers elects a consumer's leader within seconds; half of what a client's request may take.
const SAY_WITHIN: Duration = Duration::from_secs(5);

impl Desk {
    /// What the clocks say.
    pub(super) async fn look(&mut self) {
        let now = Instant::now();
        if self.inbox.as_ref().is_some_and(|inbox| inbox.is_silent(now)) {
            self.core.metrics.pull_restarts.inc();
            tracing::warn!(
                topic = self.topic.name,
                group = self.group,
                "the servers do not answer: pulls begin anew"
            );
            self.restart();
            self.check_group().await;
        }
        let max = self.core.config.max_deliveries;
        let mortal = !name::is_dead(&self.topic.name);
        let mut dead = Vec::new();
        for (partition, flight) in (0..).zip(&mut self.flights) {
            for (sequence, entry) in flight.expire(now) {
                self.core.metrics.timed_out.inc();
                if mortal && entry.deliveries >= max {
                    dead.push((self.topic.id(partition, sequence), entry));
                }
            }
        }
        for (id, entry) in dead {
            self.bury_stored(id, entry);
        }
        self.send_back(LINGER).await;
        self.asks.retain(Waiting::is_wanted);
        self.refuse_late(now);
        if self.asks.is_empty() && self.flights.iter().all(|flight| flight.ready.is_empty()) {
            self.leave();
        }
    }

    /// Who does not want to wait is told that the servers do not say what there is.
    fn refuse_late(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(ask) = self.asks.get(at) {
            if !ask.is_late(now, SAY_WITHIN) {
                at += 1;
                continue;
            }
            let Some(ask) = self.asks.remove(at) else { return };
            let words = "the servers do not say what there is".to_owned();
            let _gone = ask.reply.send(Err(Error::Disk(words)));
        }
    }

    /// Records that nobody wants go back to the servers, for the group's consumers elsewhere.
    pub(super) async fn send_back(&mut self, linger: Duration) {
        let now = Instant::now();
        for flight in &mut self.flights {
            let idle = |(_, held): &(&u64, &Held)| now.saturating_duration_since(held.idle) >= linger;
            let idle: Vec<u64> = flight.ready.iter().filter(idle).map(|(sequence, _)| *sequence).collect();
            for held in idle.into_iter().filter_map(|sequence| flight.send_back(sequence)) {
                // Lost, it comes again when its time is out.
                let _sent = self.core.api.client.publish(held.ack, "-NAK".into()).await;
            }
        }
    }

    /// Servers forget the requests of an inbox that is gone; what is on its way to it is still taken.
    fn leave(&mut self) {
        let Some(Inbox { mut subscriber, .. }) = self.inbox.take() else { return };
        let back = self.back.clone();
        self.tasks.spawn(async move {
            if subscriber.drain().await.is_err() {
                return;
            }
            while let Some(message) = subscriber.next().await {
                let Some(back) = back.upgrade().filter(|_| message.status.is_none()) else { continue };
                let _closed = back.send(Command::Late { message: Box::new(message) }).await;
            }
        });
    }

    /// Everything that was asked for is asked for anew.
    pub(super) fn restart(&mut self) {
        self.leave();
        self.asks.iter_mut().for_each(Waiting::restart);
    }

    /// A group that is not there any more has nobody to wait for.
    pub(super) async fn check_group(&mut self) {
        self.core.forget_joined(&self.topic, &self.group);
        if let Ok(false) = self.core.has_group(&self.topic, &self.group).await {
            let words = format!("{} has no group {} any more", self.topic.name, self.group);
            for ask in self.asks.drain(..) {
                let _gone = ask.reply.send(Err(Error::Unknown(words.clone())));
            }
        }
    }

    pub(super) fn bury(&self, ack: String, letter: Letter) {
        let (core, topic, group, back) =
            (Arc::clone(&self.core), Arc::clone(&self.topic), self.group.clone(), self.back.clone());
        self.tasks.spawn(async move {
            let id = letter.id;
            let change = core.bury(&topic, &group, &ack, letter).await;
            if let Some(back) = back.upgrade() {
                let _closed = back.send(Command::Changed { changes: vec![(id, change)] }).await;
            }
        });
    }

    /// One that is on the servers alone.
    fn bury_stored(&self, id: MessageId, entry: Entry) {
        let (core, topic, group, back) =
            (Arc::clone(&self.core), Arc::clone(&self.topic), self.group.clone(), self.back.clone());
        self.tasks.spawn(async move {
            let change = core.bury_stored(&topic, &group, &entry.ack, id, entry.deliveries).await;
            if let Some(back) = back.upgrade() {
                let _closed = back.send(Command::Changed { changes: vec![(id, change)] }).await;
            }
        });
    }
}
