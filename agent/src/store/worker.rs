//! The thread that owns the store's file: group commit, reading, and getting on after a fault.

use std::sync::Arc;

use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::table::{self, Latest, Outcome, StreamRow, Totals};
use super::{Config, Error, Metrics, NewBatch, Record, Stored};
use crate::disk;
use crate::disk::keeper::Keeper;

/// Beyond these a larger group gains nothing: the sync is no longer what costs.
const GROUP_BATCHES: usize = 64;
const GROUP_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Append {
    pub(super) batch: NewBatch,
    pub(super) reply: oneshot::Sender<Result<Stored, Error>>,
    /// Room in the queue; given back when the batch is done.
    pub(super) permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) enum Command {
    Append(Box<Append>),
    Read {
        after: u64,
        max_records: usize,
        max_bytes: usize,
        reply: oneshot::Sender<Result<Vec<Record>, Error>>,
    },
    Streams {
        reply: oneshot::Sender<Result<Vec<StreamRow>, Error>>,
    },
    Latest {
        node: String,
        reply: oneshot::Sender<Result<Vec<Latest>, Error>>,
    },
    Close {
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// State of the store.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// As synced.
    pub totals: Totals,
    /// Why the disk takes nothing at present.
    pub degraded: Option<String>,
    /// The last damage found, and where the damaged file is.
    pub damage: Option<String>,
    /// Bytes of the file.
    pub file_bytes: u64,
}

pub(super) struct Worker {
    keeper: Keeper,
    queue: mpsc::Receiver<Command>,
    status: Arc<watch::Sender<Status>>,
    metrics: Metrics,
    config: Config,
}

impl Worker {
    pub(super) fn new(
        keeper: Keeper,
        queue: mpsc::Receiver<Command>,
        status: Arc<watch::Sender<Status>>,
        metrics: Metrics,
        config: Config,
    ) -> Self {
        let mut worker = Self { keeper, queue, status, metrics, config };
        if let Some(replaced) = worker.keeper.take_replaced() {
            worker.note(&replaced);
        }
        if let Ok(totals) = worker.with(|database| table::totals(database)) {
            worker.publish(totals);
        }
        worker
    }

    pub(super) fn run(mut self) {
        while let Some(command) = self.queue.blocking_recv() {
            let (group, other) = self.gather(command);
            if !group.is_empty() {
                self.commit(group);
            }
            // Whoever asked may be gone; then the answer is for nobody.
            match other {
                None | Some(Command::Append(_)) => {}
                Some(Command::Read { after, max_records, max_bytes, reply }) => {
                    let read = self.answer(|database| table::read(database, after, max_records, max_bytes));
                    let _gone = reply.send(read);
                }
                Some(Command::Streams { reply }) => {
                    let _gone = reply.send(self.answer(table::streams));
                }
                Some(Command::Latest { node, reply }) => {
                    let _gone = reply.send(self.answer(|database| table::latest(database, &node)));
                }
                Some(Command::Close { reply }) => {
                    drop(self.keeper);
                    let _gone = reply.send(Ok(()));
                    return;
                }
            }
        }
    }

    /// Batches that are there, up to the first command of another kind.
    fn gather(&mut self, first: Command) -> (Vec<Append>, Option<Command>) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append(append) => {
                    bytes += append.permit.num_permits();
                    group.push(*append);
                }
                other => return (group, Some(other)),
            }
            let full = group.len() >= GROUP_BATCHES || bytes >= GROUP_BYTES;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        (group, None)
    }

    fn commit(&mut self, group: Vec<Append>) {
        let batches: Vec<_> = group.iter().map(|append| &append.batch).collect();
        let mut result = self.apply(&batches);
        if let Err(disk::Error::Replaced { .. }) = result {
            // Nothing was done yet, and a fresh file is there to do it.
            result = self.apply(&batches);
        }
        match result {
            Ok(outcome) => {
                for (append, answer) in group.into_iter().zip(outcome.answers) {
                    let _gone = append.reply.send(answer);
                }
            }
            Err(cause) => {
                for append in group {
                    let _gone = append.reply.send(Err(Error::Disk(cause.to_string())));
                }
            }
        }
    }

    fn apply(&mut self, batches: &[&NewBatch]) -> Result<Outcome, disk::Error> {
        let config = self.config.clone();
        let outcome = self.with(|database| table::apply(database, batches, &config))?;
        self.metrics.commits.inc();
        self.metrics.expired_records.inc_by(outcome.expired);
        for stored in outcome.answers.iter().flatten() {
            self.metrics.stored_records.inc_by(stored.ack.stored);
            self.metrics.duplicate_records.inc_by(stored.ack.duplicates);
        }
        if self.status.borrow().degraded.is_some() {
            info!("store takes records again");
            self.status.send_modify(|status| status.degraded = None);
        }
        self.publish(outcome.totals.clone());
        Ok(outcome)
    }

    fn answer<R>(&mut self, work: impl FnOnce(&Database) -> Result<R, redb::Error>) -> Result<R, Error> {
        self.with(|database| work(database)).map_err(|cause| Error::Disk(cause.to_string()))
    }

    fn with<R>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<R, redb::Error>,
    ) -> Result<R, disk::Error> {
        let result = self.keeper.with(work);
        if let Err(cause) = &result {
            self.note(cause);
        }
        result
    }

    /// Says what is wrong with the disk, once per change.
    fn note(&mut self, cause: &disk::Error) {
        self.metrics.disk_errors.inc();
        let words = cause.to_string();
        if let disk::Error::Replaced { .. } = cause {
            let lost = self.status.borrow().totals.records;
            error!(lost, "store was damaged, starting a fresh one: {words}");
            self.metrics.damaged_files.inc();
            self.status.send_modify(|status| {
                status.totals = Totals::default();
                status.damage = Some(words);
            });
            return;
        }
        if self.status.borrow().degraded.is_none() {
            warn!("store is degraded: {words}");
        }
        self.status.send_modify(|status| status.degraded = Some(words));
    }

    fn publish(&mut self, totals: Totals) {
        let file_bytes = self.keeper.size_bytes();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.records.set(gauge(totals.records));
        self.metrics.size_bytes.set(gauge(totals.size_bytes));
        self.metrics.file_bytes.set(gauge(file_bytes));
        self.status.send_modify(|status| {
            status.totals = totals;
            status.file_bytes = file_bytes;
        });
    }
}
