//! Records of one node on disk, in order, until a receiver has them.
//!
//! Invariants:
//! - a record counts as accepted when the transaction that holds it is synced, never before;
//! - every record produced takes a sequence number, kept or not, so `produced` is the last number given and a
//!   receiver sees what was dropped as a gap;
//! - numbers never repeat within a spool id; a fresh file has a fresh id;
//! - at the limit the oldest records are dropped *and counted*, except those in flight: a receiver may have
//!   them already;
//! - one thread owns the file; callers wait in a bounded queue or are refused and counted.

mod inspect;
mod ledger;
mod metrics;
mod table;
mod worker;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use self::inspect::{InspectError, inspect};
pub use self::ledger::{DropReason, Ledger};
pub use self::metrics::SpoolMetrics;
use self::table::Confirmed;
pub use self::worker::Status;
use self::worker::{Append, Command, Worker};
use super::WallClock;
use crate::api::batch::{Accounts, MAX_RECORD_BYTES};
use crate::disk;
use crate::disk::keeper::Keeper;
use crate::disk::medium::{File, Medium};

/// Position of a record in its spool; the first is 1.
pub type Seq = u64;

/// File of the spool inside the data directory.
pub const FILE_NAME: &str = "spool.redb";

/// Smallest limit that leaves room for a batch in flight beside new records.
const MIN_SIZE_BYTES: u64 = 1 << 20;

/// Requests that may wait for the disk: at 4 ms a sync under load and 512 records a commit, half a second.
const QUEUE_REQUESTS: usize = 4_096;

/// Bytes that may wait for the disk; four of the largest records.
const QUEUE_BYTES: usize = 4 * MAX_RECORD_BYTES;

/// Files up to this size are verified page by page at the start (half a second); a larger one opens at once, and what is
/// damaged in it shows when it is read, by each record's own checksum.
const VERIFY_UP_TO_BYTES: u64 = 128 << 20;

/// Settings of the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of records kept while no receiver takes them; beyond it the oldest are dropped and counted. At
    /// least 1 MiB; the file may be about 15 % larger.
    pub max_size_bytes: u64,
    /// Memory for the file's pages, bytes; at most 16 MiB.
    pub cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        // 512 MiB: a day without a receiver at 5 KiB a second. 4 MiB of cache hold the pages of some commits;
        // the spool is read in order, once.
        Self { max_size_bytes: 512 << 20, cache_bytes: 4 << 20 }
    }
}

impl Config {
    /// Largest record: a quarter of the spool, so that one record never pushes out all others.
    fn max_record_bytes(&self) -> usize {
        let quarter = usize::try_from(self.max_size_bytes / 4).unwrap_or(usize::MAX);
        quarter.min(MAX_RECORD_BYTES)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        if self.max_size_bytes < MIN_SIZE_BYTES {
            return wrong(format!("max_size_bytes is {}, at least {MIN_SIZE_BYTES}", self.max_size_bytes));
        }
        if self.cache_bytes > 16 << 20 {
            return wrong(format!("cache_bytes is {}, at most {}", self.cache_bytes, 16 << 20));
        }
        Ok(())
    }
}

/// Why a record was not accepted, or the spool could not answer. Records not accepted are counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("spool: {0}")]
    Config(String),
    /// The file cannot be opened; see [`disk::Error`].
    #[error("spool: {0}")]
    Open(#[from] disk::Error),
    /// The thread that owns the file could not be started.
    #[error("spool: cannot start its thread")]
    Thread(#[source] std::io::Error),
    /// Larger than any record may be.
    #[error("record of {size_bytes} bytes, at most {limit_bytes} fit")]
    TooLarge {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// Records come faster than the disk takes them.
    #[error("spool queue is full")]
    Backpressure,
    /// The disk does not take it.
    #[error("spool disk: {0}")]
    Disk(String),
    /// The node is stopping.
    #[error("spool is closed")]
    Closed,
}

/// Consecutive records as they are on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Identity of the file.
    pub spool_id: String,
    /// Number of the first record; the others follow without a gap.
    pub first_seq: Seq,
    /// Records, oldest first; empty when nothing waits.
    pub records: Vec<Vec<u8>>,
}

/// What a reader wants.
#[derive(Clone, Copy, Debug)]
pub struct PageLimits {
    /// Last sequence number to include, if the reader sent this batch before.
    pub until: Option<Seq>,
    /// Records.
    pub max_records: usize,
    /// Bytes; a single larger record is given alone.
    pub max_bytes: usize,
}

/// Handle of the spool; clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    status: Arc<watch::Sender<Status>>,
    metrics: SpoolMetrics,
    max_record_bytes: usize,
}

