//! Time series on disk, or in another store: what the receiver's answers and alerts are made of.
//!
//! Invariants:
//! - what was appended is on disk (or its store proved that it has it) before the answer; queryable at that moment;
//! - `appended = stored + refused`, each refusal with its reason; a sample that is there already is stored, not doubled;
//! - one timestamp of a series has one value: the one that came last;
//! - a question has a limit for its series and its samples, and beyond it no answer, rather than a part of one;
//! - the same question has the same answer in every engine: buckets are made here ([`crate::domain::series::Bucketed`]),
//!   not there.
//!
//! There are two engines: [`embedded`], a file for each day, and [`remote`], any store that speaks Prometheus' protocols.

pub mod embedded;
mod gathered;
pub mod limit;
mod metrics;
pub mod remote;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::embedded::Embedded;
pub use self::metrics::Metrics;
use self::remote::Remote;
use crate::domain::series::{Aggregation, Labels, Range, Selection, SeriesSamples};

/// What became of what was appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Samples that are stored, those included that were there already.
    pub stored: u64,
    /// Samples that are not, by reason (a closed set of words, [`Refused`]).
    pub refused: BTreeMap<Refused, u64>,
}

/// The receiver itself as a source: what it says of its nodes is bounded by them, and has no limit of its own.
pub const OURSELVES: &str = "";

/// What one source brought.
#[derive(Clone, Debug)]
pub struct Brought {
    /// A node, a host, a key's name; or [`OURSELVES`].
    pub source: Arc<str>,
    /// In any order.
    pub series: Vec<SeriesSamples>,
}

/// Why a sample is not stored. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refused {
    /// One series more than the store keeps of a day.
    SeriesLimit,
    /// One series more than this source may have.
    SourceSeriesLimit,
    /// Of a time before any that is stored.
    TooOld,
    /// Further in the future than a clock may be wrong.
    TooNew,
    /// The store that it was sent to refuses it.
    ByStore,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::SeriesLimit, Self::SourceSeriesLimit, Self::TooOld, Self::TooNew, Self::ByStore];

    /// Its word in labels and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SeriesLimit => "series_limit",
            Self::SourceSeriesLimit => "source_series_limit",
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::ByStore => "by_store",
        }
    }
}

/// A question for samples.
#[derive(Clone, Debug)]
pub struct Query {
    /// Of which series.
    pub selection: Selection,
    /// From when to when.
    pub range: Range,
    /// In buckets of so many ms, each one value; raw samples without it.
    pub buckets: Option<(i64, Aggregation)>,
    /// More series than this are an error.
    pub max_series: usize,
    /// More samples in the answer than this are an error.
    pub max_samples: usize,
}

/// Why there is no answer, or why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be.
    #[error("series: {0}")]
    Config(String),
    /// A file cannot be opened; see [`crate::disk::Error`].
    #[error("series: {0}")]
    Open(#[from] crate::disk::Error),
    /// A thread could not be started.
    #[error("series: cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A question that makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A question with too large an answer.
    #[error("more than {limit} {what}; ask for less, or for wider buckets")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Samples come faster than they are stored.
    #[error("the store of series is behind")]
    Busy,
    /// The disk does not take it.
    #[error("disk of the series: {0}")]
    Disk(String),
    /// The other store does not answer, or not as it should; try again.
    #[error("store of the series: {0}")]
    Remote(String),
    /// The receiver is stopping.
    #[error("the store of series is closed")]
    Closed,
}

impl From<limit::Over> for Error {
    fn from(over: limit::Over) -> Self {
        Self::TooMuch { what: over.what, limit: over.limit }
    }
}

/// A series that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub labels: Arc<Labels>,
    /// When its last sample is, ms since the epoch.
    pub last_ms: i64,
}

/// See [`Series::newest`].
fn newest_of(found: &[Found], by: &[&str]) -> Vec<Found> {
    fn rank(one: &Found) -> (i64, Reverse<(&str, &Labels)>) {
        (one.last_ms, Reverse((one.labels.metric(), &one.labels)))
    }
    let mut newest: HashMap<Vec<&str>, &Found> = HashMap::new();
    for one in found {
        let values = by.iter().map(|label| one.labels.get(label).unwrap_or_default()).collect();
        let known = newest.entry(values).or_insert(one);
        if rank(one) > rank(known) {
            *known = one;
        }
    }
    newest.into_values().cloned().collect()
}

/// State of the store.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Why nothing is stored at present.
    pub degraded: Option<String>,
    /// The last damage found, and where the damaged file is.
    pub damage: Option<String>,
}

/// A clock may be ahead by so much: a sample that is further ahead is refused, and would make a file of a day to come.
pub const MAX_AHEAD_MS: i64 = 3_600_000;

/// Wall time, ns since the epoch; the application stamps it.
pub type WallClock = fn() -> i64;

/// Where series are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// On this machine's own disk.
    #[default]
    Embedded,
    /// In another store.
    Remote,
}

/// Settings of `[series]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which of the two.
    pub engine: EngineKind,
    /// The engine on this machine's own disk.
    pub embedded: embedded::Config,
    /// The way to another store.
    pub remote: remote::Config,
}

impl Config {
    /// Everything that cannot be, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        self.embedded.check().map_err(|words| format!("embedded: {words}"))?;
        match self.engine {
            EngineKind::Embedded => Ok(()),
            EngineKind::Remote => self.remote.check().map_err(|words| format!("remote: {words}")),
        }
    }
}

