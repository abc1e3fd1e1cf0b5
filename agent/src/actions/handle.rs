//! The owner's thread and the way to it.
//!
//! A thread of its own, because it waits for disks and processes, and because the kernel kills a worker when the thread
//! that started it ends: this one ends with the node.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::executor::Executor;
use super::executor::processes::Processes;
use super::journal::Journal;
use super::owner::{Now, Owner, World};
use super::{Config, Error, Metrics, namespaces, worker};
use crate::domain::action::{Anomaly, Asked};
use crate::domain::event::AnomalyEvent;
use crate::domain::pod::PodMap;
use crate::domain::scheduler::SchedulerReading;
use crate::host::HostRoots;

/// A start takes milliseconds; who would be the 17th in the queue is told to come back.
const MAX_WAITING: usize = 16;
const TOO_MANY: &str = "too many requests wait";
/// How late an end or the kill switch may be seen.
const TICK: Duration = Duration::from_millis(100);
/// With nothing to watch the thread only waits.
const IDLE: Duration = Duration::from_secs(3_600);

/// What [`start`] needs.
pub struct Parts {
    /// `[actions]`.
    pub config: Config,
    /// Where the host is mounted.
    pub roots: HostRoots,
    /// The latest walk of the pods.
    pub pods: watch::Receiver<Arc<PodMap>>,
    /// The latest reading of the scheduler.
    pub scheduler: watch::Receiver<Arc<SchedulerReading>>,
    /// Ports that the node listens on: no anomaly of the network is to cut the way to its own stop.
    pub own_ports: Vec<u16>,
    /// Where beginnings and ends are told.
    pub events: mpsc::Sender<AnomalyEvent>,
    /// Names this boot.
    pub boot_id: String,
    /// The journal's file.
    pub journal: PathBuf,
    /// Wall time, ns since the epoch.
    pub clock: fn() -> i64,
    /// Registered metrics.
    pub metrics: Metrics,
}

enum Command {
    Start(Box<Asked>, bool, oneshot::Sender<Result<Anomaly, Error>>),
    Stop(String, oneshot::Sender<Result<Anomaly, Error>>),
    StopAll(oneshot::Sender<usize>),
    ShutDown(oneshot::Sender<usize>),
}

/// The way to the owner.
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    anomalies: watch::Receiver<Arc<Vec<Anomaly>>>,
}

/// Removes what an earlier life left, and starts the owner's thread.
///
/// # Errors
/// The journal's file, a leftover that does not go, or no thread.
pub fn start(parts: Parts) -> Result<Handle, Error> {
    let Parts { config, roots, pods, scheduler, own_ports, events, boot_id, journal, clock, metrics } = parts;
    #[cfg(debug_assertions)]
    let executor = Processes::fixture(config.unguarded_workers);
    #[cfg(not(debug_assertions))]
    let executor = Processes::default();
    let path = journal.display().to_string();
    let journal = Journal::open(&journal).map_err(|error| Error::Failed(format!("{path}: {error}")))?;
    let (out, anomalies) = watch::channel(Arc::default());
    let world = World { config, roots, boot_id, pods, scheduler, own_ports, events, metrics };
    let proc = world.roots.proc.clone();
    let owner = Owner::new(world, executor, journal, now(clock), out)?;
    let (commands, inbox) = sync_channel(MAX_WAITING);
    std::thread::Builder::new()
        .name("actions".to_owned())
        .spawn(move || {
            // What it looks at and every worker that it starts is the host's, in a container too.
            if let Err(error) = namespaces::see_all_cgroups(&proc) {
                tracing::warn!(%error, "the host's cgroups cannot be seen as the host sees them: anomalies may be refused");
            }
            live(owner, &inbox, clock);
        })
        .map_err(|error| Error::Failed(format!("no thread: {error}")))?;
    Ok(Handle { commands, anomalies })
}

fn live<E: Executor>(mut owner: Owner<E>, inbox: &Receiver<Command>, clock: fn() -> i64) {
    loop {
        // Whoever asked may have gone: the answer is in the list too.
        match inbox.recv_timeout(if owner.is_active() { TICK } else { IDLE }) {
            Ok(Command::Start(asked, dry_run, reply)) => {
                let _gone = reply.send(owner.start(*asked, dry_run, now(clock)));
            }
            Ok(Command::Stop(id, reply)) => {
                let _gone = reply.send(owner.stop(&id, now(clock)));
            }
            Ok(Command::StopAll(reply)) => {
                let _gone = reply.send(owner.stop_all("stopped by a request", now(clock)));
            }
            Ok(Command::ShutDown(reply)) => {
                let _gone = reply.send(owner.shut_down(now(clock)));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                owner.shut_down(now(clock));
                return;
            }
        }
        owner.tick(now(clock));
    }
}

fn now(clock: fn() -> i64) -> Now {
    Now { wall_ns: clock(), boot_ns: worker::since_boot_ns() }
}

impl Handle {
    /// Every anomaly that is told of, newest first.
    pub fn anomalies(&self) -> Arc<Vec<Anomaly>> {
        Arc::clone(&self.anomalies.borrow())
    }

    /// The same, and whenever it changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Vec<Anomaly>>> {
        self.anomalies.clone()
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn get(&self, id: &str) -> Result<Anomaly, Error> {
        let found = self.anomalies().iter().find(|anomaly| anomaly.id == id).cloned();
        found.ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    /// Starts what is asked for, or (`dry_run`) says what would be started.
    ///
    /// # Errors
    /// Why nothing was started.
    pub async fn start(&self, asked: Asked, dry_run: bool) -> Result<Anomaly, Error> {
        self.ask(|reply| Command::Start(Box::new(asked), dry_run, reply)).await?
    }

    /// Stops one.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub async fn stop(&self, id: String) -> Result<Anomaly, Error> {
        self.ask(|reply| Command::Stop(id, reply)).await?
    }

    /// Stops all; how many there were.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn stop_all(&self) -> Result<usize, Error> {
        self.ask(Command::StopAll).await
    }

    /// Waits for `stop`; then everything is undone before this returns.
    ///
    /// # Errors
    /// How many could not be undone; their workers end when the process does.
    pub async fn until(self, stop: CancellationToken) -> Result<(), Error> {
        stop.cancelled().await;
        let left = loop {
            match self.ask(Command::ShutDown).await {
                // Those who wait are answered first; each takes seconds at most, and the process ends in any case.
                Err(Error::Unavailable(TOO_MANY)) => tokio::time::sleep(TICK).await,
                left => break left?,
            }
        };
        match left {
            0 => Ok(()),
            left => Err(Error::Failed(format!("{left} anomalies could not be undone"))),
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            TrySendError::Full(_) => Error::Unavailable(TOO_MANY),
            TrySendError::Disconnected(_) => Error::Unavailable("their owner has ended"),
        })?;
        answer.await.map_err(|_| Error::Unavailable("their owner has ended"))
    }
}
