//! The queue on NATS JetStream, for more than one machine: several receivers share it, and any of them may go.
//!
//! A topic is a stream, a partition one of its subjects, a group one durable pull consumer for each partition
//! ([`names`]). Produce, deadlines, deliveries and acknowledgements are the servers'; this room speaks with them
//! ([`api`]), knows what is in its consumers' hands ([`desk`]) and buries what nobody can take ([`dead`]).
//!
//! What holds as in one file: every group sees every record; order within a partition; a batch is kept whole or not at
//! all; an id is kept once; full refuses and keeps nothing; the visibility timeout, its extension and giving back, to
//! within a second; dead letters; credit; going on after a broken stream.
//!
//! What differs, because the servers differ:
//! - a batch has at most 1000 records, and a payload the room that the servers' `max_payload` leaves; more is refused;
//! - all partitions of a topic are there from its making on, and are the group's from its first pull on;
//! - offsets are the topic's: they grow within a partition, not by one;
//! - records that every group has acknowledged share the `queue_size` of a partition with those that wait, and give
//!   way to them; one that was acknowledged out of order gives way when those before it are;
//! - `max_size_bytes` is each topic's, and reserved; a record that is dropped for its age is not counted;
//! - an acknowledgement is the servers' to sync: after a loss of power one may have to be given again;
//! - a receiver that was restarted believes an acknowledgement of a record that was delivered and may have been
//!   acknowledged already, and counts deliveries as the servers do, those that nobody took among them;
//! - a record that was delivered too often goes to the dead letters when its last time is out, or, if the receiver that
//!   delivered it is gone, when the group is next asked for;
//! - without an id, a batch whose answer got lost may be there: the error says so.

mod api;
mod config;
mod connect;
mod core;
mod dead;
mod desk;
mod durability;
mod flight;
mod keeper;
mod names;
mod produce;
mod settle;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::api::Api;
pub use self::config::{Config as Settings, Durability};
use self::core::{Core, Topic, lock};
use self::dead::Letter;
use self::desk::{Command, Desk};
use self::durability::Verdict;
use self::flight::{Entry, Held};
use super::message::{MessageId, Produce, Produced, Pull, Settle};
use super::parcel::{Consumer, Parcel, Taker};
use super::state::{Status, TopicState};
use super::{Config, Error, MAX_BATCH_BYTES, Metrics, name};

/// Bytes that may wait for the servers; eight of the largest batches.
const ROOM_BYTES: usize = 8 * MAX_BATCH_BYTES;

/// Batches that may wait for the servers: at 4 ms a sync a second's worth of them.
const ROOM_REQUESTS: usize = 4_096;

/// Records of a lost stream that are fetched at once.
const FETCHES: usize = 16;

/// How long closing waits for what is under way.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Handle of the engine; clones share it.
#[derive(Clone, Debug)]
pub struct JetStream {
    core: Arc<Core>,
    desks: Arc<Desks>,
    room: Arc<Semaphore>,
    requests: Arc<Semaphore>,
    consumers: Arc<AtomicU64>,
}

/// The desks that are open, by topic and group.
#[derive(Debug)]
struct Desks {
    open: Mutex<HashMap<(String, String), mpsc::Sender<Command>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Desks {
    /// The desk of a group, if it is open.
    fn find(&self, topic: &str, group: &str) -> Option<mpsc::Sender<Command>> {
        lock(&self.open).get(&(topic.to_owned(), group.to_owned())).filter(|desk| !desk.is_closed()).cloned()
    }

    fn find_or_open(&self, core: &Arc<Core>, topic: &Arc<Topic>, group: &str) -> mpsc::Sender<Command> {
        let mut open = lock(&self.open);
        open.retain(|_, desk| !desk.is_closed());
        let place = open.entry((topic.name.clone(), group.to_owned()));
        place.or_insert_with(|| Desk::open(core, topic, group, &self.tasks, self.stop.clone())).clone()
    }

    fn close(&self, topic: &str, group: &str) -> Option<mpsc::Sender<Command>> {
        lock(&self.open).remove(&(topic.to_owned(), group.to_owned()))
    }
}

impl JetStream {
    /// Connects, and asks the servers whether they are what the configuration says.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Servers`]: they are not there, too old, or acknowledge what they do not sync.
    pub async fn open(config: &Config, metrics: Metrics) -> Result<Self, Error> {
        Self::open_with(config, metrics, false).await
    }

