//! A group's desk: where its consumers at this receiver ask for records, and where what they hold is known.
//!
//! One task for each group that is read here. It asks the servers for as many records as are wanted and no more: first,
//! partition by partition, for those that are there; when there are none it waits at all of them. A record that comes
//! when nobody wants it any more lies here for [`LINGER`], in case somebody comes back, and is then given back.

mod inbox;
mod upkeep;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::inbox::{Inbox, Word};
use self::waiting::Waiting;
use super::super::message::{Message, MessageId, Pull};
use super::super::parcel::Parcel;
use super::super::{Error, name};
use super::core::{Core, Topic};
use super::dead::Letter;
use super::flight::{Change, Entry, Flight, Held, Look};
use super::names::{self, Delivery};

/// A record that nobody takes waits here so long for the next one who asks.
const LINGER: Duration = Duration::from_millis(250);

/// One that lay here longer than this is given the whole of its time.
const FRESH: Duration = Duration::from_millis(50);

/// How often the desk looks at its clocks while something is on its way, and while nothing is.
const BUSY: Duration = Duration::from_millis(50);
const QUIET: Duration = Duration::from_millis(250);

/// After a consumer was not there.
const PAUSE: Duration = Duration::from_millis(50);

/// A desk that nobody needed for so long is cleared.
const CLEAR_AFTER: Duration = Duration::from_secs(600);

/// Asks that may wait at one desk; streams and long pulls are fewer.
const MAX_WAITING: usize = 4_096;

/// Commands that may wait: a parcel's and a consumer's end must find room.
const COMMANDS: usize = 4_096;

/// What a desk is told.
pub(super) enum Command {
    Ask {
        pull: Box<Pull>,
        reply: oneshot::Sender<Result<Parcel, Error>>,
    },
    /// Nobody took them.
    GiveBack {
        consumer: u64,
        messages: VecDeque<Message>,
    },
    /// A consumer has gone.
    Left {
        consumer: u64,
    },
    /// What was sent to a gone consumer after this record.
    Lost {
        after: MessageId,
        reply: oneshot::Sender<Vec<(u64, Entry)>>,
    },
    /// Here it is again.
    Restore {
        held: Vec<Held>,
    },
    Look {
        ids: Vec<MessageId>,
        reply: oneshot::Sender<Vec<Look>>,
    },
    Changed {
        changes: Vec<(MessageId, Change)>,
    },
    /// Everything up to this sequence is acknowledged.
    Floor {
        partition: u32,
        floor: u64,
    },
    /// It was on its way to an inbox that is gone.
    Late {
        message: Box<async_nats::Message>,
    },
    /// The group was forgotten.
    Forgotten,
}

/// Asks a desk, and waits for what it says.
pub(super) async fn ask<R>(
    desk: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<R>) -> Command,
) -> Result<R, Error> {
    let (reply, answer) = oneshot::channel();
    desk.send(command(reply)).await.map_err(|_| Error::Closed)?;
    answer.await.map_err(|_| Error::Closed)
}

/// See the module.
pub(super) struct Desk {
    core: Arc<Core>,
    topic: Arc<Topic>,
    group: String,
    commands: mpsc::Receiver<Command>,
    /// For parcels and for letters: what becomes of records is said this way.
    back: mpsc::WeakSender<Command>,
    tasks: TaskTracker,
    flights: Vec<Flight>,
    asks: VecDeque<Waiting>,
    inbox: Option<Inbox>,
    /// Where the next ask begins.
    turn: u32,
    /// No request before this, after a consumer was not there.
    pause: Option<Instant>,
    used: Instant,
}

