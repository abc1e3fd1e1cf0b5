//! A day's thread.
//!
//! Batches that wait share a commit. When the head has grown, its series go into chunks some at a time, each time as part
//! of a commit, so that nobody waits for all of them. A question takes a moment here: the series it means, their samples
//! of the head, and a snapshot of the file; it is read elsewhere.
//!
//! Memory says what the file says. Behind a failure of the disk nobody knows what of a commit is in the file, so that
//! memory is read from it anew before anything else is done.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use redb::ReadableDatabase;
use tokio::sync::oneshot;
use tracing::info;

use super::chunk::Row;
use super::conditions::Conditions;
use super::day::{Command, FoundSeries, Selected, Snapshot};
use super::head::Head;
use super::index::{Index, Limits};
use super::table::{self, Commit, Totals};
use super::{Config, Health};
use crate::disk;
use crate::disk::keeper::Keeper;
use crate::domain::series::{Range, Sample, SeriesSamples};
use crate::series::{Appended, Brought, Error, Metrics};

/// Samples of one commit: more gain nothing, the sync is no longer what costs.
const GROUP_SAMPLES: usize = 200_000;

/// Series that go into chunks with one commit: some ten milliseconds of work.
const SEAL_AT_ONCE: usize = 256;

/// Samples of one series in the head: they are kept in order, and one that comes late moves those behind it.
const MAX_OF_SERIES: usize = 16_384;

/// From this size on a start after a crash would read for long unless each commit says which pages are free.
const QUICK_REPAIR_BYTES: u64 = 192 << 20;

/// A batch that waits for its commit.
struct Pending {
    appended: Appended,
    reply: oneshot::Sender<Result<Appended, Error>>,
}

/// The head on its way into chunks.
struct Sealing {
    left: Vec<u32>,
    up_to: u64,
}

pub(super) struct Worker {
    keeper: Keeper,
    queue: Receiver<Command>,
    config: Config,
    metrics: Metrics,
    health: Health,
    index: Index,
    head: Head,
    totals: Totals,
    sealing: Option<Sealing>,
    /// A series' head is as long as it may be.
    crowded: bool,
    /// Memory is what the file says.
    loaded: bool,
    /// How often it was loaded.
    loading: u64,
}

impl Worker {
    pub(super) fn new(
        keeper: Keeper,
        queue: Receiver<Command>,
        config: Config,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        Self {
            keeper,
            queue,
            config,
            metrics,
            health,
            index: Index::default(),
            head: Head::default(),
            totals: Totals::default(),
            sealing: None,
            crowded: false,
            loaded: false,
            loading: 0,
        }
    }

    /// Reads the file, which may be a fresh one; whether all of its samples are in chunks.
    pub(super) fn begin(&mut self, replaced: Option<&disk::Error>) -> bool {
        if let Some(replaced) = replaced {
            self.note(replaced);
        }
        self.load();
        self.head.len() == 0
    }