    /// As [`JetStream::open`], for one who only produces: it makes and changes no topic, and the server that it is
    /// connected to may have no JetStream of its own, as a leaf.
    ///
    /// # Errors
    /// As [`JetStream::open`].
    pub async fn open_as_guest(config: &Config, metrics: Metrics) -> Result<Self, Error> {
        Self::open_with(config, metrics, true).await
    }

    async fn open_with(config: &Config, metrics: Metrics, guest: bool) -> Result<Self, Error> {
        config.check().map_err(Error::Config)?;
        let settings = &config.jetstream;
        let (client, connections) = connect::connect(settings).await.map_err(Error::Servers)?;
        let server = client.server_info();
        durability::check_version(&server.version).map_err(Error::Servers)?;
        if !guest && !server.jetstream {
            let name = server.server_name;
            return Err(Error::Servers(format!(
                "{name} has no JetStream: set `jetstream {{ ... }}` in its configuration"
            )));
        }
        match durability::ask(settings).await {
            Verdict::Safe => {}
            Verdict::Unsafe(words) | Verdict::Unknown(words) => return Err(Error::Servers(words)),
        }
        let core = Core::new(Api::new(client, &settings.domain), connections, config.clone(), metrics, guest);
        let desks =
            Desks { open: Mutex::default(), tasks: TaskTracker::new(), stop: CancellationToken::new() };
        Ok(Self {
            core: Arc::new(core),
            desks: Arc::new(desks),
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            requests: Arc::new(Semaphore::new(ROOM_REQUESTS)),
            consumers: Arc::default(),
        })
    }

    /// See [`super::Queue::produce`].
    ///
    /// # Errors
    /// As there.
    pub async fn produce(&self, batch: Produce) -> Result<Produced, Error> {
        self.check_open()?;
        batch.check()?;
        let busy = || {
            self.core.metrics.busy.inc();
            Error::Busy
        };
        let size = u32::try_from(batch.size_bytes()).map_err(|_| busy())?;
        let _room = self.room.try_acquire_many(size).map_err(|_| busy())?;
        let _turn = self.requests.try_acquire().map_err(|_| busy())?;
        self.core.produce(batch).await
    }

    /// See [`super::Queue::pull`].
    ///
    /// # Errors
    /// As there.
    pub async fn pull(&self, mut pull: Pull) -> Result<Parcel, Error> {
        self.check_open()?;
        pull.check()?;
        let topic = self.topic_of(&pull).await?;
        if let Some(index) = pull.partition.filter(|index| *index >= topic.width) {
            let words =
                format!("partition {index}: {} has {}, 0 to {}", topic.name, topic.width, topic.width - 1);
            return Err(Error::Invalid(words));
        }
        if pull.make {
            self.core.join(&topic, &pull.group).await?;
        } else if !self.core.has_group(&topic, &pull.group).await? {
            return Err(Error::Unknown(format!("{} has no group {} any more", topic.name, pull.group)));
        }
        let desk = self.desks.find_or_open(&self.core, &topic, &pull.group);
        if let Some(after) = pull.after.take() {
            self.resume(&topic, &desk, after).await?;
        }
        desk::ask(&desk, |reply| Command::Ask { pull: Box::new(pull), reply }).await?
    }

    async fn topic_of(&self, pull: &Pull) -> Result<Arc<Topic>, Error> {
        if let Some(known) = self.core.known(&pull.topic).await? {
            return Ok(known);
        }
        if !pull.make {
            return Err(Error::Unknown(format!("there is no topic {} any more", pull.topic)));
        }
        // Dead letters can be waited for before there are any.
        let living = match name::living(&pull.topic) {
            Some(living) => self.core.known(living).await?,
            None => None,
        };
        let width = if let Some(living) = living {
            living.width
        } else {
            name::check_new(&pull.topic)?;
            self.core.config.partitions_per_topic
        };
        if let Some(index) = pull.partition.filter(|index| *index >= width) {
            let words =
                format!("partition {index}: {} has {width}, 0 to {}", pull.topic, width.saturating_sub(1));
            return Err(Error::Invalid(words));
        }
        self.core.made(&pull.topic, width).await
    }