impl Desk {
    /// Opens a desk, and says how to speak to it.
    pub(super) fn open(
        core: &Arc<Core>,
        topic: &Arc<Topic>,
        group: &str,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> mpsc::Sender<Command> {
        let (sender, commands) = mpsc::channel(COMMANDS);
        let flights = (0..topic.width).map(|_| Flight::default()).collect();
        let desk = Self {
            core: Arc::clone(core),
            topic: Arc::clone(topic),
            group: group.to_owned(),
            commands,
            back: sender.downgrade(),
            tasks: tasks.clone(),
            flights,
            asks: VecDeque::new(),
            inbox: None,
            turn: 0,
            pause: None,
            used: Instant::now(),
        };
        tasks.spawn(desk.run(stop));
        sender
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut connections = self.core.connections.clone();
        connections.mark_unchanged();
        loop {
            let look = if self.is_busy() { BUSY } else { QUIET };
            let said = async {
                match &mut self.inbox {
                    Some(inbox) => inbox.subscriber.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(Command::Forgotten) => {
                        self.end(&Error::Unknown(format!("{} has no group {} any more", self.topic.name, self.group)));
                        return;
                    }
                    Some(command) => self.obey(command),
                    None => break,
                },
                message = said => match message {
                    Some(message) => self.hear(message).await,
                    None => self.inbox = None,
                },
                Ok(()) = connections.changed() => {
                    // The servers know nothing of what was asked on another connection.
                    self.restart();
                }
                () = tokio::time::sleep(look) => {}
            }
            self.look().await;
            self.serve().await;
            if self.is_done() {
                break;
            }
        }
        self.send_back(Duration::ZERO).await;
        self.end(&Error::Closed);
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        self.used = now;
        match command {
            Command::Ask { reply, .. } if self.asks.len() >= MAX_WAITING => {
                let _gone = reply.send(Err(Error::TooMany("too many pulls wait".to_owned())));
            }
            Command::Ask { pull, reply } => {
                let partitions = match pull.partition {
                    Some(partition) => vec![partition],
                    None => self.in_turn(),
                };
                self.asks.push_back(Waiting::new(*pull, partitions, reply));
            }
            Command::GiveBack { consumer, messages } => {
                for message in messages {
                    if let Some(flight) = self.flight(message.id.partition) {
                        flight.give_back(message, consumer, now);
                    }
                }
            }
            Command::Left { consumer } => self.flights.iter_mut().for_each(|flight| flight.orphan(consumer)),
            Command::Lost { after, reply } => {
                let ours = after.epoch == self.topic.epoch;
                let flight = self.flight(after.partition).filter(|_| ours);
                let _gone =
                    reply.send(flight.map(|flight| flight.lost_after(after.offset, now)).unwrap_or_default());
            }
            Command::Restore { held } => {
                for held in held {
                    if let Some(flight) = self.flight(held.message.id.partition) {
                        flight.restore(held);
                    }
                }
            }
            Command::Look { ids, reply } => {
                let epoch = self.topic.epoch;
                let look = |id: &MessageId| match self.flights.get(id.partition as usize) {
                    Some(flight) if id.epoch == epoch => flight.look(id.offset, now),
                    _ => Look::Foreign,
                };
                let _gone = reply.send(ids.iter().map(look).collect());
            }
            Command::Changed { changes } => {
                let remembered = self.core.config.max_in_flight.saturating_mul(10);
                for (id, change) in changes {
                    if let Some(flight) = self.flight(id.partition) {
                        flight.change(id.offset, change, remembered);
                    }
                }
            }
            Command::Floor { partition, floor } => {
                if let Some(flight) = self.flight(partition) {
                    flight.settle_up_to(floor);
                }
            }
            Command::Late { message } => self.record(*message),
            Command::Forgotten => {}
        }
    }

    /// Something came in.
    async fn hear(&mut self, message: async_nats::Message) {
        let Some(inbox) = &mut self.inbox else { return };
        match inbox.read(message) {
            Word::Alive => {}
            Word::Over(number) => self.over(number),
            Word::Lost(number) => {
                self.pause = Some(Instant::now() + PAUSE);
                self.asks.iter_mut().for_each(|ask| ask.lost(number));
                self.check_group().await;
            }
            Word::Record(message) => self.record(*message),
        }
    }

    fn record(&mut self, message: async_nats::Message) {
        let ack = message.reply.as_ref().map(|reply| reply.as_str().to_owned());
        let read = ack.and_then(|ack| names::delivery(&ack).map(|delivery| (ack, delivery)));
        let Some((ack, delivery)) = read else { return };
        if let Some(number) = self.inbox.as_mut().and_then(|inbox| inbox.arrived(delivery.partition)) {
            self.over(number);
        }
        self.arrive(ack, delivery, message);
    }

    fn over(&mut self, number: u64) {
        for ask in &mut self.asks {
            ask.over(number);
        }
    }

    fn arrive(&mut self, ack: String, delivery: Delivery, message: async_nats::Message) {
        let Delivery { partition, sequence, at_ns, .. } = delivery;
        let now = Instant::now();
        let id = self.topic.id(partition, sequence);
        let Some(flight) = self.flights.get_mut(partition as usize) else { return };
        let deliveries = flight.seen(sequence, delivery.deliveries);
        let letter = Letter { id, at_ns, payload: message.payload.into(), deliveries };
        let headers = message.headers.unwrap_or_default();
        if deliveries > self.core.config.max_deliveries && !name::is_dead(&self.topic.name) {
            let due = now + self.core.config.visibility_timeout();
            // It was delivered so often that this one is not given to anybody.
            let deliveries = deliveries - 1;
            let entry = Entry { ack: ack.clone(), deliveries, due, since: now, consumer: 0, expired: true };
            flight.set_aside(sequence, entry);
            self.bury(ack, Letter { deliveries, ..letter });
            return;
        }
        let message = letter.into_message(&headers);
        flight.arrive(Held { ack, message, arrived: now, idle: now });
    }

    /// Gives records to those who ask, and asks the servers for more.
    async fn serve(&mut self) {
        let now = Instant::now();
        let due = now + self.core.config.visibility_timeout();
        let mut late = Vec::new();
        for ask in &mut self.asks {
            for held in ask.take(&mut self.flights, (now, due)) {
                if now.saturating_duration_since(held.arrived) > FRESH {
                    late.push(held.ack);
                }
            }
        }
        for ack in late {
            let _sent = self.core.api.client.publish(ack, "+WPI".into()).await;
        }
        self.answer();
        if self.pause.is_some_and(|until| until > Instant::now()) {
            return;
        }
        self.pause = None;
        if let Err(words) = self.ask().await {
            tracing::warn!(topic = self.topic.name, group = self.group, "cannot ask for records: {words}");
            self.pause = Some(Instant::now() + PAUSE);
            self.restart();
        }
    }

    /// Answers whom there is an answer for.
    fn answer(&mut self) {
        let mut at = 0;
        while let Some(ask) = self.asks.get(at) {
            if !ask.is_done(&self.flights) {
                at += 1;
                continue;
            }
            let Some(ask) = self.asks.remove(at) else { return };
            self.core.metrics.delivered.inc_by(ask.messages.len() as u64);
            let (back, consumer) = (self.back.clone(), ask.pull.consumer);
            let parcel = Parcel::new(ask.messages, move |messages| {
                if let Some(back) = back.upgrade() {
                    // Where there is no room for this they come again when their time is out.
                    let _late = back.try_send(Command::GiveBack { consumer, messages });
                }
            });
            // What nobody takes comes back by itself.
            let _gone = ask.reply.send(Ok(parcel));
        }
    }

    /// Asks the servers for what is wanted and was not asked for yet.
    async fn ask(&mut self) -> Result<(), String> {
        let mut wanted = vec![0_usize; self.flights.len()];
        let mut probes = Vec::new();
        for (at, ask) in self.asks.iter().enumerate() {
            match ask.next(&self.flights) {
                waiting::Next::Probe(partition, room) => probes.push((at, partition, room)),
                waiting::Next::Wait => {
                    ask.partitions.iter().for_each(|partition| wanted[*partition as usize] += 1);
                }
                waiting::Next::Nothing => {}
            }
        }
        if probes.is_empty() && wanted.iter().all(|wanted| *wanted == 0) {
            return Ok(());
        }
        let client = &self.core.api.client;
        if self.inbox.is_none() {
            let heartbeat = Duration::from_millis(self.core.config.jetstream.heartbeat_ms);
            self.inbox = Some(Inbox::open(client, heartbeat).await?);
        }
        let Some(inbox) = &mut self.inbox else { return Ok(()) };
        let subject = |partition: u32| {
            let consumer = names::consumer(&self.group, partition);
            (partition, self.core.api.subject(&format!("CONSUMER.MSG.NEXT.{}.{consumer}", self.topic.stream)))
        };
        for (at, partition, room) in probes {
            let number = inbox.ask(client, subject(partition), room, true).await?;
            if let Some(ask) = self.asks.get_mut(at) {
                ask.probing(number);
            }
        }
        for (partition, wanted) in (0..).zip(wanted) {
            let missing = wanted.saturating_sub(inbox.waited_for(partition));
            if missing > 0 {
                inbox.ask(client, subject(partition), missing, false).await?;
            }
        }
        Ok(())
    }

    fn end(&mut self, error: &Error) {
        for ask in self.asks.drain(..) {
            let error = match error {
                Error::Unknown(words) => Error::Unknown(words.clone()),
                _ => Error::Closed,
            };
            let _gone = ask.reply.send(Err(error));
        }
    }

    fn flight(&mut self, partition: u32) -> Option<&mut Flight> {
        self.flights.get_mut(partition as usize)
    }

    /// All partitions, each ask beginning at another one.
    fn in_turn(&mut self) -> Vec<u32> {
        self.turn = self.turn.wrapping_add(1);
        let mut partitions: Vec<u32> = (0..self.topic.width).collect();
        partitions.rotate_left((self.turn % self.topic.width.max(1)) as usize);
        partitions
    }

    fn is_busy(&self) -> bool {
        let probing = self.inbox.as_ref().is_some_and(Inbox::is_probing);
        probing || self.pause.is_some() || self.flights.iter().any(|flight| !flight.ready.is_empty())
    }

    fn is_done(&self) -> bool {
        let unused = self.used.elapsed() > CLEAR_AFTER && self.asks.is_empty();
        // Without records in hand nothing is lost with it.
        unused && self.flights.iter().all(|flight| flight.ready.is_empty())
    }
}
