//! The receiver's durable queue: topics of partitions, each read by every group on its own.
//!
//! Invariants:
//! - a record is accepted when it is synced (or held by a majority of servers, where that was asked for), and
//!   acknowledged when that is; nothing is lost by `kill -9` or power loss, and a refused batch leaves nothing behind;
//! - every group sees every record that is kept, in the order of its partition; a record comes again when it is not
//!   acknowledged within the visibility timeout, and never goes to two consumers of a group within it;
//! - a record that was delivered [`Config::max_deliveries`] times for nothing goes to the topic `NAME.dead`, and is kept
//!   there before it is taken from its group;
//! - a record that some group has still to acknowledge is dropped for its age alone.
//!
//! There are two engines: [`embedded`], one file, and [`jetstream`], servers that several receivers share; its module
//! says in what it differs. [`Queue`] is one or the other, and whoever has one cannot tell which. It is an enum and no
//! trait: there are these two and both are always built, every call is a future, and what a consumer was given has to
//! find its way back when it is dropped; behind a trait each of these is a box and nothing is gained.

mod config;
mod drain;
pub mod embedded;
mod error;
pub mod jetstream;
mod message;
mod metrics;
mod name;
mod parcel;
mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::config::{Config, EngineKind};
use self::drain::Drain;
use self::embedded::Embedded;
pub use self::error::Error;
use self::jetstream::JetStream;
pub use self::message::{Message, MessageId, NewMessage, Origin, Produce, Produced, Pull, Settle, Verdict};
pub use self::metrics::Metrics;
pub use self::name::{DEAD, MAX_NAME_BYTES};
pub use self::parcel::{Consumer, Parcel};
pub use self::state::{GroupState, PartitionState, Status, TopicState};

/// A topic of this name can be produced to.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_topic(topic: &str) -> Result<(), Error> {
    name::check_new(topic)
}

/// Largest payload, bytes: what other brokers take by default, and far more than a sample needs.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Records of one batch: they are synced together, and one transaction should not keep others waiting for long.
pub const MAX_BATCH: usize = 10_000;

/// Payload bytes of one batch, for the same reason.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Records that one pull gets at most.
pub const MAX_PULL: usize = 1_000;

/// The topic of nodes' own batches. Nobody names it over HTTP: what is in it came with the servers' credentials, and is
/// stored as what a node sent.
pub const NODES: &str = "sextant.nodes";

/// Topics, dead-letter topics included: they are labels of metrics and rows of one table.
pub const MAX_TOPICS: usize = 256;

/// Partitions of one topic.
pub const MAX_PARTITIONS: u32 = 256;

/// Groups of one topic: each costs a row per partition, and holds records back.
pub const MAX_GROUPS: usize = 64;

/// Rows of group and partition together; each is some 200 bytes of memory.
pub const MAX_FLIGHTS: usize = 65_536;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;

/// Handle of the queue; clones share it.
#[derive(Clone, Debug)]
pub struct Queue {
    engine: Engine,
    drain: Arc<Drain>,
}

#[derive(Clone, Debug)]
enum Engine {
    Embedded(Embedded),
    JetStream(JetStream),
}

/// Does the same with either engine.
macro_rules! with {
    ($queue:expr, $engine:ident => $does:expr) => {
        match &$queue.engine {
            Engine::Embedded($engine) => $does,
            Engine::JetStream($engine) => $does,
        }
    };
}

impl Queue {
    /// Opens the queue that the configuration names: the file in `directory`, or a way to the servers.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Open`] (another process has it, rights are missing), [`Error::Thread`];
    /// [`Error::Servers`].
    pub async fn open(
        directory: &Path,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        let engine = match config.engine {
            EngineKind::Embedded => Engine::Embedded(Embedded::open(directory, config, metrics, clock)?),
            EngineKind::JetStream => Engine::JetStream(JetStream::open(config, metrics).await?),
        };
        Ok(Self { engine, drain: Arc::default() })
    }

    /// Keeps all records of the batch, in its order, or none; answers when they are synced. A batch whose id was
    /// produced to this topic within the deduplication window is not kept again: the answer is the first one's.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`], [`Error::TooMany`], [`Error::Full`], [`Error::Busy`],
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn produce(&self, batch: Produce) -> Result<Produced, Error> {
        with!(self, engine => engine.produce(batch).await)
    }

    /// Records that the group has not seen, the oldest first, and those that it gets again before them. The topic,
    /// its partition and the group come into being if they are not there. Waits for the first record as long as the
    /// caller does; what the caller does not take out of the parcel goes back.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooMany`], [`Error::Unknown`], [`Error::Disk`], [`Error::Closed`].
    pub async fn pull(&self, pull: Pull) -> Result<Parcel, Error> {
        with!(self, engine => engine.pull(pull).await)
    }

    /// Acknowledges, gives back or keeps longer what was delivered to a group; answers when it is synced, with one
    /// word for each id: whether it was the group's to settle.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Disk`], [`Error::Closed`].
    pub async fn settle(&self, settle: Settle) -> Result<Vec<bool>, Error> {
        let asked = settle.clone();
        let done = with!(self, engine => engine.settle(settle).await)?;
        self.drain.settled(&asked, &done, Instant::now());
        Ok(done)
    }

    /// When so many records of a topic, or of one of its partitions, that was full will have room: as soon as its slowest
    /// group has acknowledged as many, at the rate of the last seconds. At most 10 s.
    #[must_use]
    pub fn room_within(&self, topic: &str, partition: Option<u32>, records: usize) -> Duration {
        self.drain.room_within(topic, partition, records, Instant::now())
    }

    /// A consumer that stays: what it holds is known by its name until it is dropped.
    #[must_use]
    pub fn consumer(&self, topic: &str, group: &str) -> Consumer {
        with!(self, engine => engine.consumer(topic, group))
    }

    /// Forgets a group: it holds nothing back any more, and would begin anew.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Disk`], [`Error::Closed`].
    pub async fn forget_group(&self, topic: &str, group: &str) -> Result<(), Error> {
        with!(self, engine => engine.forget_group(topic, group).await)?;
        self.drain.forgot(topic, group);
        Ok(())
    }

    /// Every topic, by name; with `ages`, its groups and how old what each owes is.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn topics(&self, ages: bool) -> Result<Vec<TopicState>, Error> {
        with!(self, engine => engine.topics(ages).await)
    }

    /// Does what has its time until the token is cancelled; without it nothing comes again by itself.
    pub async fn keep_time(&self, stop: CancellationToken) {
        with!(self, engine => engine.keep_time(stop).await);
    }

    /// Ends in order. Later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        with!(self, engine => engine.close().await);
    }

    /// The present state, and every later one.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        with!(self, engine => engine.status())
    }
}
