//! The thread that owns the journal: group commit, timestamps, ids, limits, expiry, and getting on after a fault.
//!
//! While one commit syncs, the next group gathers in the queue. A group is planned in memory, written in one transaction,
//! shown to everybody, and only then acknowledged. A group that the disk did not take was shown to nobody; what of it may
//! be in the file all the same is removed by the next one.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use redb::Database;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::history::{Query, Told};
use super::table::{self, Change};
use super::{Command, Row, Table};
use crate::disk;
use crate::disk::keeper::Keeper;
use crate::domain::source::Condition;
use crate::events::event::Checked;
use crate::events::progress::Progress;
use crate::events::window::{Event, Seq, Totals, Window};
use crate::events::{Accepted, Config, Error, Metrics, Shared, WallClock};

/// Beyond these a larger group gains nothing: the sync is no longer what costs.
const GROUP_POSTS: usize = 512;
const GROUP_EVENTS: usize = 4_096;

/// Events that expire in one transaction; more do with the next tick.
const EXPIRED_AT_ONCE: usize = 20_000;

/// How far a series' timestamps may run ahead of the clock: Prometheus refuses what is ten minutes ahead, and clocks differ.
const MAX_AHEAD_MS: i64 = 5 * 60 * 1_000;

type Reply<R> = oneshot::Sender<Result<R, Error>>;

pub(in crate::events) struct Worker {
    keeper: Keeper,
    queue: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    config: Config,
    metrics: Metrics,
    clock: WallClock,
    scrapers: Vec<(String, Progress)>,
    /// As they are in the file: a fresh one gets them, too.
    verified: HashMap<String, Row>,
    /// The file was read; else at the next use.
    loaded: bool,
    /// Rows from here on may be left of a transaction that failed.
    void_from: Option<Seq>,
    /// A fresh file is there, and lacks what is in memory.
    restate: bool,
    forwarded: Option<Seq>,
}

/// Requests that share a transaction.
#[derive(Default)]
struct Group {
    posts: Vec<(Vec<Checked>, Reply<Vec<Accepted>>)>,
    events: usize,
    rows: Vec<Row>,
    keepers: Vec<Reply<()>>,
    tick: bool,
}

/// What ends a group before it is full.
enum After {
    Nothing,
    History(Query, Reply<Vec<Told>>),
    Verified(String, Reply<Option<Vec<u8>>>),
    Close(Option<Reply<()>>),
}

