//! One-shot events: each said once, and exactly one sample of it in every Prometheus that scrapes.
//!
//! Invariants:
//! - an event is accepted when the transaction that holds it is synced, and shown to nobody before;
//! - no two samples have the same series and timestamp: a timestamp is the time of the post, or the one behind the
//!   series' last;
//! - scraping consumes nothing. In event time the samples of a window are sent until they are proven read, and again on
//!   every new connection: a time series database keeps one of equal samples, so that repeating is free;
//! - a connection proves that a body was read to its end only by its next request, and what was read is sent once more,
//!   because read is not stored;
//! - a series' samples go out oldest first, and none is skipped: behind a newer one an older one is refused;
//! - what cannot be written without breaking a whole exposition is refused when it is posted;
//! - nothing is dropped to make room: at a limit posts are refused, counted, and told why;
//! - where a scraper can be asked what it stored, it is sent nothing more before it has answered, and never on a guess;
//! - an event is in memory once, whatever the number of scrapers.
//!
//! [`journal`] is the file and its thread, [`window`] what of it is in memory, [`session`], [`scraper`] and [`verified`]
//! who was sent what, [`text`] how it is written.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub mod config;
pub mod event;
mod journal;
mod metrics;
mod progress;
mod scraper;
pub mod session;
pub mod text;
mod verified;
mod window;

#[cfg(test)]
mod tests;

pub use self::config::{Config, Mode, Promise};
pub use self::event::{Checked, Invalid, NewEvent};
pub use self::journal::history::{Query, Told};
use self::journal::{Command, worker::Worker};
pub use self::metrics::Metrics;
use self::scraper::Scrapers;
pub use self::session::{Scrape, Session};
pub use self::text::Batch;
use self::verified::Lanes;
pub use self::window::Totals;
use self::window::Window;
pub use self::window::{Event, Seq};
use crate::disk;
use crate::disk::keeper::Keeper;
use crate::disk::medium::{File, Medium};
use crate::domain::source::{Condition, SourceHealth};

/// Wall time, ns since the epoch.
pub type WallClock = fn() -> i64;

/// File of the journal inside the data directory.
pub const FILE_NAME: &str = "events.redb";

/// Posts that may wait for the disk: twice as many as there are connections.
const QUEUE_POSTS: usize = 1_024;

/// Between two looks for what is past the window.
const TICK: Duration = Duration::from_secs(1);

/// Why events were not taken, or cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("events: {0}")]
    Config(String),
    /// The file cannot be opened.
    #[error("events: {0}")]
    Open(String),
    /// There is nowhere to keep them.
    #[error("events cannot be kept here: {0}")]
    Off(String),
    /// As many are held as may be.
    #[error(
        "{held} events of {size_bytes} bytes wait to be {window_ms} ms old: no more are taken until then"
    )]
    Full {
        /// Events.
        held: usize,
        /// Their bytes.
        size_bytes: usize,
        /// The window.
        window_ms: i64,
    },
    /// A series had more events than milliseconds.
    #[error(
        "`{series}` had more events than milliseconds: its timestamps are {ahead_ms} ms ahead of the clock"
    )]
    Ahead {
        /// The series.
        series: String,
        /// By how much.
        ahead_ms: i64,
    },
    /// The same id came with another event.
    #[error("the id {0:?} was another event's")]
    Conflict(String),
    /// Posts come faster than the disk takes them.
    #[error("too many posts wait for the disk")]
    Busy,
    /// The disk does not take them.
    #[error("the disk does not take events: {0}")]
    Disk(String),
    /// The role is stopping.
    #[error("events are closed")]
    Closed,
}

impl Error {
    /// A closed set of words for the counter of refused events.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) | Self::Open(_) | Self::Off(_) => "off",
            Self::Full { .. } => "full",
            Self::Ahead { .. } => "ahead",
            Self::Conflict(_) => "conflict",
            Self::Busy => "busy",
            Self::Disk(_) => "disk",
            Self::Closed => "closed",
        }
    }
}

/// What became of one event of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its timestamp, ms since the epoch.
    pub ts_ms: i64,
    /// It was there before.
    pub duplicate: bool,
}