    /// Serves until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            let next = match self.sealing {
                Some(_) => self.queue.try_recv(),
                None => self.queue.recv().map_err(|_| TryRecvError::Disconnected),
            };
            match next {
                Ok(command) => self.serve(command),
                // Nobody asks: the head goes on into chunks. A failure ends that, until the file was read again.
                Err(TryRecvError::Empty) => drop(self.commit(Vec::new(), Vec::new(), 0, self.index.len())),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn serve(&mut self, command: Command) {
        if !self.loaded {
            self.load();
        }
        // Whoever asked may be gone; then the answer is for nobody.
        match command {
            Command::Append { brought, reply } => {
                if let Some(other) = self.append(brought, reply) {
                    self.serve(other);
                }
            }
            Command::Select { conditions, range, max_series, reply } => {
                let _gone = reply.send(self.select(&conditions, range, max_series));
            }
            Command::Find { conditions, limit, reply } => {
                let found = self.known().and_then(|index| found(index, index.select(&conditions), limit));
                let _gone = reply.send(found);
            }
            Command::Newest { conditions, by, limit, reply } => {
                let newest =
                    self.known().and_then(|index| found(index, index.newest(&conditions, &by), limit));
                let _gone = reply.send(newest);
            }
            Command::LabelNames { reply } => drop(reply.send(self.known().map(Index::label_names))),
            Command::LabelValues { name, conditions, reply } => {
                let _gone = reply.send(self.known().map(|index| index.label_values(&name, &conditions)));
            }
            Command::Finish { reply } => {
                let finished = self.known().map(|_| ());
                if finished.is_ok() {
                    self.finish();
                }
                let _gone = reply.send(finished);
            }
            // Of an older file, which is aside already: the present one is not to blame.
            Command::Failed { loading, .. } if loading != self.loading => {}
            Command::Failed { cause, .. } => {
                let failed = self.keeper.with(|_| Err::<(), _>(cause));
                self.after(failed);
            }
            #[cfg(test)]
            Command::Totals { reply } => {
                let _gone = reply.send(self.known().map(|_| (self.totals.clone(), self.head.len())));
            }
        }
    }

    /// The index, if it is what the file says.
    fn known(&self) -> Result<&Index, Error> {
        if self.loaded {
            Ok(&self.index)
        } else {
            Err(Error::Disk("the day's file cannot be read".to_owned()))
        }
    }

    /// Batches that are there share a commit; the first command of another kind is given back.
    fn append(
        &mut self,
        brought: Vec<Brought>,
        reply: oneshot::Sender<Result<Appended, Error>>,
    ) -> Option<Command> {
        if let Err(unknown) = self.known() {
            let _gone = reply.send(Err(unknown));
            return None;
        }
        let known = self.index.len();
        let (mut rows, mut group, mut accepted, mut other) = (Vec::new(), Vec::new(), 0, None);
        let mut next = Some((brought, reply));
        while let Some((brought, reply)) = next.take() {
            let appended = self.resolve(brought, &mut rows);
            accepted += appended.stored;
            group.push(Pending { appended, reply });
            if rows.len() < GROUP_SAMPLES {
                match self.queue.try_recv() {
                    Ok(Command::Append { brought, reply }) => next = Some((brought, reply)),
                    Ok(command) => other = Some(command),
                    Err(_) => {}
                }
            }
        }
        // Stable: of one time, the last that came wins.
        rows.sort_by_key(|(number, sample)| (*number, sample.at_ms));
        rows.dedup_by(|later, kept| {
            let same = (later.0, later.1.at_ms) == (kept.0, kept.1.at_ms);
            if same {
                *kept = *later;
            }
            same
        });
        // Who waits is told of a failure, and the store's state says why: no line in the log for each.
        drop(self.commit(rows, group, accepted, known));
        other
    }

    fn resolve(&mut self, brought: Vec<Brought>, rows: &mut Vec<Row>) -> Appended {
        let limits = Limits { all: self.config.max_series, of_source: self.config.max_series_per_source };
        let mut appended = Appended::default();
        let of_sources = brought.into_iter().flat_map(|Brought { source, series }| {
            series.into_iter().map(move |series| (Arc::clone(&source), series))
        });
        for (source, SeriesSamples { labels, samples }) in of_sources {
            let count = u64::try_from(samples.len()).unwrap_or(u64::MAX);
            match self.index.number(&labels, &source, limits) {
                Ok(number) => {
                    appended.stored += count;
                    rows.extend(samples.into_iter().map(|sample| (number, sample)));
                }
                Err(refused) => *appended.refused.entry(refused).or_default() += count,
            }
        }
        appended
    }

    /// Stores rows, and a part of the head in chunks; answers who waits.
    fn commit(
        &mut self,
        rows: Vec<Row>,
        group: Vec<Pending>,
        accepted: u64,
        known: usize,
    ) -> Result<(), disk::Error> {
        let seal = self.part_of_head();
        let sealed_up_to =
            self.sealing.as_ref().filter(|sealing| sealing.left.is_empty()).map(|sealing| sealing.up_to);
        let quick_repair = self.keeper.size_bytes() > QUICK_REPAIR_BYTES;
        let numbers = (known..self.index.len()).filter_map(|number| u32::try_from(number).ok());
        let new = numbers
            .filter_map(|number| Some((number, self.index.labels(number)?, self.index.source(number)?)));
        let commit =
            Commit { series: new.collect(), rows: &rows, accepted, seal: &seal, sealed_up_to, quick_repair };
        if commit.series.is_empty() && rows.is_empty() && seal.is_empty() && sealed_up_to.is_none() {
            answer(group, &Ok(()));
            return Ok(());
        }
        let done = self.keeper.with(|database| table::commit(database, &commit));
        drop(commit);
        match done {
            Ok(committed) => {
                self.metrics.commits.inc();
                self.metrics.damaged_chunks.inc_by(committed.damaged);
                self.totals = committed.totals;
                if sealed_up_to.is_some() {
                    self.sealing = None;
                    self.crowded = false;
                }
                self.keep(rows);
                self.health.works();
                answer(group, &Ok(()));
                Ok(())
            }
            Err(cause) => {
                let words = cause.to_string();
                self.after::<()>(Err(cause));
                answer(group, &Err(words.clone()));
                Err(disk::Error::Unavailable { name: "day".to_owned(), words, permanent: false })
            }
        }
    }

    fn part_of_head(&mut self) -> Vec<(u32, Vec<Sample>)> {
        let Some(sealing) = &mut self.sealing else { return Vec::new() };
        let at = sealing.left.len().saturating_sub(SEAL_AT_ONCE);
        let part = sealing.left.split_off(at);
        part.into_iter().map(|number| (number, self.head.take(number))).collect()
    }

    /// Stored rows are part of the head from now on; a head that is large enough goes into chunks.
    fn keep(&mut self, rows: Vec<Row>) {
        for (number, sample) in rows {
            self.head.insert(number, sample);
            self.index.seen(number, sample.at_ms);
            self.crowded |= self.head.len_of(number) >= MAX_OF_SERIES;
        }
        if self.sealing.is_none() && (self.crowded || self.head.len() >= self.config.max_head_samples) {
            self.sealing = Some(Sealing { left: self.head.numbers(), up_to: self.totals.last_tail() });
        }
    }

    fn select(
        &mut self,
        conditions: &Conditions,
        range: Range,
        max_series: usize,
    ) -> Result<Snapshot, Error> {
        let numbers = self.known()?.select(conditions);
        if numbers.len() > max_series {
            return Err(Error::TooMuch { what: "series", limit: max_series });
        }
        let opened = self.keeper.with(|database| Ok(database.begin_read()?));
        let file = self.after(opened).ok_or_else(|| Error::Disk("it cannot be read".to_owned()))?;
        let selected = |number| {
            let head = self.head.within(number, range).to_vec();
            Some(Selected { number, labels: Arc::new(self.index.labels(number)?), head })
        };
        Ok(Snapshot {
            loading: self.loading,
            file,
            series: numbers.into_iter().filter_map(selected).collect(),
        })
    }

    fn finish(&mut self) {
        if self.head.len() > 0 && self.sealing.is_none() {
            self.sealing = Some(Sealing { left: self.head.numbers(), up_to: self.totals.last_tail() });
        }
        while self.sealing.is_some() {
            if self.commit(Vec::new(), Vec::new(), 0, self.index.len()).is_err() {
                // What is in no chunk yet is in tails; the next time.
                return;
            }
        }
        let before_bytes = self.keeper.size_bytes();
        // Only a question that is being answered can be in the way; then it is done the next time.
        let compacted = self.keeper.with(|database| {
            while database.compact().unwrap_or(false) {}
            Ok(())
        });
        self.after(compacted);
        info!(before_bytes, after_bytes = self.keeper.size_bytes(), "a day of series is packed");
    }

    /// Reads what the file holds.
    fn load(&mut self) {
        let mut loaded = self.keeper.with(|database| table::load(database));
        if let Err(replaced @ disk::Error::Replaced { .. }) = &loaded {
            // A fresh file is there, and says so.
            self.note(replaced);
            loaded = self.keeper.with(|database| table::load(database));
        }
        let Some(loaded) = self.after(loaded) else { return };
        self.index = Index::default();
        self.head = Head::default();
        self.sealing = None;
        self.crowded = false;
        self.metrics.damaged_chunks.inc_by(loaded.damaged);
        for (labels, source, last_ms) in loaded.series {
            self.index.restore(&labels, &source, last_ms);
        }
        let known = self.index.len();
        // A number that names nothing could only come from a file that somebody wrote.
        let rows =
            loaded.rows.into_iter().filter(|(number, _)| usize::try_from(*number).is_ok_and(|n| n < known));
        self.totals = loaded.totals;
        self.keep(rows.collect());
        self.loaded = true;
        self.loading += 1;
    }

    /// After a failure memory is nothing to go by until it was read again.
    fn after<T>(&mut self, done: Result<T, disk::Error>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(cause) => {
                self.note(&cause);
                self.loaded = false;
                self.sealing = None;
                None
            }
        }
    }

    fn note(&self, cause: &disk::Error) {
        self.metrics.disk_errors.inc();
        if let disk::Error::Replaced { .. } = cause {
            self.metrics.damaged_files.inc();
            self.health.damaged(cause.to_string());
        } else {
            self.health.degraded(cause.to_string());
        }
    }
}

/// Series are numbers until it is known that they are few enough to be told.
fn found(index: &Index, numbers: Vec<u32>, limit: usize) -> Result<FoundSeries, Error> {
    if numbers.len() > limit {
        return Err(Error::TooMuch { what: "series", limit });
    }
    let one = |number| Some((Arc::new(index.labels(number)?), index.last_ms(number)?));
    Ok(numbers.into_iter().filter_map(one).collect())
}

fn answer(group: Vec<Pending>, done: &Result<(), String>) {
    for Pending { appended, reply } in group {
        let answer = done.as_ref().map(|()| appended).map_err(|words| Error::Disk(words.clone()));
        let _gone = reply.send(answer);
    }
}