impl Worker {
    pub(in crate::events) fn new(
        keeper: Keeper,
        queue: mpsc::Receiver<Command>,
        config: Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Self {
        let window = Window::new(1, Totals::default(), config.max_counted_series);
        let mut worker = Self {
            keeper,
            queue,
            shared: Arc::new(Shared::new(window)),
            config,
            metrics,
            clock,
            scrapers: Vec::new(),
            verified: HashMap::new(),
            loaded: false,
            void_from: None,
            restate: false,
            forwarded: None,
        };
        if let Some(replaced) = worker.keeper.take_replaced() {
            worker.note(&replaced);
        }
        // A disk that says no is asked again at the first use.
        let _degraded = worker.load();
        worker
    }

    pub(in crate::events) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// As an earlier process left them.
    pub(in crate::events) fn scrapers(&mut self) -> Vec<(String, Progress)> {
        std::mem::take(&mut self.scrapers)
    }

    pub(in crate::events) fn run(mut self) {
        loop {
            let (group, after) = self.gather();
            self.cycle(group);
            match after {
                After::Nothing => {}
                After::History(query, reply) => {
                    // Whoever asked may be gone.
                    let _gone = reply.send(self.history(&query));
                }
                After::Verified(name, reply) => {
                    let _gone = reply.send(self.verified(&name));
                }
                After::Close(reply) => {
                    self.queue.close();
                    self.write_forwarded();
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
                Ok(Command::Post { events, reply }) => {
                    group.events += events.len();
                    group.posts.push((events, reply));
                }
                Ok(Command::Keep { row, reply }) => {
                    group.rows.push(row);
                    group.keepers.push(reply);
                }
                Ok(Command::Tick) => group.tick = true,
                Ok(Command::Forwarded(seq)) => self.forwarded = Some(seq),
                Ok(Command::History { query, reply }) => return (group, After::History(query, reply)),
                Ok(Command::Verified { name, reply }) => return (group, After::Verified(name, reply)),
                Ok(Command::Close { reply }) => return (group, After::Close(Some(reply))),
                Err(mpsc::error::TryRecvError::Disconnected) => return (group, After::Close(None)),
                Err(mpsc::error::TryRecvError::Empty) => return (group, After::Nothing),
            }
            if group.posts.len() + group.rows.len() >= GROUP_POSTS || group.events >= GROUP_EVENTS {
                return (group, After::Nothing);
            }
            next = self.queue.try_recv();
        }
    }

    fn cycle(&mut self, group: Group) {
        let Group { posts, rows, keepers, tick, .. } = group;
        let has_work = tick || !posts.is_empty() || !rows.is_empty();
        if has_work && !self.loaded && self.load().is_err() {
            let words = "it could not be read yet";
            posts.into_iter().for_each(|(_, reply)| _ = reply.send(Err(Error::Disk(words.to_owned()))));
            keepers.into_iter().for_each(|reply| _ = reply.send(Err(Error::Disk(words.to_owned()))));
            return;
        }
        let mut plan = Plan::new(&self.shared.read(), &self.config, (self.clock)());
        let mut planned = Vec::with_capacity(posts.len());
        for (events, reply) in posts {
            match plan.post(&self.shared.read(), events) {
                Ok(accepted) => planned.push((accepted, reply)),
                Err(error) => _ = reply.send(Err(error)),
            }
        }
        let expired = if tick { self.expired() } else { self.shared.read().first() };
        let written = self.write(&plan.events, expired, &rows, tick);
        for (accepted, reply) in planned {
            let duplicates = accepted.iter().filter(|one| one.duplicate).count() as u64;
            if written.is_ok() {
                self.metrics.duplicates.inc_by(duplicates);
            }
            let _gone = reply.send(written.clone().map(|()| accepted));
        }
        for reply in keepers {
            let _gone = reply.send(written.clone());
        }
    }

    /// Position behind those that are past the window.
    fn expired(&self) -> Seq {
        let window = self.shared.read();
        let oldest_ms = ms((self.clock)()).saturating_sub(self.config.window_as_ms());
        window.end_of_older(oldest_ms).min(window.first() + EXPIRED_AT_ONCE as u64)
    }

    /// Writes, then shows.
    fn write(&mut self, events: &[Event], expired: Seq, rows: &[Row], tick: bool) -> Result<(), Error> {
        let expires = expired > self.shared.read().first();
        let forwards = tick && self.forwarded.is_some();
        if events.is_empty() && rows.is_empty() && !expires && !forwards {
            return Ok(());
        }
        let mut result = self.commit(events, expired, rows);
        if let Err(disk::Error::Replaced { .. }) = result {
            // Nothing was done yet, and a fresh file is there: it gets what is in memory, too.
            result = self.commit(events, expired, rows);
        }
        if let Err(cause) = result {
            self.void_from = Some(self.shared.read().end());
            return Err(Error::Disk(cause.to_string()));
        }
        self.void_from = None;
        self.restate = false;
        self.forwarded = None;
        let verified = rows.iter().filter(|row| row.table == Table::Verified);
        self.verified.extend(verified.map(|row| (row.key.clone(), row.clone())));
        self.recovered();
        self.show(events, expired);
        Ok(())
    }

    fn commit(&mut self, events: &[Event], expired: Seq, rows: &[Row]) -> Result<(), disk::Error> {
        let shared = Arc::clone(&self.shared);
        let window = shared.read();
        let totals = window.totals_if(self.restate);
        let verified: Vec<_> = self.verified.values().filter(|_| self.restate).cloned().collect();
        let expired = window.range(window.first(), expired);
        let mut change = Change {
            void_from: self.void_from.unwrap_or(0),
            first: window.end(),
            events: events.iter().collect(),
            expired: expired.map(|(seq, event)| (seq, event, window.is_counted(&event.series))).collect(),
            max_history: self.config.max_history,
            rows: rows.iter().collect(),
            forwarded: self.forwarded,
            totals: totals.as_ref().map(|totals| (totals, &*window)),
        };
        if self.restate {
            change.first = window.first();
            change.events = window.range(0, Seq::MAX).map(|(_, event)| event).chain(events).collect();
            change.rows = verified.iter().chain(rows).collect();
        }
        self.metrics.commits.inc();
        self.with(|database| table::apply(database, &change))
    }

    fn show(&mut self, events: &[Event], expired: Seq) {
        let end = {
            let mut window = self.shared.window.write().unwrap_or_else(PoisonError::into_inner);
            let first = window.first();
            let read = self.shared.delivered.load(Ordering::Relaxed).clamp(first, expired.max(first));
            self.metrics.expired(true, read - first);
            self.metrics.expired(false, expired.saturating_sub(read));
            window.expire(expired);
            events.iter().for_each(|event| window.push(event.clone()));
            self.metrics.held.set(gauge(window.len() as u64));
            self.metrics.size_bytes.set(gauge(window.size_bytes() as u64));
            self.metrics.uncounted.set(gauge(window.uncounted()));
            window.end()
        };
        self.metrics.accepted.inc_by(events.len() as u64);
        self.metrics.file_bytes.set(gauge(self.keeper.size_bytes()));
        self.shared.end.send_if_modified(|shown| std::mem::replace(shown, end) != end);
    }

    fn history(&mut self, query: &Query) -> Result<Vec<Told>, Error> {
        let mut found: Vec<_> = {
            let window = self.shared.read();
            let newest = window.range(0, Seq::MAX).rev();
            newest.filter_map(|(_, event)| query.matches(event)).take(query.limit).collect()
        };
        if found.len() < query.limit {
            let rest = Query { limit: query.limit - found.len(), ..query.clone() };
            let older = self.with(|database| table::history(database, &rest));
            found.extend(older.map_err(|cause| Error::Disk(cause.to_string()))?);
        }
        Ok(found)
    }

    /// As it is in the file: a disk that cannot be read yet does not make a scraper a new one.
    fn verified(&mut self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        if !self.loaded {
            self.load().map_err(|cause| Error::Disk(cause.to_string()))?;
        }
        Ok(self.verified.get(name).map(|row| row.bytes.clone()))
    }

    fn write_forwarded(&mut self) {
        if self.forwarded.is_some() {
            // What the disk does not take is forwarded again.
            let _again = self.write(&[], 0, &[], true);
        }
    }

    fn load(&mut self) -> Result<(), disk::Error> {
        let config = self.config.clone();
        let mut loaded = self.with(|database| table::load(database, &config));
        if let Err(disk::Error::Replaced { .. }) = loaded {
            loaded = self.with(|database| table::load(database, &config));
        }
        let loaded = loaded?;
        self.scrapers = loaded.scrapers;
        self.verified = loaded.verified.into_iter().map(|row| (row.key.clone(), row)).collect();
        *self.shared.window.write().unwrap_or_else(PoisonError::into_inner) = loaded.window;
        self.loaded = true;
        let first = self.shared.read().first();
        self.show(&[], first);
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
            let held = self.shared.read().len();
            error!(held, "journal of events was damaged, starting a fresh one: {words}");
            self.metrics.damaged_files.inc();
            self.restate = self.loaded;
            self.shared.health.send_modify(|health| health[0].lacks = vec![words]);
            return;
        }
        if self.shared.health.borrow()[0].condition != Condition::Degraded {
            warn!("journal of events is degraded: {words}");
        }
        self.shared.health.send_modify(|health| {
            health[0].condition = Condition::Degraded;
            health[0].last_error = Some(words);
        });
    }

    fn recovered(&self) {
        if self.shared.health.borrow()[0].condition == Condition::Degraded {
            info!("journal takes events again");
            self.shared.health.send_modify(|health| {
                health[0].condition = Condition::Up;
                health[0].last_error = None;
            });
        }
    }
}

/// What a group adds, before it is on disk.
struct Plan<'a> {
    config: &'a Config,
    now_ms: i64,
    events: Vec<Event>,
    size_bytes: usize,
    last_ts_ms: HashMap<Arc<str>, i64>,
    ids: HashMap<Arc<str>, usize>,
    held: usize,
}