/// Handle of the events; clones share them.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    config: Config,
    metrics: Metrics,
    shared: Arc<Shared>,
    scrapers: Mutex<Scrapers>,
    lanes: Lanes,
    journal: Result<mpsc::Sender<Command>, String>,
}

/// What the thread of the journal shows to everybody.
pub(crate) struct Shared {
    window: RwLock<Window>,
    health: watch::Sender<Vec<SourceHealth>>,
    end: watch::Sender<Seq>,
    /// Some scraper has read everything before.
    delivered: AtomicU64,
}

impl Shared {
    fn new(window: Window) -> Self {
        let health = SourceHealth { name: "events", condition: Condition::Up, ..SourceHealth::default() };
        let end = watch::Sender::new(window.end());
        let health = watch::Sender::new(vec![health]);
        Self { window: RwLock::new(window), health, end, delivered: AtomicU64::new(0) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Window> {
        // Nothing can panic while it is written to that would leave it half done.
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Events {
    /// Opens `events.redb` in `directory`, made if missing. A damaged file is set aside and said so in the health; a
    /// full disk leaves the events degraded until space returns.
    ///
    /// Blocks: every page is verified.
    ///
    /// # Errors
    /// [`Error::Config`]; [`Error::Open`]: another process has it, rights are missing, no thread.
    pub fn open(
        directory: &Path,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        Self::open_on(File::new(directory, FILE_NAME), config, metrics, clock)
    }

    /// As [`Events::open`], on any medium.
    ///
    /// # Errors
    /// As [`Events::open`].
    pub fn open_on(
        medium: impl Medium,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        config.check().map_err(Error::Config)?;
        let lanes = Lanes::of(config, clock)?;
        let open = |error: disk::Error| Error::Open(error.to_string());
        let keeper = Keeper::open(medium, config.cache_bytes, journal::table::prepare).map_err(open)?;
        let (commands, queue) = mpsc::channel(QUEUE_POSTS);
        let mut worker = Worker::new(keeper, queue, config.clone(), metrics.clone(), clock);
        let scrapers = (Scrapers::of(worker.scrapers()), lanes);
        let shared = worker.shared();
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| Error::Open(format!("cannot start its thread: {error}")))?;
        Ok(Self::new(config, metrics, shared, scrapers, Ok(commands)))
    }

    /// On a disk that ends with the test.
    #[cfg(test)]
    pub(crate) fn in_memory(clock: WallClock) -> Self {
        let disk = crate::disk::faulty::Disk::default();
        let opened = Self::open_on(disk.connect(), &Config::default(), Metrics::default(), clock);
        opened.expect("an empty disk")
    }

    /// Where no file can be: nothing is taken, and whoever asks is told why.
    #[must_use]
    pub fn off(why: String, config: &Config, metrics: Metrics) -> Self {
        let shared = Arc::new(Shared::new(Window::default()));
        shared.health.send_modify(|health| {
            health[0].condition = Condition::Off;
            health[0].lacks = vec![why.clone()];
        });
        Self::new(config, metrics, shared, Default::default(), Err(why))
    }

    fn new(
        config: &Config,
        metrics: Metrics,
        shared: Arc<Shared>,
        (scrapers, lanes): (Scrapers, Lanes),
        journal: Result<mpsc::Sender<Command>, String>,
    ) -> Self {
        shared.health.send_modify(|health| health.extend(lanes.health()));
        let scrapers = Mutex::new(scrapers);
        Self(Arc::new(Inner { config: config.clone(), metrics, shared, scrapers, lanes, journal }))
    }

    /// How they are kept and sent.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Takes all events, or none: returns when they are synced.
    ///
    /// # Errors
    /// Any [`Error`]; what was refused is counted by its reason.
    pub async fn post(&self, events: Vec<Checked>) -> Result<Vec<Accepted>, Error> {
        let count = events.len();
        let (reply, answer) = oneshot::channel();
        let posted = async {
            let journal = self.0.journal.as_ref().map_err(|why| Error::Off(why.clone()))?;
            journal.try_send(Command::Post { events, reply }).map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Busy,
                mpsc::error::TrySendError::Closed(_) => Error::Closed,
            })?;
            answer.await.map_err(|_| Error::Closed)?
        };
        posted.await.inspect_err(|error| self.0.metrics.refused(error.reason(), count))
    }

    /// Counts events that were refused for what they are.
    pub fn refused_invalid(&self, count: usize) {
        self.0.metrics.refused("invalid", count);
    }

    /// What a request for the exposition gets.
    pub async fn scrape(&self, session: &Session, scrape: Scrape<'_>) -> Batch {
        let config = &self.0.config;
        if !scrape.is_scraper {
            self.0.metrics.scrape("peek");
            return self.0.shared.read().peek(config.peek_samples, config.mode == Mode::EventTime);
        }
        match config.mode {
            Mode::EventTime => session.scrape(&self.0.shared, config, &self.0.metrics, &scrape),
            Mode::ScrapeTime if config.promise == Promise::ExactlyOnce => {
                verified::scrape(self, scrape.scraper).await
            }
            Mode::ScrapeTime => self.scrape_time(session, &scrape).await,
        }
    }

    /// Counters of what was ever said, as the exposition shows them.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.0.shared.read().totals()
    }

