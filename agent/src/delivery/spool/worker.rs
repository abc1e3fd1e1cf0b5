//! The thread that owns the file: group commit, reading, and getting on after a fault.
//!
//! While one commit syncs, the next group gathers in the queue: one caller waits for one sync, and a thousand
//! callers share it. A group ends with the queue, at 512 records, at 1 MiB, or before a read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use redb::Database;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::ledger::{DropReason, Ledger};
use super::metrics::SpoolMetrics;
use super::table::{self, Change, Confirmed, Outcome};
use super::{Error, Page, PageLimits, Seq};
use crate::api::batch::Accounts;
use crate::delivery::WallClock;
use crate::disk;
use crate::disk::keeper::Keeper;

/// Beyond these a larger group gains nothing: the sync is no longer what costs.
const GROUP_RECORDS: usize = 512;
const GROUP_BYTES: usize = 1 << 20;

/// After the disk refused records, new ones are refused without asking it for this long.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// An empty spool whose file is larger is compacted: the file never shrinks by itself.
const COMPACT_ABOVE_BYTES: u64 = 64 << 20;

/// Damaged records dropped within one read; more come with the next.
const DAMAGED_PER_READ: usize = 1_000;

pub(super) struct Append {
    pub(super) records: Vec<Vec<u8>>,
    pub(super) reply: Option<oneshot::Sender<Result<Range<Seq>, Error>>>,
    /// Room in the queue; given back when the request is done.
    pub(super) permit: OwnedSemaphorePermit,
}

pub(super) enum Command {
    Append(Append),
    Acknowledge { confirmed: Confirmed, reply: oneshot::Sender<Result<(), Error>> },
    Refuse { spool_id: String, seq: Seq, reply: oneshot::Sender<Result<(), Error>> },
    Read { after: Seq, limits: PageLimits, reply: oneshot::Sender<Result<Page, Error>> },
    Close { reply: oneshot::Sender<Result<(), Error>> },
}

/// State of the spool.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// As synced.
    pub ledger: Ledger,
    /// Drops that no transaction has written yet.
    unwritten: BTreeMap<DropReason, u64>,
    /// When the oldest record was spooled, ns since the epoch.
    pub oldest_at_ns: Option<i64>,
    /// Why the disk takes nothing at present.
    pub degraded: Option<String>,
    /// The last damage found, and where the damaged file is.
    pub damage: Option<String>,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Status {
    /// `produced = acknowledged + spooled + dropped`, whatever is not written yet included.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        let mut ledger = self.ledger.clone();
        for (&reason, &count) in &self.unwritten {
            ledger.never_kept(reason, count);
        }
        Accounts {
            produced: ledger.produced(),
            acknowledged: ledger.acknowledged,
            spooled: ledger.spooled,
            spooled_bytes: ledger.spooled_bytes,
            // Those too that nothing was dropped for: what grows from nothing is seen to grow.
            dropped: DropReason::ALL
                .map(|reason| (reason.name().to_owned(), ledger.dropped.get(&reason).copied().unwrap_or(0)))
                .into(),
            oldest_at_ns: self.oldest_at_ns,
            acknowledged_here: None,
        }
    }

    pub(super) fn drop_unwritten(&mut self, reason: DropReason, count: u64) {
        *self.unwritten.entry(reason).or_default() += count;
    }
}

/// Requests that share a transaction.
#[derive(Default)]
struct Group {
    appends: Vec<Append>,
    records: usize,
    bytes: usize,
    acknowledge: Vec<Confirmed>,
    lose: Vec<(String, Seq, DropReason)>,
    done: Vec<oneshot::Sender<Result<(), Error>>>,
}

impl Group {
    fn is_full(&self) -> bool {
        self.records >= GROUP_RECORDS || self.bytes >= GROUP_BYTES
    }

    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.done.is_empty()
    }
}

/// What ends a group before it is full.
enum After {
    Nothing,
    Read { after: Seq, limits: PageLimits, reply: oneshot::Sender<Result<Page, Error>> },
    Close(Option<oneshot::Sender<Result<(), Error>>>),
}

