//! One day: what can be asked of the thread that owns its file, its index and what is in no chunk yet ([`super::worker`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use redb::ReadTransaction;
use tokio::sync::oneshot;
use tracing::error;

use super::conditions::Conditions;
#[cfg(test)]
use super::table::Totals;
use super::worker::Worker;
use super::{Config, Health, table};
use crate::disk::keeper::Keeper;
use crate::disk::medium::Medium;
use crate::domain::series::{Labels, Range, Sample};
use crate::series::{Appended, Brought, Error, Metrics};

/// Commands that may wait; batches beyond them are told that the disk is behind.
const QUEUE: usize = 128;

/// A request to the thread.
pub(super) enum Command {
    Append {
        brought: Vec<Brought>,
        reply: oneshot::Sender<Result<Appended, Error>>,
    },
    Select {
        conditions: Conditions,
        range: Range,
        max_series: usize,
        reply: oneshot::Sender<Result<Snapshot, Error>>,
    },
    /// More than `limit` are [`Error::TooMuch`].
    Find {
        conditions: Conditions,
        limit: usize,
        reply: oneshot::Sender<Result<FoundSeries, Error>>,
    },
    /// Of those that share the values of some labels, the last.
    Newest {
        conditions: Conditions,
        by: Vec<String>,
        limit: usize,
        reply: oneshot::Sender<Result<FoundSeries, Error>>,
    },
    LabelNames {
        reply: oneshot::Sender<Result<BTreeSet<String>, Error>>,
    },
    LabelValues {
        name: String,
        conditions: Conditions,
        reply: oneshot::Sender<Result<BTreeSet<String>, Error>>,
    },
    /// Everything into chunks, and the file as small as it can be.
    Finish {
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Reading a snapshot of this loading failed like this.
    Failed {
        loading: u64,
        cause: redb::Error,
    },
    #[cfg(test)]
    Totals {
        reply: oneshot::Sender<Result<(Totals, usize), Error>>,
    },
}

/// Series and when the last sample of each is.
pub(super) type FoundSeries = Vec<(Arc<Labels>, i64)>;

/// What a question is answered from.
pub(super) struct Snapshot {
    /// Which loading of the file it is of.
    pub(super) loading: u64,
    pub(super) file: ReadTransaction,
    pub(super) series: Vec<Selected>,
}

/// One of its series.
pub(super) struct Selected {
    pub(super) number: u32,
    pub(super) labels: Arc<Labels>,
    /// Its samples that may be in no chunk.
    pub(super) head: Vec<Sample>,
}

/// The thread's other end; it ends when this is dropped.
pub(super) struct Day {
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
    packed: bool,
}

impl Day {
    /// Opens the day's file. Blocks while what is in no chunk yet is read.
    pub(super) fn open(
        medium: impl Medium,
        config: &Config,
        metrics: Metrics,
        health: Health,
    ) -> Result<Self, Error> {
        let mut keeper =
            Keeper::open_large(medium, config.cache_bytes, config.verify_up_to_bytes, table::prepare)?;
        let replaced = keeper.take_replaced();
        let (commands, queue) = sync_channel(QUEUE);
        let mut worker = Worker::new(keeper, queue, config.clone(), metrics, health);
        let packed = worker.begin(replaced.as_ref());
        let thread = std::thread::Builder::new()
            .name("series".to_owned())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;
        Ok(Self { commands: Some(commands), thread: Some(thread), packed })
    }

    /// All samples were in chunks when it was opened.
    pub(super) const fn was_packed(&self) -> bool {
        self.packed
    }

    /// Hands a command over, if there is room.
    pub(super) fn send(&self, command: Command) -> Result<(), Error> {
        let Some(commands) = &self.commands else { return Err(Error::Closed) };
        commands.try_send(command).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Closed,
        })
    }
}

impl Drop for Day {
    /// Waits for the commit under way; nothing else is left to do.
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("a thread of the series panicked");
        }
    }
}
