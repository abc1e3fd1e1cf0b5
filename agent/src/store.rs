//! The receiver's own disk: records of all nodes, each identity once, the oldest expired by size.
//!
//! Invariants:
//! - a batch is confirmed when the transaction that holds it is synced, never before;
//! - a record's identity (node, spool id, seq) is stored once, however often and in whatever order it comes;
//! - what a stream skipped is known, and counted as missing until it comes;
//! - bytes, nodes, streams and the latest of each kind are bounded; what is expired or left out is counted;
//! - one thread owns the file; batches that come together share a sync.
//!
//! Records are opaque bytes here, with a kind that the caller gives.

mod stream;
mod table;
mod worker;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use self::stream::Stream;
pub use self::table::{Latest, StreamRow, Totals};
pub use self::worker::Status;
use self::worker::{Append, Command, Worker};
use crate::api::batch::{Ack, MAX_BODY_BYTES};
use crate::disk;
use crate::disk::keeper::Keeper;
use crate::disk::medium::{File, Medium};

/// File of the store inside the data directory.
pub const FILE_NAME: &str = "store.redb";

/// Nodes known at once: twice the largest Kubernetes cluster supported upstream.
pub const MAX_NODES: u64 = 10_000;

/// Spool files remembered of one node: more means that its disk is replaced again and again.
pub const MAX_STREAMS_PER_NODE: usize = 16;

/// Batches that may wait for the disk.
const QUEUE_BATCHES: usize = 256;

/// Bytes that may wait for the disk; four of the largest batches.
const QUEUE_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Smallest limit that holds some of the largest batches.
const MIN_SIZE_BYTES: u64 = 4 << 20;

/// Settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes of records kept; beyond it the oldest expire. At least 4 MiB.
    pub max_size_bytes: u64,
    /// Bytes of the latest record of each kind and node, kept beside them for the fleet's view.
    pub max_latest_bytes: u64,
    /// Memory for the file's pages, bytes.
    pub cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        // 1 GiB: an hour of 100 nodes at 3 KiB a second each. 256 MiB: 2,500 nodes with 100 KiB of pods.
        Self { max_size_bytes: 1 << 30, max_latest_bytes: 256 << 20, cache_bytes: 8 << 20 }
    }
}

/// Why a batch was not stored, or the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("store: {0}")]
    Config(String),
    /// The file cannot be opened; see [`disk::Error`].
    #[error("store: {0}")]
    Open(#[from] disk::Error),
    /// The thread that owns the file could not be started.
    #[error("store: cannot start its thread")]
    Thread(#[source] std::io::Error),
    /// Batches come faster than the disk takes them.
    #[error("store queue is full")]
    Busy,
    /// One node more than may be known.
    #[error("{MAX_NODES} nodes are known, and {node} is none of them")]
    TooManyNodes {
        /// The one too many.
        node: String,
    },
    /// The disk does not take it.
    #[error("store disk: {0}")]
    Disk(String),
    /// The receiver is stopping.
    #[error("store is closed")]
    Closed,
}

/// A record to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// What it is, at most 255 bytes.
    pub kind: &'static str,
    /// How many of this kind and node the fleet's view keeps.
    pub keep: usize,
    /// As it came.
    pub bytes: Vec<u8>,
}

/// Consecutive records of one stream.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// The node.
    pub node: String,
    /// Its spool file.
    pub spool_id: String,
    /// Number of the first record; none takes the stream's next, for records that have no spool.
    pub first_seq: Option<u64>,
    /// When it came, ns since the epoch.
    pub at_ns: i64,
    /// What the caller wants to know of this stream after a restart.
    pub note: String,
    /// The records.
    pub records: Vec<Incoming>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The answer to the node.
    pub ack: Ack,
    /// Numbers of the records that were new, ascending.
    pub new: Vec<RangeInclusive<u64>>,
    /// The stream, the batch included.
    pub stream: Stream,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the store; grows by one per record.
    pub id: u64,
    /// Its stream ([`StreamRow::number`]).
    pub stream: u64,
    /// Its number in the stream.
    pub seq: u64,
    /// When it came, ns since the epoch.
    pub at_ns: i64,
    /// What it is.
    pub kind: String,
    /// As it came.
    pub bytes: Vec<u8>,
}

