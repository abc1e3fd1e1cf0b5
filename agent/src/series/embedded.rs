//! The engine on this machine's own disk: one redb file for each day, `series/2026-11-22.redb`.
//!
//! - [`open`] which days are open
//! - [`day`] one of them; [`worker`] its thread: commits, and when they have grown, chunks
//! - [`index`] which series there are; [`head`] samples that are in no chunk yet
//! - [`table`] the file; [`chunk`] samples in few bytes
//! - [`gather`] what was read, put together over days
//!
//! A day that nobody needs is closed; what is older than is kept goes with its file.

mod chunk;
mod conditions;
mod config;
mod day;
mod gather;
mod head;
mod index;
mod open;
mod shelf;
mod symbols;
mod table;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore, oneshot, watch};
use tracing::warn;

use self::conditions::Conditions;
pub use self::config::Config;
use self::day::Command;
use self::gather::Gather;
use self::open::Open;
use self::shelf::{DAY_MS, Shelf};
use super::{
    Appended, Brought, Error, Found, MAX_AHEAD_MS, Metrics, Query, Refused, Status, WallClock, newest_of,
};
use crate::domain::series::{Range, Sample, Selection, SeriesSamples};

/// Directory of the days inside the data directory.
pub const DIRECTORY: &str = "series";

/// Questions read at once: each has a thread, and the samples that it may have.
const READERS: usize = 4;

/// What the days' threads say of themselves.
#[derive(Clone, Debug)]
struct Health(Arc<watch::Sender<Status>>);

impl Health {
    fn works(&self) {
        self.0.send_if_modified(|status| status.degraded.take().is_some());
    }

    fn degraded(&self, words: String) {
        if self.0.borrow().degraded.is_none() {
            warn!("the store of series is degraded: {words}");
        }
        self.0.send_modify(|status| status.degraded = Some(words));
    }

    fn damaged(&self, words: String) {
        tracing::error!("a day of series was damaged, starting a fresh one: {words}");
        self.0.send_modify(|status| status.damage = Some(words));
    }
}

/// Handle of the engine; clones share it.
#[derive(Clone)]
pub struct Embedded(Arc<Shared>);

