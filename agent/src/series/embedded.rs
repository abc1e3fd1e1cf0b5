//! The engine on this machine's own disk: one redb file for each day, `series/2026-11-22.redb`.
//!
//! - [`day`] a day's thread: commits, and when they have grown, chunks
//! - [`index`] which series there are; [`head`] samples that are in no chunk yet
//! - [`table`] the file; [`chunk`] samples in few bytes
//! - [`gather`] what was read, put together over days
//!
//! A day that nobody needs is closed; what is older than is kept goes with its file.

mod chunk;
mod day;
mod gather;
mod head;
mod index;
mod shelf;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore, oneshot, watch};
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::day::{Command, Day};
use self::gather::Gather;
use self::index::Conditions;
use self::shelf::{DAY_MS, Shelf};
use super::{Appended, Error, Found, MAX_AHEAD_MS, Metrics, Query, Refused, Status, WallClock};
use crate::domain::series::{Range, Sample, Selection, SeriesSamples};

/// Directory of the days inside the data directory.
pub const DIRECTORY: &str = "series";

/// Days open at once: today, yesterday, and those that questions are about.
const MAX_OPEN: usize = 8;

/// A day that was not needed for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// After its end a day takes what comes late for so long before it is packed.
const LATE_MS: i64 = 3_600_000;

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(20);

/// Questions read at once: each has a thread, and the samples that it may have.
const READERS: usize = 4;

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Days that samples are kept, 1 to 3650. What comes later than its day is kept as long from then on: an old file that
    /// is replayed can be looked at.
    pub retention_days: u32,
    /// Bytes of all days' files, beyond which the oldest days go; today's is kept whatever its size. At least 16 MiB.
    pub max_size_bytes: u64,
    /// Series of one day; samples of others are refused, and counted.
    pub max_series: usize,
    /// Series of one day that one source (a node, or a key's name) may bring.
    pub max_series_per_source: usize,
    /// Samples in memory before they go into chunks; 16 bytes each.
    pub max_head_samples: usize,
    /// Memory for a file's pages, bytes.
    pub cache_bytes: usize,
    /// A day's file up to so many bytes is verified whole when it is opened, at some 300 MB a second.
    pub verify_up_to_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // What the reference stack's store was told to keep.
            retention_days: 30,
            // A month of 10,000 samples a second at a byte and a half would be 39 GB: who has that says so.
            max_size_bytes: 20 << 30,
            // 200,000 series are some 150 MB of memory.
            max_series: 200_000,
            // A node of 500 pods has some 10,000.
            max_series_per_source: 20_000,
            max_head_samples: 1_000_000,
            cache_bytes: 8 << 20,
            verify_up_to_bytes: 64 << 20,
        }
    }
}

impl Config {
    /// Everything that cannot be, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name}: {value} is outside {min} to {max}"))
            }
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        within("retention_days", self.retention_days.into(), 1, 3_650)?;
        within("max_size_bytes", self.max_size_bytes, 16 << 20, u64::MAX)?;
        within("max_series", size(self.max_series), 1, 10_000_000)?;
        within("max_series_per_source", size(self.max_series_per_source), 1, 10_000_000)?;
        within("max_head_samples", size(self.max_head_samples), 1, 100_000_000)?;
        within("cache_bytes", size(self.cache_bytes), 0, 1 << 30)
    }
}

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

struct Open {
    day: Arc<Day>,
    used_at: Instant,
    packed: bool,
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

