//! The way to the workloads: to the steward, who asks the database first, and to the owner's thread.
//!
//! A thread of its own and for good, because the kernel kills a worker when the thread that started it ends: this one ends
//! with the node.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{mpsc, oneshot, watch};

use super::owner::{List, Now, Owner, Waiting};
use super::process::{Launcher, Workers};
use super::steward::{Job, Steward};
use super::worker::Order;
use super::{Config, Error, Metrics};
use crate::domain::workload::{Asked, Kind, KindSums, Tables, Workload};
use crate::mysql;

/// Requests take milliseconds; who would be the 17th in the queue is told to come back.
const MAX_WAITING: usize = 16;
/// How late a report or an end may be seen.
const TICK: Duration = Duration::from_millis(100);
/// With nothing to watch the thread only waits.
const IDLE: Duration = Duration::from_secs(3_600);

/// What [`start`] needs.
pub struct Parts {
    /// `[workloads]`.
    pub config: Config,
    /// `[database]`.
    pub database: mysql::Config,
    /// Wall time, ns since the epoch.
    pub clock: fn() -> i64,
    /// Registered metrics.
    pub metrics: Metrics,
}

pub(super) enum Command {
    Start(Asked, Order, Reply<Arc<Workload>>),
    /// Answered with the ticket that the next two need.
    Prepare {
        threads: u32,
        tables: u32,
        reply: Reply<u64>,
    },
    MakeTables(u64, Order, Waiting, Reply<()>),
    Prepared(u64, Result<String, String>),
    Stop(String, Waiting, Reply<()>),
    ShutDown,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// The way to the owner's thread.
#[derive(Clone)]
pub(super) struct Line(SyncSender<Command>);

/// The way to the workloads.
#[derive(Clone)]
pub struct Handle {
    line: Line,
    jobs: mpsc::Sender<Job>,
    workloads: watch::Receiver<List>,
    metrics: Metrics,
}

/// Starts the owner's thread. The steward is to be run for as long as requests are to be answered.
///
/// # Errors
/// A wrong configuration, or no thread.
pub fn start(parts: Parts) -> Result<(Handle, Steward), Error> {
    let launcher = Workers { guarded: parts.config.guarded() };
    start_with(parts, launcher)
}

pub(super) fn start_with(
    parts: Parts,
    launcher: impl Launcher + 'static,
) -> Result<(Handle, Steward), Error> {
    let Parts { config, database, clock, metrics } = parts;
    config.check().map_err(Error::Invalid)?;
    let (out, workloads) = watch::channel(List::default());
    let owner = Owner::new(config.clone(), launcher, metrics.clone(), out);
    let (commands, inbox) = sync_channel(MAX_WAITING);
    std::thread::Builder::new()
        .name("workloads".to_owned())
        .spawn(move || live(owner, &inbox, clock))
        .map_err(|error| Error::Failed(format!("no thread: {error}")))?;
    let (jobs, waiting) = mpsc::channel(MAX_WAITING);
    let handle = Handle { line: Line(commands), jobs, workloads, metrics };
    let steward = Steward::new(config, database, handle.clone(), waiting);
    Ok((handle, steward))
}

fn live<L: Launcher>(mut owner: Owner<L>, inbox: &Receiver<Command>, clock: fn() -> i64) {
    loop {
        let command = inbox.recv_timeout(if owner.is_active() { TICK } else { IDLE });
        let now = now(clock);
        // Whoever asked may have gone: the answer is in the list too.
        match command {
            Ok(Command::Start(asked, order, reply)) => {
                let _gone = reply.send(owner.start(asked, &order, now));
            }
            Ok(Command::Prepare { threads, tables, reply }) => {
                let _gone = reply.send(owner.prepare(threads, tables, now));
            }
            Ok(Command::MakeTables(ticket, order, waiting, reply)) => {
                let _gone = reply.send(owner.make_tables(ticket, &order, waiting));
            }
            Ok(Command::Prepared(ticket, result)) => owner.prepared(ticket, result, now),
            Ok(Command::Stop(id, waiting, reply)) => {
                let _gone = reply.send(owner.stop(&id, waiting, now));
            }
            Ok(Command::ShutDown) => owner.shut_down(now),
            Err(RecvTimeoutError::Timeout) => {}
            // Its processes are killed with it.
            Err(RecvTimeoutError::Disconnected) => return,
        }
        owner.tick(now);
    }
}

fn now(clock: fn() -> i64) -> Now {
    let mono = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    Now { wall_ns: clock(), mono_ns: part(mono.tv_sec).saturating_mul(1_000_000_000) + part(mono.tv_nsec) }
}

impl Line {
    pub(super) fn say(&self, command: Command) -> Result<(), Error> {
        self.0.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Error::Unavailable("too many requests wait"),
            TrySendError::Disconnected(_) => Error::Unavailable("their owner has ended"),
        })
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.say(command(reply))?;
        answer.await.map_err(|_| Error::Unavailable("their owner has ended"))?
    }
}

