//! The receiver's durable queue: topics of partitions, each read by every group on its own.
//!
//! Invariants:
//! - a record is accepted when the transaction that holds it is synced, and acknowledged when the one that says so
//!   is; nothing is lost by `kill -9` or power loss, and a refused batch leaves nothing behind;
//! - every group sees every record that is kept, in the order of its partition; a record comes again when it is not
//!   acknowledged within the visibility timeout, and never goes to two consumers of a group within it;
//! - a record that was delivered [`Config::max_deliveries`] times for nothing goes to the topic `NAME.dead`, in the
//!   same transaction that takes it from its group;
//! - a record that some group has still to acknowledge is dropped for its age alone, and counted;
//! - a delivery is worth no sync: after a crash what was delivered within the last second is delivered again, at once;
//! - records stay on disk: memory holds heads, cursors and what is in flight, each within a limit;
//! - no read transaction outlives a read.
//!
//! One thread owns the file ([`worker`]); callers wait in a bounded queue or are refused. Time is the caller's: every
//! command carries it, and [`Queue::keep_time`] sends one when a deadline has come.

mod chunk;
mod config;
mod error;
mod flight;
mod ledger;
mod message;
mod metrics;
mod name;
mod parcel;
mod reader;
mod table;
mod transaction;
mod worker;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::config::Config;
pub use self::error::Error;
pub use self::ledger::{GroupState, PartitionState, TopicState};
pub use self::message::{Message, MessageId, NewMessage, Origin, Produce, Produced, Pull, Settle, Verdict};
pub use self::metrics::Metrics;
pub use self::name::{DEAD, MAX_NAME_BYTES};
pub use self::parcel::{Consumer, Parcel};
pub use self::worker::Status;
use self::worker::{Command, Worker};
use crate::disk::keeper::Keeper;
use crate::disk::medium::{File, Medium};

/// File of the queue inside the data directory.
pub const FILE_NAME: &str = "queue.redb";

/// Largest payload, bytes: what other brokers take by default, and far more than a sample needs.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Records of one batch: they are synced together, and one transaction should not keep others waiting for long.
pub const MAX_BATCH: usize = 10_000;

/// Payload bytes of one batch, for the same reason.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Records that one pull gets at most.
pub const MAX_PULL: usize = 1_000;

/// Topics, dead-letter topics included: they are labels of metrics and rows of one table.
pub const MAX_TOPICS: usize = 256;

/// Partitions of one topic.
pub const MAX_PARTITIONS: u32 = 256;

/// Groups of one topic: each costs a row per partition, and holds records back.
pub const MAX_GROUPS: usize = 64;

/// Rows of group and partition together; each is some 200 bytes of memory.
pub const MAX_FLIGHTS: usize = 65_536;

/// Requests that may wait for the disk: at 4 ms a sync under load and 512 of them a commit, 32 ms.
const QUEUE_REQUESTS: usize = 4_096;

/// Bytes that may wait for the disk; four of the largest batches.
const QUEUE_BYTES: usize = 4 * MAX_BATCH_BYTES;

/// A deadline is served at most so late, so that many near ones share one look.
const TICK_MIN: Duration = Duration::from_millis(50);

/// Deliveries are written, and old records dropped, this often.
const TICK_MAX: Duration = Duration::from_secs(1);

/// Files up to this size are verified page by page at the start (half a second); a larger one opens at once.
const VERIFY_UP_TO_BYTES: u64 = 128 << 20;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;

/// When a command was given.
#[derive(Clone, Copy, Debug)]
struct Now {
    mono: Instant,
    wall_ns: i64,
}

impl Now {
    /// Commands of several threads may come a little out of order.
    fn latest(self, other: Option<Self>) -> Self {
        other.filter(|other| other.mono >= self.mono).unwrap_or(self)
    }
}

/// Handle of the queue; clones share it.
#[derive(Clone, Debug)]
pub struct Queue {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    status: Arc<watch::Sender<Status>>,
    clock: WallClock,
    consumers: Arc<AtomicU64>,
    metrics: Metrics,
}

impl Queue {
    /// Opens `queue.redb` in `directory`, made if missing. A damaged file is set aside and said so in the status; a
    /// full disk leaves the queue degraded until space returns.
    ///
    /// Blocks for up to a second, however large the file is.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Open`] (another process has it, rights are missing), [`Error::Thread`].
    pub fn open(
        directory: &Path,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        Self::open_on(File::new(directory, FILE_NAME), config, metrics, clock)
    }