    /// Stores samples; see [`super::Series::append`].
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Disk`], [`Error::Closed`]: some of it may be stored then, and once more is no harm.
    pub async fn append(&self, source: &str, batch: Vec<SeriesSamples>) -> Result<Appended, Error> {
        let mut appended = Appended::default();
        let source: Arc<str> = source.into();
        let mut answers = Vec::new();
        for (day, batch) in self.by_day(batch, &mut appended) {
            let (reply, answer) = oneshot::channel();
            let Some(day) = self.day(day, true).await? else { continue };
            day.send(Command::Append { source: Arc::clone(&source), batch, reply })?;
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
        let _reader = self.0.readers.acquire().await.map_err(|_| Error::Closed)?;
        let mut gather = Gather::new(query);
        for number in self.days_within(query.range)? {
            let Some(day) = self.day(number, false).await? else { continue };
            let (reply, answer) = oneshot::channel();
            let (conditions, range) = (conditions.clone(), query.range);
            day.send(Command::Select { conditions, range, max_series: query.max_series, reply })?;
            let snapshot = answer.await.map_err(|_| Error::Closed)??;
            let read = tokio::task::spawn_blocking(move || {
                let read = gather.take(&snapshot);
                // Before the day may be closed.
                drop(snapshot);
                (gather, read)
            });
            let (back, read) = read.await.map_err(|cause| Error::Disk(cause.to_string()))?;
            gather = back;
            match read {
                Ok(damaged) => drop(self.0.metrics.damaged_chunks.inc_by(damaged)),
                Err(gather::Failure::TooMuch(limit)) => {
                    return Err(Error::TooMuch { what: "samples", limit });
                }
                Err(gather::Failure::Disk(cause)) => {
                    let words = cause.to_string();
                    day.send(Command::Failed(cause))?;
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
            let found = self.ask(number, |reply| Command::Find { conditions, reply }).await?;
            for (labels, last_ms) in found.into_iter().flatten() {
                all.insert(labels, last_ms);
                if all.len() > limit {
                    return Err(Error::TooMuch { what: "series", limit });
                }
            }
        }
        let found = all.into_iter().map(|(labels, last_ms)| Found { labels: (*labels).clone(), last_ms });
        Ok(found.collect())
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

    /// Lets days go and closes those that are not needed, until the token is cancelled.
    pub async fn keep_time(&self, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.let_go().await;
            self.pack().await;
            self.close_idle(IDLE).await;
        }
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

    /// A day, opened if it is not; `None` if there is none and none is to be made.
    async fn day(&self, number: i64, make: bool) -> Result<Option<Arc<Day>>, Error> {
        let mut open = self.0.open.lock().await;
        if let Some(known) = open.get_mut(&number) {
            known.used_at = Instant::now();
            // What comes late is packed too, in its turn.
            known.packed &= !make;
            return Ok(Some(Arc::clone(&known.day)));
        }
        if !make && !self.0.shelf.has(number) {
            return Ok(None);
        }
        if open.len() >= MAX_OPEN {
            close_some(&mut open, |_| true, 1).await;
        }
        let shared = Arc::clone(&self.0);
        let opened = tokio::task::spawn_blocking(move || {
            let medium = shared.shelf.medium(number);
            Day::open(medium, &shared.config, shared.metrics.clone(), shared.health.clone())
        });
        let day = Arc::new(opened.await.map_err(|_| Error::Closed)??);
        open.insert(number, Open { day: Arc::clone(&day), used_at: Instant::now(), packed: false });
        Ok(Some(day))
    }

    /// Days older than are kept, and the oldest beyond the limit on bytes.
    async fn let_go(&self) {
        let kept_ms = i64::from(self.0.config.retention_days) * DAY_MS;
        let first_ms = self.now_ms() - kept_ms;
        let is_over = |day: i64| (day + 1) * DAY_MS <= first_ms && self.0.shelf.made_at_ms(day) <= first_ms;
        let Ok(mut days) = self.0.shelf.days() else { return };
        let newest = days.pop();
        let mut size_bytes = days.iter().chain(&newest).map(|day| self.0.shelf.size_bytes(*day)).sum::<u64>();
        for day in days {
            if !is_over(day) && size_bytes <= self.0.config.max_size_bytes {
                continue;
            }
            let mut open = self.0.open.lock().await;
            close_some(&mut open, |number| number == day, 1).await;
            if open.contains_key(&day) {
                // Somebody reads it; the next time.
                continue;
            }
            let of_day = self.0.shelf.size_bytes(day);
            match self.0.shelf.remove(day) {
                Ok(()) => {
                    info!(day = shelf::name(day), size_bytes = of_day, "a day of series is over its time");
                    self.0.metrics.expired_days.inc();
                    size_bytes -= of_day;
                }
                Err(cause) => warn!(day = shelf::name(day), %cause, "a day of series cannot be removed"),
            }
        }
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.0.metrics.file_bytes.set(gauge(size_bytes));
    }

    /// Days that are over go into chunks whole.
    async fn pack(&self) {
        let now_ms = self.now_ms();
        self.finish(|day| (day + 1).saturating_mul(DAY_MS) + LATE_MS < now_ms).await;
    }

    /// Every open day goes into chunks whole.
    pub async fn pack_all(&self) {
        self.finish(|_| true).await;
    }

    async fn finish(&self, which: impl Fn(i64) -> bool) {
        let due: Vec<_> = {
            let mut open = self.0.open.lock().await;
            let due = open.iter_mut().filter(|(day, open)| which(**day) && !open.packed);
            due.map(|(_, open)| {
                open.packed = true;
                Arc::clone(&open.day)
            })
            .collect()
        };
        for day in due {
            let (reply, answer) = oneshot::channel();
            if day.send(Command::Finish { reply }).is_ok() {
                let _gone = answer.await;
            }
        }
    }

    async fn close_idle(&self, idle: Duration) {
        let mut open = self.0.open.lock().await;
        let Some(newest) = open.keys().last().copied() else { return };
        let old: BTreeSet<_> = open
            .iter()
            .filter(|(day, open)| **day != newest && open.used_at.elapsed() >= idle)
            .map(|(day, _)| *day)
            .collect();
        close_some(&mut open, |day| old.contains(&day), MAX_OPEN).await;
    }
}

/// Closes days that nobody has in hand, those first that were not needed for longest.
async fn close_some(open: &mut BTreeMap<i64, Open>, which: impl Fn(i64) -> bool, most: usize) {
    let free = open.iter().filter(|(day, open)| which(**day) && Arc::strong_count(&open.day) == 1);
    let mut free: Vec<_> = free.map(|(day, open)| (open.used_at, *day)).collect();
    free.sort_unstable();
    let gone: Vec<_> = free.into_iter().take(most).filter_map(|(_, day)| open.remove(&day)).collect();
    let _joined = tokio::task::spawn_blocking(move || drop(gone)).await;
}