/// Metrics of the store.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    records: Gauge,
    size_bytes: Gauge,
    file_bytes: Gauge,
    stored_records: Counter,
    duplicate_records: Counter,
    expired_records: Counter,
    commits: Counter,
    disk_errors: Counter,
    damaged_files: Counter,
    busy: Counter,
}

impl Metrics {
    /// Registers them as `store_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("store_records", "Records stored", this.records.clone());
        registry.register("store_size_bytes", "Bytes of the records stored", this.size_bytes.clone());
        registry.register("store_file_bytes", "Bytes of the store's file", this.file_bytes.clone());
        registry.register("store_stored_records", "Records that were new", this.stored_records.clone());
        registry.register(
            "store_duplicate_records",
            "Records that were stored before",
            this.duplicate_records.clone(),
        );
        registry.register("store_expired_records", "Records expired by size", this.expired_records.clone());
        registry.register("store_commits", "Synced transactions", this.commits.clone());
        registry.register("store_disk_errors", "Failures of the disk", this.disk_errors.clone());
        registry.register(
            "store_damaged_files",
            "Files found damaged and set aside",
            this.damaged_files.clone(),
        );
        registry.register("store_busy", "Batches refused because the disk is behind", this.busy.clone());
        this
    }
}

/// Handle of the store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    status: Arc<watch::Sender<Status>>,
    metrics: Metrics,
}

impl Store {
    /// Opens `store.redb` in `directory`, made if missing. A damaged file is set aside and said so in the
    /// status; a full disk leaves the store degraded until space returns.
    ///
    /// Blocks: every page is verified (seconds for a store of its default size).
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Open`] (another process has it, rights are missing), [`Error::Thread`].
    pub fn open(directory: &Path, config: &Config, metrics: Metrics) -> Result<Self, Error> {
        Self::open_on(File::new(directory, FILE_NAME), config, metrics)
    }

    /// As [`Store::open`], on any medium.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(medium: impl Medium, config: &Config, metrics: Metrics) -> Result<Self, Error> {
        if config.max_size_bytes < MIN_SIZE_BYTES {
            let words = format!("max_size_bytes is {}, at least {MIN_SIZE_BYTES}", config.max_size_bytes);
            return Err(Error::Config(words));
        }
        let keeper = Keeper::open(medium, config.cache_bytes, table::prepare)?;
        let (commands, queue) = mpsc::channel(QUEUE_BATCHES);
        let status = Arc::new(watch::Sender::new(Status::default()));
        let worker = Worker::new(keeper, queue, status.clone(), metrics.clone(), config.clone());
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        Ok(Self { commands, room: Arc::new(Semaphore::new(QUEUE_BYTES)), status, metrics })
    }

    /// Stores what is new of a batch and answers when it is synced; all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::TooManyNodes`], [`Error::Disk`], [`Error::Closed`]; nothing is stored then.
    pub async fn append_batch(&self, batch: NewBatch) -> Result<Stored, Error> {
        let size = batch.records.iter().map(|record| record.bytes.len()).sum::<usize>();
        let permit =
            u32::try_from(size).ok().and_then(|size| self.room.clone().try_acquire_many_owned(size).ok());
        let (reply, answer) = oneshot::channel();
        let Some(permit) = permit else {
            self.metrics.busy.inc();
            return Err(Error::Busy);
        };
        match self.commands.try_send(Command::Append(Box::new(Append { batch, reply, permit }))) {
            Ok(()) => answer.await.map_err(|_| Error::Closed)?,
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::Closed),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.metrics.busy.inc();
                Err(Error::Busy)
            }
        }
    }

    /// Records beyond the id `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn read(&self, after: u64, max_records: usize, max_bytes: usize) -> Result<Vec<Record>, Error> {
        self.ask(|reply| Command::Read { after, max_records, max_bytes, reply }).await
    }

    /// All streams, by node and spool id.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn streams(&self) -> Result<Vec<StreamRow>, Error> {
        self.ask(|reply| Command::Streams { reply }).await
    }

    /// The latest records of one node, by kind, then oldest first.
    ///
    /// # Errors
    /// [`Error::Disk`], [`Error::Closed`].
    pub async fn latest(&self, node: &str) -> Result<Vec<Latest>, Error> {
        let node = node.to_owned();
        self.ask(|reply| Command::Latest { node, reply }).await
    }

    /// Finishes what is queued, closes the file and ends the thread. Later calls answer [`Error::Closed`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _closed = self.ask(|reply| Command::Close { reply }).await;
    }

    /// The present state, and every later one.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
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