    /// As [`Queue::open`], on any medium.
    ///
    /// # Errors
    /// As [`Queue::open`].
    pub fn open_on(
        medium: impl Medium,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        config.check().map_err(Error::Config)?;
        let keeper = Keeper::open_large(medium, config.cache_bytes, VERIFY_UP_TO_BYTES, table::prepare)?;
        let (commands, queue) = mpsc::channel(QUEUE_REQUESTS);
        let status = Arc::new(watch::Sender::new(Status::default()));
        let worker = Worker::new(
            keeper,
            (queue, commands.downgrade()),
            status.clone(),
            metrics.clone(),
            config.clone(),
            Now { mono: Instant::now(), wall_ns: clock() },
        );
        std::thread::Builder::new()
            .name("queue".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        let (room, consumers) = (Arc::new(Semaphore::new(QUEUE_BYTES)), Arc::default());
        Ok(Self { commands, room, status, clock, consumers, metrics })
    }

    /// Keeps all records of the batch, in its order, or none; answers when they are synced. A batch whose id was
    /// produced to this topic within the deduplication window is not kept again: the answer is the first one's.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooLarge`], [`Error::TooMany`], [`Error::Full`], [`Error::Busy`],
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn produce(&self, batch: Produce) -> Result<Produced, Error> {
        batch.check()?;
        let size = batch.size_bytes();
        let (reply, answer) = oneshot::channel();
        let busy = || {
            self.metrics.busy.inc();
            Error::Busy
        };
        let permit = u32::try_from(size).ok();
        let permit = permit.and_then(|size| self.room.clone().try_acquire_many_owned(size).ok());
        let permit = permit.ok_or_else(busy)?;
        let command = Command::Produce(Box::new(worker::Append { batch, reply, permit, now: self.now() }));
        match self.commands.try_send(command) {
            Ok(()) => answer.await.map_err(|_| Error::Closed)?,
            Err(mpsc::error::TrySendError::Full(_)) => Err(busy()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::Closed),
        }
    }

    /// Records that the group has not seen, the oldest first, and those that it gets again before them. The topic,
    /// its partition and the group come into being if they are not there. Waits for the first record as long as the
    /// caller does; what the caller does not take out of the parcel goes back.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooMany`], [`Error::Disk`], [`Error::Closed`].
    pub async fn pull(&self, pull: Pull) -> Result<Parcel, Error> {
        pull.check()?;
        self.ask(|reply, now| Command::Pull(worker::Ask { pull, reply, now })).await
    }

    /// Acknowledges, gives back or keeps longer what was delivered to a group; answers when it is synced, with one
    /// word for each id: whether it was the group's to settle.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Disk`], [`Error::Closed`].
    pub async fn settle(&self, settle: Settle) -> Result<Vec<bool>, Error> {
        settle.check()?;
        self.ask(|reply, now| Command::Settle { settle, reply, now }).await
    }

    /// A consumer that stays: what it holds is known by its name until it is dropped.
    #[must_use]
    pub fn consumer(&self, topic: &str, group: &str) -> Consumer {
        let number = self.consumers.fetch_add(1, Ordering::Relaxed) + 1;
        Consumer::new(number, topic, group, self.commands.downgrade())
    }

    /// Forgets a group: it holds nothing back any more, and would begin anew.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Disk`], [`Error::Closed`].
    pub async fn forget_group(&self, topic: &str, group: &str) -> Result<(), Error> {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.ask(|reply, now| Command::Forget { topic, group, reply, now }).await
    }

    /// Every topic, by name; with `ages`, its groups and how old what each owes is.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn topics(&self, ages: bool) -> Result<Vec<TopicState>, Error> {
        self.ask(|reply, now| Command::Topics { ages, reply, now }).await
    }

    /// Serves deadlines until the token is cancelled; without it nothing comes again by itself.
    pub async fn keep_time(&self, stop: CancellationToken) {
        let keeping = async {
            let mut next = Some(Instant::now());
            loop {
                let earliest = Instant::now() + TICK_MIN;
                let latest = Instant::now() + TICK_MAX;
                tokio::time::sleep_until(next.unwrap_or(latest).clamp(earliest, latest)).await;
                match self.tick().await {
                    Ok(due) => next = due,
                    Err(Error::Closed) => return,
                    Err(_) => next = None,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeping => stop.cancelled().await,
        }
    }

    /// Serves what is due now, and says when something will be.
    async fn tick(&self) -> Result<Option<Instant>, Error> {
        self.ask(|reply, now| Command::Tick { reply, now }).await
    }

    /// Writes what is queued, closes the file and ends the thread. Later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _closed = self.ask(|reply, now| Command::Close { reply, now }).await;
    }

    /// The present state, and every later one.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    fn now(&self) -> Now {
        Now { mono: Instant::now(), wall_ns: (self.clock)() }
    }

    async fn ask<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<R, Error>>, Now) -> Command,
    ) -> Result<R, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply, self.now())).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