impl Spool {
    /// Opens `spool.redb` in `directory`, made if missing. A damaged file is set aside and said so in the
    /// status; a full disk leaves the spool degraded until space returns.
    ///
    /// Blocks for up to half a second, however large the file is.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Open`] (another process has it, rights are missing), [`Error::Thread`].
    pub fn open(
        directory: &Path,
        config: &Config,
        metrics: SpoolMetrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        Self::open_on(File::new(directory, FILE_NAME), config, metrics, clock)
    }

    /// As [`Spool::open`], on any medium.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_on(
        medium: impl Medium,
        config: &Config,
        metrics: SpoolMetrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        config.check()?;
        let keeper = Keeper::open_large(medium, config.cache_bytes, VERIFY_UP_TO_BYTES, table::prepare)?;
        let (commands, queue) = mpsc::channel(QUEUE_REQUESTS);
        let status = Arc::new(watch::Sender::new(Status::default()));
        let worker =
            Worker::new(keeper, queue, status.clone(), metrics.clone(), clock, config.max_size_bytes);
        std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        Ok(Self {
            commands,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            status,
            metrics,
            max_record_bytes: config.max_record_bytes(),
        })
    }

    /// Accepts one record: returns its number when it is synced.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Backpressure`], [`Error::Disk`], [`Error::Closed`]; the record is counted
    /// as dropped.
    pub async fn append(&self, record: Vec<u8>) -> Result<Seq, Error> {
        self.append_many(vec![record]).await.map(|seqs| seqs.start)
    }

    /// Accepts all records in one transaction, or none.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub async fn append_many(&self, records: Vec<Vec<u8>>) -> Result<Range<Seq>, Error> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(records, Some(reply))?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Hands a record over and does not wait: whatever becomes of it is counted.
    pub fn try_append(&self, record: Vec<u8>) {
        // The error is in the accounts; a source has no use for it.
        let _counted = self.enqueue(vec![record], None);
    }

    /// The oldest records beyond `after`, without a gap between them. They count as in flight until the next
    /// call: the limit drops none of them.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn read_page(&self, after: Seq, limits: PageLimits) -> Result<Page, Error> {
        self.ask(|reply| Command::Read { after, limits, reply }).await
    }

    /// Deletes everything up to and including `up_to` of the file `spool_id`: this receiver has it. If a fresh file has
    /// taken that one's place, nothing is left to delete.
    ///
    /// # Errors
    /// [`Error::Disk`] (nothing is deleted then), [`Error::Closed`].
    pub async fn acknowledge(&self, spool_id: &str, up_to: Seq, receiver: &str) -> Result<(), Error> {
        let confirmed = Confirmed { spool_id: spool_id.to_owned(), up_to, receiver: receiver.to_owned() };
        self.ask(|reply| Command::Acknowledge { confirmed, reply }).await
    }

    /// Deletes one record that no receiver takes; counted as `refused`.
    ///
    /// # Errors
    /// [`Error::Disk`] (nothing is deleted then), [`Error::Closed`].
    pub async fn refuse(&self, spool_id: &str, seq: Seq) -> Result<(), Error> {
        let spool_id = spool_id.to_owned();
        self.ask(|reply| Command::Refuse { spool_id, seq, reply }).await
    }

    /// Writes what is queued, closes the file and ends the thread. Later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _closed = self.ask(|reply| Command::Close { reply }).await;
    }

    /// What became of every record so far.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        self.status.borrow().accounts()
    }

    /// The present state, and every later one.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    fn enqueue(
        &self,
        records: Vec<Vec<u8>>,
        reply: Option<oneshot::Sender<Result<Range<Seq>, Error>>>,
    ) -> Result<(), Error> {
        let count = records.len() as u64;
        let refuse = |reason, error| {
            self.metrics.dropped(reason, count);
            self.status.send_modify(|status| status.drop_unwritten(reason, count));
            Err(error)
        };
        let largest = records.iter().map(Vec::len).max().unwrap_or(0);
        if largest > self.max_record_bytes {
            let error = Error::TooLarge { size_bytes: largest, limit_bytes: self.max_record_bytes };
            return refuse(DropReason::TooLarge, error);
        }
        let size = records.iter().map(Vec::len).sum::<usize>();
        let Some(permit) =
            u32::try_from(size).ok().and_then(|size| self.room.clone().try_acquire_many_owned(size).ok())
        else {
            return refuse(DropReason::Backpressure, Error::Backpressure);
        };
        match self.commands.try_send(Command::Append(Append { records, reply, permit })) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => refuse(DropReason::Backpressure, Error::Backpressure),
            Err(mpsc::error::TrySendError::Closed(_)) => refuse(DropReason::Closed, Error::Closed),
        }
    }

    async fn ask<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<R, Error>>) -> Command,
    ) -> Result<R, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