    /// Whether the file takes events, for `/readyz` and `/status`.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Vec<SourceHealth>> {
        self.0.shared.health.subscribe()
    }

    /// What was said, newest first.
    ///
    /// # Errors
    /// [`Error::Off`], [`Error::Disk`], [`Error::Closed`].
    pub async fn history(&self, query: Query) -> Result<Vec<Told>, Error> {
        self.ask(|reply| Command::History { query, reply }).await
    }

    /// Events that were not forwarded yet, oldest first, at most `max`, and the number behind the last. Waits for one.
    pub async fn next_to_forward(&self, after: Seq, max: usize) -> (Vec<Event>, Seq) {
        let mut end = self.0.shared.end.subscribe();
        loop {
            if *end.borrow_and_update() > after {
                let found = self.0.shared.read().from(after, max);
                if !found.0.is_empty() {
                    return found;
                }
            }
            if end.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Where forwarding goes on after a restart.
    #[must_use]
    pub fn forwarded(&self) -> Seq {
        self.0.shared.read().forwarded
    }

    /// Everything before `seq` was forwarded; written with the next tick.
    pub fn forwarded_up_to(&self, seq: Seq) {
        if let Ok(journal) = &self.0.journal {
            // A full queue: the next word says more.
            let _full = journal.try_send(Command::Forwarded(seq));
        }
    }

    /// Lets events expire until `stop`; then closes the file.
    pub async fn keep_time(&self, stop: CancellationToken) {
        let Ok(journal) = &self.0.journal else { return stop.cancelled().await };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            // A full queue: the next tick does.
            let _full = journal.try_send(Command::Tick);
        }
    }

    /// Writes what is queued, closes the file and ends the thread. Later posts answer [`Error::Closed`].
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _closed = self.ask(|reply| Command::Close { reply }).await;
    }

    async fn scrape_time(&self, session: &Session, scrape: &Scrape<'_>) -> Batch {
        let Inner { config, metrics, shared, scrapers, .. } = &*self.0;
        let sent = {
            let mut scrapers = scrapers.lock().unwrap_or_else(PoisonError::into_inner);
            scrapers.scrape(&shared.read(), config, metrics, (session.id(), scrape))
        };
        let Some(sent) = sent else { return Batch::default() };
        // What was promised before a kill is kept after it.
        match self.ask(|reply| Command::Keep { row: sent.row, reply }).await {
            Ok(()) => sent.batch,
            Err(_) if config.promise == Promise::AtLeastOnce => sent.batch,
            Err(_) => Batch::default(),
        }
    }

    async fn ask<R>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<R, Error>>) -> Command,
    ) -> Result<R, Error> {
        let journal = self.0.journal.as_ref().map_err(|why| Error::Off(why.clone()))?;
        let (reply, answer) = oneshot::channel();
        journal.send(command(reply)).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
