//! The thread that owns the queue's file: group commit, deliveries, and getting on after a fault.
//!
//! While one commit syncs, the next group gathers in the queue: one caller waits for one sync, and a thousand callers
//! share it. A group ends with what is queued, at 512 records or at 1 MiB. What has to be synced is; then pulls are
//! served from what is on disk, in the order in which they came.

mod command;
mod serve;
mod show;

use std::sync::Arc;

use redb::Database;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::command::{Answer, Write};
pub(super) use self::command::{Append, Ask, Command};
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::transaction;
use super::{Config, Now, Pull, Status, TICK_MAX, table};
use crate::disk;
use crate::disk::keeper::Keeper;

/// Beyond these a larger group gains little: the sync is no longer what costs.
const GROUP_RECORDS: usize = 512;
const GROUP_BYTES: usize = 1 << 20;

/// Pulls that may wait for records; streams and long pulls are fewer.
const MAX_WAITING: usize = 4_096;

pub(super) struct Worker {
    keeper: Keeper,
    queue: mpsc::Receiver<Command>,
    /// For parcels: what is not taken comes back this way.
    back: mpsc::WeakSender<Command>,
    status: Arc<watch::Sender<Status>>,
    metrics: Metrics,
    config: Config,
    /// The latest time that a command brought.
    now: Now,
    /// None after a failure of the disk: read again at the next use.
    ledger: Option<Ledger>,
    waiting: Vec<Ask>,
    /// When deliveries were last written.
    written_at: Instant,
    /// Where the next pull from all partitions begins.
    turn: usize,
}

impl Worker {
    pub(super) fn new(
        keeper: Keeper,
        (queue, back): (mpsc::Receiver<Command>, mpsc::WeakSender<Command>),
        status: Arc<watch::Sender<Status>>,
        metrics: Metrics,
        config: Config,
        now: Now,
    ) -> Self {
        let written_at = now.mono;
        let mut worker = Self {
            keeper,
            queue,
            back,
            status,
            metrics,
            config,
            now,
            ledger: None,
            waiting: Vec::new(),
            written_at,
            turn: 0,
        };
        if let Some(replaced) = worker.keeper.take_replaced() {
            worker.note(&replaced);
        }
        if worker.load().is_ok() {
            worker.show_all();
        }
        worker
    }

