//! Workloads: load that a person asks for, as checked values, and what it said of itself.
//!
//! A load is a sysbench script against the database, or one of our own generators ([`Builtin`]) for nodes without one.
//! Both report in the same figures: events (transactions) a second, their latency, and for databases queries.

pub mod figures;

pub use figures::{Figures, KindSums, Point, Queries, Totals};

/// Threads of one workload: the reference's limit.
pub const MAX_THREADS: u32 = 64;
/// Points kept of one workload: at one a second ten minutes; a longer one has every second, every fourth.
pub const MAX_POINTS: usize = 600;
/// Shorter than this, a load ends before its first report.
pub const MIN_DURATION_S: u32 = 2;
/// Events a second: more than any one node can do is a typing error.
pub const MAX_RATE: u32 = 1_000_000;

/// Scripts that sysbench brings, by their names.
const OLTP: [&str; 8] = [
    "oltp_read_write",
    "oltp_read_only",
    "oltp_write_only",
    "oltp_delete",
    "oltp_insert",
    "oltp_point_select",
    "oltp_update_index",
    "oltp_update_non_index",
];

/// Loads that need nothing but this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Builtin {
    /// Pairs of threads that wake each other: an event is a round trip.
    PingPong,
    /// Processes that are started and end at once: an event is one of them.
    ForkStorm,
    /// Threads that compute for five milliseconds and sleep as long: an event is a burst.
    CpuBurst,
    /// Threads that compute without end: an event is a piece of work of a millisecond or so.
    Batch,
}

impl Builtin {
    const ALL: [Self; 4] = [Self::PingPong, Self::ForkStorm, Self::CpuBurst, Self::Batch];

    /// Word for JSON, labels and arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PingPong => "ping_pong",
            Self::ForkStorm => "fork_storm",
            Self::CpuBurst => "cpu_burst",
            Self::Batch => "batch",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Makes the tables of the others.
    Prepare,
    /// A script of sysbench.
    Oltp(&'static str),
    /// One of our own.
    Builtin(Builtin),
}

impl Kind {
    /// Word for JSON, labels and ids.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Oltp(name) => name,
            Self::Builtin(one) => one.name(),
        }
    }

    /// The load of this name; [`Self::Prepare`] is none.
    pub fn named(name: &str) -> Option<Self> {
        let oltp = OLTP.into_iter().find(|one| *one == name).map(Self::Oltp);
        oltp.or_else(|| Builtin::named(name).map(Self::Builtin))
    }

    /// Every name there is, for an error.
    pub fn names() -> String {
        let all = OLTP.into_iter().chain(Builtin::ALL.into_iter().map(Builtin::name));
        all.collect::<Vec<_>>().join(", ")
    }
}

/// A load that was asked for, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What.
    pub kind: Kind,
    /// Connections, threads or pairs of threads.
    pub threads: u32,
    /// How long, s; none: as long as the node's operator allows.
    pub duration_s: Option<u32>,
    /// Events a second, all threads together; none: as many as go.
    pub rate: Option<u32>,
}

/// The tables that are asked for, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// How many.
    pub count: u32,
    /// Rows of each.
    pub rows: u32,
    /// Drop those that are there.
    pub recreate: bool,
}

/// How far a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The database is made.
    CreatingDb,
    /// Its tables are made.
    Preparing,
    /// At work.
    Running,
    /// Over.
    Stopped,
}

impl Phase {
    /// Word for JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreatingDb => "creating_db",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// At work.
    Running,
    /// Told to end.
    Stopping,
    /// Somebody stopped it.
    Stopped,
    /// Its time was over, or its work done.
    Ended,
    /// It could not begin, or ended before its time.
    Failed,
}

impl State {
    /// What becomes of a workload in the end.
    pub const OVER: [Self; 3] = [Self::Stopped, Self::Ended, Self::Failed];

    /// Word for JSON, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }

    /// A process of it may be there.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Stopping)
    }
}

/// How far the making of tables is: each is created, filled and given an index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Steps that have begun.
    pub begun: u32,
    /// Steps in all.
    pub of: u32,
    /// The latest, in sysbench's words.
    pub step: String,
}

/// One workload from its start to its end, as everybody is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Names it in every request: `<kind>_<YYYYMMDD>_<HHMMSS>` (UTC), or `prepare`.
    pub id: String,
    /// What.
    pub kind: Kind,
    /// Connections, threads or pairs of threads.
    pub threads: u32,
    /// When it ends by itself, s after its start.
    pub duration_s: u32,
    /// Events a second that were asked for.
    pub rate: Option<u32>,
    /// How it stands.
    pub state: State,
    /// How far it is.
    pub phase: Phase,
    /// How far the making of tables is.
    pub progress: Option<Progress>,
    /// Why it is over.
    pub reason: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// Wall time, ns since the epoch.
    pub started_at_ns: i64,
    /// Wall time, ns since the epoch.
    pub ended_at_ns: Option<i64>,
    /// The latest report.
    pub latest: Option<Figures>,
    /// The reports over time.
    pub series: Vec<Point>,
    /// The sum of all reports.
    pub totals: Totals,
}

impl Workload {
    /// Takes in a report; the time that it covers, s. One whose time stands or goes back is none.
    pub fn push(&mut self, figures: Figures) -> Option<u32> {
        let before_s = self.latest.map_or(0, |latest| latest.at_s);
        let interval_s = figures.at_s.checked_sub(before_s).filter(|s| *s > 0)?;
        self.totals.add(&figures, interval_s);
        if self.series.len() >= MAX_POINTS {
            let mut keep = false;
            self.series.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.series.push(figures.point());
        self.latest = Some(figures);
        Some(interval_s)
    }
}

#[cfg(test)]
mod tests;