pub(super) struct Worker {
    keeper: Keeper,
    queue: mpsc::Receiver<Command>,
    status: Arc<watch::Sender<Status>>,
    metrics: SpoolMetrics,
    clock: WallClock,
    max_size_bytes: u64,
    in_flight: Seq,
    refuse_until: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        keeper: Keeper,
        queue: mpsc::Receiver<Command>,
        status: Arc<watch::Sender<Status>>,
        metrics: SpoolMetrics,
        clock: WallClock,
        max_size_bytes: u64,
    ) -> Self {
        let mut worker =
            Self { keeper, queue, status, metrics, clock, max_size_bytes, in_flight: 0, refuse_until: None };
        if let Some(replaced) = worker.keeper.take_replaced() {
            worker.note(&replaced);
        }
        // Reading the file also publishes the first status.
        if let Ok(outcome) = worker.with(|database| table::look(database)) {
            worker.publish(&outcome, &[]);
        }
        worker
    }

    pub(super) fn run(mut self) {
        loop {
            let (group, after) = self.gather();
            if !group.is_empty() {
                self.commit(group);
            }
            match after {
                After::Nothing => {}
                After::Read { after, limits, reply } => {
                    // A reader that is gone reads again.
                    let _gone = reply.send(self.read(after, limits));
                }
                After::Close(reply) => {
                    self.write_drops();
                    drop(self.keeper);
                    if let Some(reply) = reply {
                        let _gone = reply.send(Ok(()));
                    }
                    return;
                }
            }
        }
    }

    fn gather(&mut self) -> (Group, After) {
        let mut group = Group::default();
        let mut next = self.queue.blocking_recv().ok_or(mpsc::error::TryRecvError::Disconnected);
        loop {
            match next {
                Ok(Command::Append(append)) => {
                    group.records += append.records.len();
                    group.bytes += append.permit.num_permits();
                    group.appends.push(append);
                }
                Ok(Command::Acknowledge { confirmed, reply }) => {
                    group.acknowledge.push(confirmed);
                    group.done.push(reply);
                }
                Ok(Command::Refuse { spool_id, seq, reply }) => {
                    group.lose.push((spool_id, seq, DropReason::Refused));
                    group.done.push(reply);
                }
                Ok(Command::Read { after, limits, reply }) => {
                    return (group, After::Read { after, limits, reply });
                }
                Ok(Command::Close { reply }) => return (group, After::Close(Some(reply))),
                Err(mpsc::error::TryRecvError::Disconnected) => return (group, After::Close(None)),
                Err(mpsc::error::TryRecvError::Empty) => return (group, After::Nothing),
            }
            if group.is_full() {
                return (group, After::Nothing);
            }
            next = self.queue.try_recv();
        }
    }

    fn commit(&mut self, mut group: Group) {
        if self.refuse_until.is_some_and(|until| Instant::now() < until) {
            self.refuse_appends(&mut group, "waiting for the disk");
        }
        if group.is_empty() {
            return;
        }
        let mut result = self.apply(&group);
        if let Err(disk::Error::Replaced { .. }) = result {
            // Nothing was done yet, and a fresh file is there to do it.
            result = self.apply(&group);
        }
        if let Err(cause) = &result
            && !group.appends.is_empty()
        {
            // Deleting needs less room than keeping: it may pass where this group did not.
            self.refuse_until = Some(Instant::now() + DISK_PAUSE);
            self.refuse_appends(&mut group, &cause.to_string());
            if group.is_empty() {
                return;
            }
            result = self.apply(&group);
        }
        match result {
            Ok(outcome) => {
                if !group.appends.is_empty() {
                    self.recovered();
                }
                let seqs = outcome.seqs.into_iter();
                for (append, seqs) in group.appends.into_iter().zip(seqs) {
                    if let Some(reply) = append.reply {
                        let _gone = reply.send(Ok(seqs));
                    }
                }
                for reply in group.done {
                    let _gone = reply.send(Ok(()));
                }
                self.compact(&outcome.ledger);
            }
            Err(cause) => {
                for reply in group.done {
                    let _gone = reply.send(Err(Error::Disk(cause.to_string())));
                }
            }
        }
    }

    fn apply(&mut self, group: &Group) -> Result<Outcome, disk::Error> {
        let never_kept: Vec<_> =
            self.status.borrow().unwritten.iter().map(|(&reason, &count)| (reason, count)).collect();
        let change = Change {
            appends: group.appends.iter().map(|append| append.records.as_slice()).collect(),
            acknowledge: group.acknowledge.clone(),
            lose: group.lose.clone(),
            never_kept,
            in_flight: self.in_flight,
        };
        let (max_size_bytes, now_ns) = (self.max_size_bytes, (self.clock)());
        let outcome = self.with(|database| table::apply(database, &change, max_size_bytes, now_ns))?;
        self.metrics.commits.inc();
        self.metrics.appended_records.inc_by(group.records_kept());
        self.metrics.dropped(DropReason::SpoolFull, outcome.dropped_full);
        for &(_, _, reason) in &change.lose {
            self.metrics.dropped(reason, 1);
        }
        self.publish(&outcome, &change.never_kept);
        Ok(outcome)
    }

    fn read(&mut self, after: Seq, limits: PageLimits) -> Result<Page, Error> {
        for _ in 0..DAMAGED_PER_READ {
            let (page, damaged) = self
                .with(|database| table::read(database, after, limits))
                .map_err(|cause| Error::Disk(cause.to_string()))?;
            match damaged {
                Some(seq) if page.records.is_empty() => {
                    warn!(seq, "spooled record is damaged, dropped");
                    let lose = vec![(page.spool_id, seq, DropReason::Damaged)];
                    self.apply(&Group { lose, ..Group::default() })
                        .map_err(|cause| Error::Disk(cause.to_string()))?;
                }
                _ => {
                    self.in_flight =
                        page.first_seq.saturating_add(page.records.len() as u64).saturating_sub(1);
                    return Ok(page);
                }
            }
        }
        Err(Error::Disk("many records are damaged".to_owned()))
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
            // What was in the damaged file is lost, and the fresh file's accounts say so.
            let lost = self.status.borrow().ledger.spooled;
            error!(lost, "spool was damaged, starting a fresh one: {words}");
            self.metrics.damaged_files.inc();
            self.metrics.dropped(DropReason::Damaged, lost);
            self.in_flight = 0;
            self.status.send_modify(|status| {
                status.ledger = Ledger::default();
                status.damage = Some(words);
                if lost > 0 {
                    status.drop_unwritten(DropReason::Damaged, lost);
                }
            });
            return;
        }
        if self.status.borrow().degraded.is_none() {
            warn!("spool is degraded: {words}");
        }
        self.status.send_modify(|status| status.degraded = Some(words));
    }

    fn recovered(&mut self) {
        self.refuse_until = None;
        if self.status.borrow().degraded.is_some() {
            info!("spool takes records again");
            self.status.send_modify(|status| status.degraded = None);
        }
    }

    fn refuse_appends(&mut self, group: &mut Group, words: &str) {
        let count = group.appends.iter().map(|append| append.records.len() as u64).sum();
        if count > 0 {
            self.metrics.dropped(DropReason::DiskError, count);
            self.status.send_modify(|status| status.drop_unwritten(DropReason::DiskError, count));
        }
        for append in group.appends.drain(..) {
            if let Some(reply) = append.reply {
                let _gone = reply.send(Err(Error::Disk(words.to_owned())));
            }
        }
    }

    /// Puts the file's new state before everybody, and takes off what it now holds of the unwritten drops.
    fn publish(&mut self, outcome: &Outcome, written: &[(DropReason, u64)]) {
        let file_bytes = self.keeper.size_bytes();
        self.metrics.show(&outcome.ledger, file_bytes);
        self.status.send_modify(|status| {
            status.ledger = outcome.ledger.clone();
            status.oldest_at_ns = outcome.oldest_at_ns;
            status.file_bytes = file_bytes;
            for (reason, count) in written {
                if let Some(left) = status.unwritten.get_mut(reason) {
                    *left = left.saturating_sub(*count);
                }
            }
            status.unwritten.retain(|_, left| *left > 0);
        });
    }

    /// What still waits is refused and counted; drops counted since the last commit go to disk.
    fn write_drops(&mut self) {
        self.queue.close();
        while let Ok(command) = self.queue.try_recv() {
            if let Command::Append(append) = command {
                let count = append.records.len() as u64;
                self.metrics.dropped(DropReason::Closed, count);
                self.status.send_modify(|status| status.drop_unwritten(DropReason::Closed, count));
            }
        }
        if !self.status.borrow().unwritten.is_empty() {
            // If the disk does not take them they are lost with the process; the sums hold without them.
            let _lost = self.apply(&Group::default());
        }
    }

    fn compact(&mut self, ledger: &Ledger) {
        if ledger.spooled > 0 || self.keeper.size_bytes() < COMPACT_ABOVE_BYTES {
            return;
        }
        let before = self.keeper.size_bytes();
        let compacted = self.with(|database| database.compact().map_err(redb::Error::from));
        if compacted.is_ok() {
            info!(before_bytes = before, after_bytes = self.keeper.size_bytes(), "empty spool compacted");
        }
    }
}

impl Group {
    fn records_kept(&self) -> u64 {
        self.appends.iter().map(|append| append.records.len() as u64).sum()
    }
}
