//! The queue in one file: redb, one thread that owns it, commands to it.
//!
//! - What has to be synced is synced once for all who wait ([`worker`]); records lie in chunks ([`chunk`]).
//! - A delivery is worth no sync: after a crash what was delivered within the last second is delivered again, at once.
//! - Records stay on disk: memory holds heads, cursors and what is in flight, each within a limit ([`ledger`]).
//! - No read transaction outlives a read.
//!
//! Time is the caller's: every command carries it, and [`Embedded::keep_time`] sends one when a deadline has come.

mod chunk;
mod flight;
mod ledger;
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

use self::worker::{Command, Worker};
use super::message::{self, MessageId, Produce, Produced, Pull, Settle};
use super::metrics::{self, Metrics};
use super::parcel::{self, Consumer, Parcel, Taker};
use super::state::{GroupState, PartitionState, Status, TopicState};
use super::{
    Config, Error, MAX_BATCH, MAX_BATCH_BYTES, MAX_FLIGHTS, MAX_GROUPS, MAX_TOPICS, WallClock, name,
};
use crate::disk::keeper::Keeper;
use crate::disk::medium::{File, Medium};

/// File of the queue inside the data directory.
pub const FILE_NAME: &str = "queue.redb";

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

/// Handle of the engine; clones share it.
#[derive(Clone, Debug)]
pub struct Embedded {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    status: Arc<watch::Sender<Status>>,
    clock: WallClock,
    consumers: Arc<AtomicU64>,
    metrics: Metrics,
}

impl Embedded {
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

    /// As [`Embedded::open`], on any medium.
    ///
    /// # Errors
    /// As [`Embedded::open`].
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
        let consumer = self.consumers.fetch_add(1, Ordering::Relaxed) + 1;
        let taker = Taker { topic: topic.to_owned(), group: group.to_owned(), consumer };
        let commands = self.commands.downgrade();
        Consumer::new(taker, move |taker| {
            if let Some(commands) = commands.upgrade() {
                // Where there is no room for this its records come again when their time is out.
                let _late = commands.try_send(Command::Left { taker });
            }
        })
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