impl Handle {
    /// Every workload that is told of, newest first.
    pub fn workloads(&self) -> List {
        Arc::clone(&self.workloads.borrow())
    }

    /// The same as they change.
    pub fn follow(&self) -> watch::Receiver<List> {
        self.workloads.clone()
    }

    /// What all of a kind have done since the node began.
    pub fn sums(&self, kind: Kind) -> KindSums {
        self.metrics.sums(kind)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn get(&self, id: &str) -> Result<Arc<Workload>, Error> {
        let found = self.workloads().iter().find(|workload| workload.id == id).cloned();
        found.ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    /// Starts what is asked for, once the database was found able to take it.
    ///
    /// # Errors
    /// Why nothing was started.
    pub async fn start(&self, asked: Asked) -> Result<Arc<Workload>, Error> {
        self.job(|reply| Job::Start(asked, reply)).await
    }

    /// Makes the database and its tables, and answers when they are there. It goes on if nobody waits for it.
    ///
    /// # Errors
    /// Why they are not.
    pub async fn prepare(&self, tables: Tables, threads: Option<u32>) -> Result<(), Error> {
        self.job(|reply| Job::Prepare(tables, threads, reply)).await
    }

    /// Stops one, and answers when it is over. One that is over stays as it is.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn stop(&self, id: String) -> Result<Arc<Workload>, Error> {
        let (over, ended) = oneshot::channel();
        self.line.ask(|reply| Command::Stop(id, over, reply)).await?;
        ended.await.map_err(|_| Error::Unavailable("their owner has ended"))
    }

    /// Stops all, and answers when all are over; how many there were.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn stop_all(&self) -> Result<usize, Error> {
        let active: Vec<_> = self.workloads().iter().filter(|w| w.state.is_active()).cloned().collect();
        let mut ending = Vec::new();
        for workload in &active {
            let (over, ended) = oneshot::channel();
            self.line.ask(|reply| Command::Stop(workload.id.clone(), over, reply)).await?;
            ending.push(ended);
        }
        for ended in ending {
            ended.await.map_err(|_| Error::Unavailable("their owner has ended"))?;
        }
        Ok(active.len())
    }

    /// Nothing begins any more; answers when everything is over.
    pub(super) async fn shut_down(&self) -> Result<(), Error> {
        self.line.say(Command::ShutDown)?;
        let mut workloads = self.follow();
        let over = workloads.wait_for(|all| !all.iter().any(|workload| workload.state.is_active())).await;
        over.map(|_| ()).map_err(|_| Error::Unavailable("their owner has ended"))
    }

    pub(super) const fn line(&self) -> &Line {
        &self.line
    }

    async fn job<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let full = Error::Unavailable("too many requests wait");
        self.jobs.try_send(job(reply)).map_err(|_| full)?;
        answer.await.map_err(|_| Error::Unavailable("the node is stopping"))?
    }
}