    /// What was sent to a lost stream and never arrived is there again for the next one that asks.
    async fn resume(
        &self,
        topic: &Topic,
        desk: &mpsc::Sender<Command>,
        after: MessageId,
    ) -> Result<(), Error> {
        let lost = desk::ask(desk, |reply| Command::Lost { after, reply }).await?;
        let fetching = lost.into_iter().map(|(sequence, Entry { ack, deliveries, since, .. })| async move {
            // One that is gone comes no more, and one that cannot be had now comes when its time is out.
            let stored = self.core.api.get(&topic.stream, sequence).await.ok()?;
            let id = topic.id(after.partition, sequence);
            let letter = Letter { id, at_ns: stored.at_ns, payload: stored.payload, deliveries };
            let message = letter.into_message(&stored.headers);
            Some(Held { ack, message, arrived: since, idle: Instant::now() })
        });
        let held: Vec<Option<Held>> = stream::iter(fetching).buffered(FETCHES).collect().await;
        let restore = Command::Restore { held: held.into_iter().flatten().collect() };
        desk.send(restore).await.map_err(|_| Error::Closed)
    }

    /// See [`super::Queue::settle`].
    ///
    /// # Errors
    /// As there.
    pub async fn settle(&self, settle: Settle) -> Result<Vec<bool>, Error> {
        self.check_open()?;
        settle.check()?;
        let none = vec![false; settle.ids.len()];
        let Some(topic) = self.core.known(&settle.topic).await? else { return Ok(none) };
        if !self.core.has_group(&topic, &settle.group).await? {
            return Ok(none);
        }
        let desk = self.desks.find_or_open(&self.core, &topic, &settle.group);
        self.core.settle(&topic, &desk, &settle).await
    }

    /// See [`super::Queue::consumer`].
    #[must_use]
    pub fn consumer(&self, topic: &str, group: &str) -> Consumer {
        let consumer = self.consumers.fetch_add(1, Ordering::Relaxed) + 1;
        let taker = Taker { topic: topic.to_owned(), group: group.to_owned(), consumer };
        let desks = Arc::clone(&self.desks);
        Consumer::new(taker, move |Taker { topic, group, consumer }| {
            if let Some(desk) = desks.find(&topic, &group) {
                // Where there is no room for this its records come again when their time is out.
                let _late = desk.try_send(Command::Left { consumer });
            }
        })
    }

    /// See [`super::Queue::forget_group`].
    ///
    /// # Errors
    /// As there.
    pub async fn forget_group(&self, topic: &str, group: &str) -> Result<(), Error> {
        self.check_open()?;
        name::check("topic", topic)?;
        name::check("group", group)?;
        let unknown = || Error::Unknown(format!("there is no group {group} of {topic}"));
        let known = self.core.known(topic).await?.ok_or_else(unknown)?;
        let there = self.core.delete_group(&known, group).await?;
        if let Some(desk) = self.desks.close(topic, group) {
            let _ended = desk.send(Command::Forgotten).await;
        }
        if there { Ok(()) } else { Err(unknown()) }
    }

    /// See [`super::Queue::topics`].
    ///
    /// # Errors
    /// As there.
    pub async fn topics(&self, ages: bool) -> Result<Vec<TopicState>, Error> {
        self.check_open()?;
        self.core.states(ages).await
    }

    /// The present state, and every later one.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.core.status.subscribe()
    }

    /// Gives back what nobody took, and ends. Later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        self.desks.stop.cancel();
        self.desks.tasks.close();
        let last = async {
            self.desks.tasks.wait().await;
            self.core.api.client.flush().await
        };
        if tokio::time::timeout(LAST_WORDS, last).await.is_err() {
            tracing::warn!(
                "the servers did not hear all last words: some records come again when their time is out"
            );
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.desks.stop.is_cancelled() { Err(Error::Closed) } else { Ok(()) }
    }
}