struct Shared {
    shelf: Shelf,
    config: Config,
    metrics: Metrics,
    health: Health,
    clock: WallClock,
    open: Mutex<BTreeMap<i64, Open>>,
    readers: Arc<Semaphore>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the days in `directory`, made if missing; only the newest is read.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Open`], [`Error::Thread`].
    pub async fn open(
        directory: &Path,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        config.check().map_err(Error::Config)?;
        let shelf = Shelf::open(&directory.join(DIRECTORY))?;
        let newest = shelf.days()?.last().copied();
        let this = Self(Arc::new(Shared {
            shelf,
            config: config.clone(),
            metrics,
            health: Health(Arc::new(watch::Sender::new(Status::default()))),
            clock,
            open: Mutex::default(),
            readers: Arc::new(Semaphore::new(READERS)),
        }));
        if let Some(newest) = newest {
            this.day(newest, false).await?;
        }
        Ok(this)
    }

    /// Stores samples; see [`super::Series::append_all`].
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Disk`], [`Error::Closed`]: some of it may be stored then, and once more is no harm.
    pub async fn append(&self, brought: Vec<Brought>) -> Result<Appended, Error> {
        let mut appended = Appended::default();
        let mut days: BTreeMap<i64, Vec<Brought>> = BTreeMap::new();
        for Brought { source, series } in brought {
            for (day, series) in self.by_day(series, &mut appended) {
                days.entry(day).or_default().push(Brought { source: Arc::clone(&source), series });
            }
        }
        let mut answers = Vec::new();
        for (day, brought) in days {
            let (reply, answer) = oneshot::channel();
            let Some(day) = self.day(day, true).await? else { continue };
            day.send(Command::Append { brought, reply })?;
            answers.push(answer);
        }
        for answer in answers {
            let of_day = answer.await.map_err(|_| Error::Closed)??;
            appended.stored += of_day.stored;
            for (refused, count) in of_day.refused {
                *appended.refused.entry(refused).or_default() += count;
            }
        }
        Ok(appended)
    }

    /// Samples by day; those of times that are not kept are refused.
    fn by_day(
        &self,
        batch: Vec<SeriesSamples>,
        appended: &mut Appended,
    ) -> BTreeMap<i64, Vec<SeriesSamples>> {
        let stored = self.stored();
        let mut days: BTreeMap<i64, Vec<SeriesSamples>> = BTreeMap::new();
        for SeriesSamples { labels, mut samples } in batch {
            samples.retain(|sample| match Refused::of_time(sample.at_ms, stored) {
                None => true,
                Some(refused) => {
                    *appended.refused.entry(refused).or_default() += 1;
                    false
                }
            });
            let of = |sample: &Sample| sample.at_ms.div_euclid(DAY_MS);
            let Some(first) = samples.first().map(of) else { continue };
            if samples.iter().all(|sample| of(sample) == first) {
                days.entry(first).or_default().push(SeriesSamples { labels, samples });
                continue;
            }
            let mut split: BTreeMap<i64, Vec<Sample>> = BTreeMap::new();
            samples.into_iter().for_each(|sample| split.entry(of(&sample)).or_default().push(sample));
            for (day, samples) in split {
                days.entry(day).or_default().push(SeriesSamples { labels: labels.clone(), samples });
            }
        }
        days
    }

    /// Times that are stored: all since the epoch, and what a clock that is a little ahead says.
    fn stored(&self) -> Range {
        Range { from_ms: 0, to_ms: self.now_ms() + MAX_AHEAD_MS }
    }

    fn now_ms(&self) -> i64 {
        (self.0.clock)().div_euclid(1_000_000)
    }

    /// Answers a question; see [`super::Series::read`].
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooMuch`], [`Error::Busy`], [`Error::Disk`], [`Error::Closed`].
    pub async fn read(&self, query: &Query) -> Result<Vec<SeriesSamples>, Error> {
        let conditions = Conditions::of(&query.selection)?;
        let mut reader = Arc::clone(&self.0.readers).acquire_owned().await.map_err(|_| Error::Closed)?;
        let mut gather = Gather::new(query);
        for number in self.days_within(query.range)? {
            let Some(day) = self.day(number, false).await? else { continue };
            let (reply, answer) = oneshot::channel();
            let (conditions, range) = (conditions.clone(), query.range);
            day.send(Command::Select { conditions, range, max_series: query.max_series, reply })?;
            let snapshot = answer.await.map_err(|_| Error::Closed)??;
            let loading = snapshot.loading;
            // Whoever asked may go away meanwhile: the reading goes on, and so it is still one of those.
            let reading = tokio::task::spawn_blocking(move || {
                let read = gather.take(&snapshot);
                // Before the day may be closed.
                drop(snapshot);
                (reader, gather, read)
            });
            let read;
            (reader, gather, read) = reading.await.map_err(|cause| Error::Disk(cause.to_string()))?;
            match read {
                Ok(damaged) => drop(self.0.metrics.damaged_chunks.inc_by(damaged)),
                Err(gather::Failure::TooMuch(limit)) => {
                    return Err(Error::TooMuch { what: "samples", limit });
                }
                Err(gather::Failure::Disk(cause)) => {
                    let words = cause.to_string();
                    day.send(Command::Failed { loading, cause })?;
                    return Err(Error::Disk(words));
                }
            }
        }
        gather.finish()
    }

    /// Series that were there on the days of a range, by labels.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooMuch`], [`Error::Busy`], [`Error::Disk`], [`Error::Closed`].
    pub async fn find(&self, selection: &Selection, range: Range, limit: usize) -> Result<Vec<Found>, Error> {
        let conditions = Conditions::of(selection)?;
        let mut all = BTreeMap::new();
        for number in self.days_within(range)? {
            let conditions = conditions.clone();
            let found = self.ask(number, |reply| Command::Find { conditions, limit, reply }).await?;
            for (labels, last_ms) in found.into_iter().flatten() {
                all.insert(labels, last_ms);
                if all.len() > limit {
                    return Err(Error::TooMuch { what: "series", limit });
                }
            }
        }
        let found = all.into_iter().map(|(labels, last_ms)| Found { labels, last_ms });
        Ok(found.collect())
    }

    /// See [`super::Series::newest`].
    ///
    /// # Errors
    /// Those of [`Self::find`].
    pub async fn newest(
        &self,
        selection: &Selection,
        range: Range,
        by: &[&str],
        limit: usize,
    ) -> Result<Vec<Found>, Error> {
        let conditions = Conditions::of(selection)?;
        let mut newest = Vec::new();
        for number in self.days_within(range)? {
            let (conditions, by_owned) = (conditions.clone(), by.iter().map(ToString::to_string).collect());
            let of_day =
                self.ask(number, |reply| Command::Newest { conditions, by: by_owned, limit, reply }).await?;
            let others = !newest.is_empty();
            newest.extend(of_day.into_iter().flatten().map(|(labels, last_ms)| Found { labels, last_ms }));
            if others {
                newest = newest_of(&newest, by);
            }
            if newest.len() > limit {
                return Err(Error::TooMuch { what: "series", limit });
            }
        }
        Ok(newest)
    }

    /// Names of labels on the days of a range.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Disk`], [`Error::Closed`].
    pub async fn label_names(&self, range: Range) -> Result<BTreeSet<String>, Error> {
        let mut all = BTreeSet::new();
        for number in self.days_within(range)? {
            all.extend(self.ask(number, |reply| Command::LabelNames { reply }).await?.into_iter().flatten());
        }
        Ok(all)
    }

    /// Values of a label among some series on the days of a range.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Busy`], [`Error::Disk`], [`Error::Closed`].
    pub async fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        range: Range,
    ) -> Result<BTreeSet<String>, Error> {
        let conditions = Conditions::of(selection)?;
        let mut all = BTreeSet::new();
        for number in self.days_within(range)? {
            let (name, conditions) = (name.to_owned(), conditions.clone());
            let values = self.ask(number, |reply| Command::LabelValues { name, conditions, reply }).await?;
            all.extend(values.into_iter().flatten());
        }
        Ok(all)
    }

    /// The present state, and every later one.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.health.0.subscribe()
    }

    /// Closes every day; what was answered is on disk already.
    pub async fn close(&self) {
        let all = std::mem::take(&mut *self.0.open.lock().await);
        // Joining its thread is no work for a runtime's.
        let _joined = tokio::task::spawn_blocking(move || drop(all)).await;
    }

    async fn ask<R>(
        &self,
        day: i64,
        command: impl FnOnce(oneshot::Sender<Result<R, Error>>) -> Command,
    ) -> Result<Option<R>, Error> {
        let Some(day) = self.day(day, false).await? else { return Ok(None) };
        let (reply, answer) = oneshot::channel();
        day.send(command(reply))?;
        answer.await.map_err(|_| Error::Closed)?.map(Some)
    }

    fn days_within(&self, range: Range) -> Result<Vec<i64>, Error> {
        let (from, to) = (range.from_ms.div_euclid(DAY_MS), range.to_ms.div_euclid(DAY_MS));
        Ok(self.0.shelf.days()?.into_iter().filter(|day| (from..=to).contains(day)).collect())
    }
}

impl Refused {
    /// Which of a batch's times may be stored.
    fn of_time(at_ms: i64, stored: Range) -> Option<Self> {
        if at_ms < stored.from_ms {
            Some(Self::TooOld)
        } else {
            (at_ms > stored.to_ms).then_some(Self::TooNew)
        }
    }
}