/// Handle of the store; clones share it.
#[derive(Clone, Debug)]
pub struct Series {
    engine: Engine,
    metrics: Metrics,
}

#[derive(Clone, Debug)]
enum Engine {
    Embedded(Embedded),
    Remote(Arc<Remote>),
}

/// Does the same with either engine.
macro_rules! with {
    ($series:expr, $engine:ident => $does:expr) => {
        match &$series.engine {
            Engine::Embedded($engine) => $does,
            Engine::Remote($engine) => $does,
        }
    };
}

impl Series {
    /// Opens the store: the files in `directory`, or the way to another store.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Open`], [`Error::Thread`].
    pub async fn open(
        directory: &Path,
        config: &Config,
        metrics: Metrics,
        clock: WallClock,
    ) -> Result<Self, Error> {
        let engine = match config.engine {
            EngineKind::Embedded => {
                Engine::Embedded(Embedded::open(directory, &config.embedded, metrics.clone(), clock).await?)
            }
            EngineKind::Remote => {
                Engine::Remote(Arc::new(Remote::new(&config.remote, &metrics.remote, clock)?))
            }
        };
        Ok(Self { engine, metrics })
    }

    /// Stores samples that `source` (a node, a key's name) brought, in any order; answers when they are on disk.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::Disk`], [`Error::Remote`], [`Error::Closed`]: some of it may be stored then, and once
    /// more is no harm.
    pub async fn append(&self, source: &str, series: Vec<SeriesSamples>) -> Result<Appended, Error> {
        self.append_all(vec![Brought { source: source.into(), series }]).await
    }

    /// Stores what several sources brought, with one commit.
    ///
    /// # Errors
    /// Those of [`Self::append`].
    pub async fn append_all(&self, brought: Vec<Brought>) -> Result<Appended, Error> {
        let appended = match &self.engine {
            Engine::Embedded(embedded) => embedded.append(brought).await?,
            // The other store knows no sources.
            Engine::Remote(remote) => {
                let batch = brought.into_iter().flat_map(|brought| brought.series).collect();
                remote.append(batch).await?
            }
        };
        self.metrics.appended(&appended);
        Ok(appended)
    }

    /// The samples of a question, by labels; ascending within each series.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::TooMuch`], [`Error::Busy`], [`Error::Disk`], [`Error::Remote`], [`Error::Closed`].
    pub async fn read(&self, query: &Query) -> Result<Vec<SeriesSamples>, Error> {
        with!(self, engine => engine.read(query).await)
    }

    /// Series that were there on the days of a range, by labels; more than `limit` are an error.
    ///
    /// # Errors
    /// As [`Series::read`].
    pub async fn find(&self, selection: &Selection, range: Range, limit: usize) -> Result<Vec<Found>, Error> {
        with!(self, engine => engine.find(selection, range, limit).await)
    }

    /// Of the series of a selection that share the values of the labels `by`, the one that was seen last (of several, the
    /// first by metric and labels), in any order; more than `limit` are an error.
    ///
    /// # Errors
    /// As [`Series::read`].
    pub async fn newest(
        &self,
        selection: &Selection,
        range: Range,
        by: &[&str],
        limit: usize,
    ) -> Result<Vec<Found>, Error> {
        match &self.engine {
            Engine::Embedded(embedded) => embedded.newest(selection, range, by, limit).await,
            Engine::Remote(remote) => Ok(newest_of(&remote.find(selection, range, limit).await?, by)),
        }
    }

    /// Names of labels on the days of a range.
    ///
    /// # Errors
    /// As [`Series::read`].
    pub async fn label_names(&self, range: Range) -> Result<BTreeSet<String>, Error> {
        with!(self, engine => engine.label_names(range).await)
    }

    /// Values of a label among some series on the days of a range.
    ///
    /// # Errors
    /// As [`Series::read`].
    pub async fn label_values(
        &self,
        name: &str,
        selection: &Selection,
        range: Range,
    ) -> Result<BTreeSet<String>, Error> {
        with!(self, engine => engine.label_values(name, selection, range).await)
    }

    /// Does what has its time until the token is cancelled.
    pub async fn keep_time(&self, stop: CancellationToken) {
        match &self.engine {
            Engine::Embedded(engine) => engine.keep_time(stop).await,
            Engine::Remote(_) => stop.cancelled().await,
        }
    }

    /// The files that [`Series::reload`] reads: a token's, certificates.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.engine {
            Engine::Embedded(_) => Vec::new(),
            Engine::Remote(engine) => engine.files(),
        }
    }

    /// Reads its files again.
    ///
    /// # Errors
    /// [`Error::Config`]: what is wrong with them; then everything stays as it was.
    pub fn reload(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Embedded(_) => Ok(()),
            Engine::Remote(engine) => engine.reload(),
        }
    }

    /// The present state, and every later one.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        with!(self, engine => engine.status())
    }

    /// Everything into its smallest form on this disk now; days that are over come to it by themselves.
    pub async fn pack_all(&self) {
        match &self.engine {
            Engine::Embedded(engine) => engine.pack_all().await,
            Engine::Remote(_) => {}
        }
    }

    /// Ends in order.
    pub async fn close(&self) {
        if let Engine::Embedded(engine) = &self.engine {
            engine.close().await;
        }
    }
}