    pub(super) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            if let Some(closed) = self.cycle(first) {
                self.write_deliveries();
                drop(self.keeper);
                let _gone = closed.send(Ok(()));
                return;
            }
        }
        self.write_deliveries();
    }

    /// One group of commands. Some is who wants the queue closed.
    fn cycle(&mut self, first: Command) -> Option<command::Reply<()>> {
        let mut group = command::Group::default();
        let mut next = Some(first);
        while let Some(command) = next {
            self.now = self.now.latest(command.now());
            group.add(command);
            next = if group.is_full() { None } else { self.queue.try_recv().ok() };
        }
        for (taker, ids) in std::mem::take(&mut group.returned) {
            self.take_back(&taker, &ids);
        }
        for taker in std::mem::take(&mut group.left) {
            self.orphan(&taker);
        }
        let loaded = if self.ledger.is_some() { Ok(()) } else { self.load() };
        let (writes, asks) = self.sort(std::mem::take(&mut group.commands));
        self.waiting.extend(asks);
        if !writes.is_empty() {
            match loaded {
                Ok(()) => self.commit(writes),
                Err(words) => writes.into_iter().for_each(|write| write.refuse(&words)),
            }
        }
        self.serve();
        for (reply, ages) in std::mem::take(&mut group.topics) {
            let _gone = reply.send(self.topics(ages));
        }
        let due = self.ledger.as_ref().and_then(|ledger| Some(ledger.due.first()?.0));
        for reply in std::mem::take(&mut group.ticks) {
            let _gone = reply.send(Ok(due));
        }
        group.close
    }

    /// What has to be written, and the pulls that need not: those wait to be served.
    fn sort(&self, commands: Vec<Write>) -> (Vec<Write>, Vec<Ask>) {
        let (mut writes, mut asks) = (Vec::new(), Vec::new());
        for command in commands {
            match command {
                Write::Pull(ask) if !ask.pull.make || self.is_joined(&ask.pull) => asks.push(ask),
                Write::Tick if !self.has_to_tick() => {}
                other => writes.push(other),
            }
        }
        (writes, asks)
    }

    fn is_joined(&self, pull: &Pull) -> bool {
        let topic = self.ledger.as_ref().and_then(|ledger| ledger.topics.get(&pull.topic));
        topic.is_some_and(|topic| {
            topic.groups.contains(&pull.group)
                && pull.partition.is_none_or(|index| topic.partitions.contains_key(&index))
        })
    }

    fn has_to_tick(&self) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        let due = ledger.due.first().is_some_and(|(at, ..)| *at <= self.now.mono);
        let old = self.now.mono.saturating_duration_since(self.written_at) >= TICK_MAX;
        due || old && (!ledger.unwritten.is_empty() || ledger.has_to_drop(self.now.wall_ns, &self.config))
    }

    fn commit(&mut self, writes: Vec<Write>) {
        let mut result = self.apply(&writes);
        if let Err(disk::Error::Replaced { .. }) = result {
            // Nothing was done yet, and a fresh file is there to do it.
            result = self.apply(&writes);
        }
        match result {
            Ok(answers) => {
                for (write, answer) in writes.into_iter().zip(answers) {
                    if let Some(ask) = write.answer(answer, &self.metrics) {
                        self.waiting.push(ask);
                    }
                }
            }
            Err(cause) => {
                let words = cause.to_string();
                writes.into_iter().for_each(|write| write.refuse(&words));
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "how long the disk takes, in real time")]
    fn apply(&mut self, writes: &[Write]) -> Result<Vec<Answer>, disk::Error> {
        if self.ledger.is_none() {
            let now = self.now;
            self.ledger = Some(self.with(|database| table::load(database, now))?);
        }
        let Some(mut ledger) = self.ledger.take() else { return Ok(Vec::new()) };
        let (now, config, began) = (self.now, self.config.clone(), std::time::Instant::now());
        let mut answers = Vec::with_capacity(writes.len());
        // Until the transaction is synced the ledger says too much: it is put back only then.
        let outcome = self.with(|database| {
            answers.clear();
            transaction::apply(database, &mut ledger, &config, now, |work| {
                for write in writes {
                    answers.push(write.apply(work)?);
                }
                Ok(())
            })
        })?;
        self.metrics.commit_duration.observe(began.elapsed().as_secs_f64());
        if writes.iter().any(|write| matches!(write, Write::Tick)) {
            self.written_at = now.mono;
        }
        self.ledger = Some(ledger);
        self.recovered();
        self.show(&outcome);
        Ok(answers)
    }

    /// Writes what is delivered, so that it is not delivered again at once after a restart.
    fn write_deliveries(&mut self) {
        if self.ledger.as_ref().is_some_and(|ledger| !ledger.unwritten.is_empty()) {
            self.commit(vec![Write::Tick]);
        }
    }

    fn load(&mut self) -> Result<(), String> {
        let now = self.now;
        let mut loaded = self.with(|database| table::load(database, now));
        if let Err(disk::Error::Replaced { .. }) = loaded {
            loaded = self.with(|database| table::load(database, now));
        }
        self.ledger = Some(loaded.map_err(|error| error.to_string())?);
        Ok(())
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
            let lost_bytes = self.status.borrow().size_bytes;
            error!(lost_bytes, "queue was damaged, starting a fresh one: {words}");
            self.metrics.damaged_files.inc();
            self.metrics.depth.clear();
            self.status.send_modify(|status| {
                status.size_bytes = 0;
                status.damage = Some(words);
            });
            return;
        }
        self.metrics.healthy.set(0);
        if self.status.borrow().degraded.is_none() {
            warn!("queue is degraded: {words}");
        }
        self.status.send_modify(|status| status.degraded = Some(words));
    }

    fn recovered(&mut self) {
        self.metrics.healthy.set(1);
        if self.status.borrow().degraded.is_some() {
            info!("queue takes records again");
            self.status.send_modify(|status| status.degraded = None);
        }
    }
}