impl<'a> Plan<'a> {
    fn new(window: &Window, config: &'a Config, now_ns: i64) -> Self {
        Self {
            config,
            now_ms: ms(now_ns),
            events: Vec::new(),
            size_bytes: window.size_bytes(),
            last_ts_ms: HashMap::new(),
            ids: HashMap::new(),
            held: window.len(),
        }
    }

    /// All events of a post, or none.
    fn post(&mut self, window: &Window, events: Vec<Checked>) -> Result<Vec<Accepted>, Error> {
        let (start, size_bytes) = (self.events.len(), self.size_bytes);
        let accepted = events.into_iter().map(|event| self.event(window, event)).collect::<Result<_, _>>();
        if accepted.is_err() {
            self.undo(start, size_bytes);
        }
        accepted
    }

    fn event(&mut self, window: &Window, event: Checked) -> Result<Accepted, Error> {
        if let Some(id) = &event.id {
            let planned = self.ids.get(&**id).and_then(|at| self.events.get(*at));
            if let Some(known) = planned.or_else(|| window.of_id(id)) {
                let same = *known.series == *event.series && known.value.to_bits() == event.value.to_bits();
                return if same {
                    Ok(Accepted { ts_ms: known.ts_ms, duplicate: true })
                } else {
                    Err(Error::Conflict(id.clone()))
                };
            }
        }
        let Config { max_events, max_size_bytes, .. } = *self.config;
        if self.held + self.events.len() >= max_events || self.size_bytes >= max_size_bytes {
            let (held, size_bytes) = (self.held, self.size_bytes);
            return Err(Error::Full { held, size_bytes, window_ms: self.config.window_as_ms() });
        }
        let series: Arc<str> = event.series.into();
        let last = self.last_ts_ms.get(&series).copied().or_else(|| window.last_ts_ms(&series));
        let ts_ms = last.map_or(self.now_ms, |last| self.now_ms.max(last.saturating_add(1)));
        let ahead_ms = ts_ms.saturating_sub(self.now_ms);
        if ahead_ms > MAX_AHEAD_MS {
            return Err(Error::Ahead { series: series.to_string(), ahead_ms });
        }
        let id: Option<Arc<str>> = event.id.map(Into::into);
        if let Some(id) = &id {
            self.ids.insert(Arc::clone(id), self.events.len());
        }
        self.last_ts_ms.insert(Arc::clone(&series), ts_ms);
        let event = Event { ts_ms, value: event.value, series, id };
        self.size_bytes += event.cost();
        self.events.push(event);
        Ok(Accepted { ts_ms, duplicate: false })
    }

    /// Takes back what a refused post had planned.
    fn undo(&mut self, start: usize, size_bytes: usize) {
        for event in self.events.drain(start..).rev() {
            if let Some(id) = &event.id {
                self.ids.remove(id);
            }
            // Not before the one that was there: its timestamp was behind that one's.
            self.last_ts_ms.insert(event.series, event.ts_ms - 1);
        }
        self.size_bytes = size_bytes;
    }
}

fn ms(ns: i64) -> i64 {
    ns.div_euclid(1_000_000)
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
