//! One anomaly from the request to its undo, as everybody is told of it.

use std::collections::BTreeMap;

use super::{Kind, Schedule, Strength, Target};

/// Points kept of one anomaly: at one a second ten minutes; a longer one has every second, every fourth.
pub const MAX_POINTS: usize = 600;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// A dry run: nothing was started.
    Planned,
    /// Its time has not come, or not come again.
    Scheduled,
    /// At work.
    Running,
    /// Over, but something of it could not be undone yet: tried again until it is.
    Undoing,
    /// Its time was over; undone.
    Ended,
    /// Somebody stopped it; undone.
    Stopped,
    /// It could not begin, or ended before its time; undone.
    Failed,
    /// The node ended beneath it: what was left was removed when the next one started.
    Aborted,
}

impl State {
    /// Word for JSON, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Ended => "ended",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// It is not over: something of it is or will be on the node.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Scheduled | Self::Running | Self::Undoing)
    }
}

/// What an anomaly's amounts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// CPU time, percent of one core.
    PercentOfCore,
    /// Bytes that are held.
    Bytes,
    /// Bytes/s that are read and written.
    BytesPerS,
    /// Operations/s.
    OperationsPerS,
    /// Threads that stand still, or processes that were sent a signal.
    Tasks,
    /// Limits that are set.
    Limits,
    /// Delay of packets, ms.
    Ms,
    /// Bits/s that pass.
    BitsPerS,
    /// Of the packets that fit.
    PercentLost,
    /// Of the packets that fit.
    PercentDuplicated,
    /// Of the packets that fit.
    PercentCorrupted,
}

impl Unit {
    /// Word for JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PercentOfCore => "percent_of_core",
            Self::Bytes => "bytes",
            Self::BytesPerS => "bytes_per_s",
            Self::OperationsPerS => "operations_per_s",
            Self::Tasks => "tasks",
            Self::Limits => "limits",
            Self::Ms => "ms",
            Self::BitsPerS => "bits_per_s",
            Self::PercentLost => "percent_lost",
            Self::PercentDuplicated => "percent_duplicated",
            Self::PercentCorrupted => "percent_corrupted",
        }
    }

    /// Every unit.
    const ALL: [Self; 11] = [
        Self::PercentOfCore,
        Self::Bytes,
        Self::BytesPerS,
        Self::OperationsPerS,
        Self::Tasks,
        Self::Limits,
        Self::Ms,
        Self::BitsPerS,
        Self::PercentLost,
        Self::PercentDuplicated,
        Self::PercentCorrupted,
    ];

    /// The unit of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }
}

/// What it achieved in the time before a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Since the start, s.
    pub at_s: f64,
    /// All workers together.
    pub value: f64,
}

/// One step of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// What it does.
    pub does: String,
    /// What undoes it.
    pub undo: String,
    /// It was done.
    pub done: bool,
    /// It was undone, and that was checked.
    pub undone: bool,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// Names it in every request.
    pub id: String,
    /// What.
    pub kind: Kind,
    /// Where.
    pub target: Target,
    /// How strong; none for one that an earlier life of the node left.
    pub strength: Option<Strength>,
    /// How long, s.
    pub duration_s: f64,
    /// How long it takes to full strength, s.
    pub ramp_s: f64,
    /// When.
    pub schedule: Option<Schedule>,
    /// How it stands.
    pub state: State,
    /// Why it is not running any more, or cannot.
    pub reason: Option<String>,
    /// Wall time of the request, ns since the epoch.
    pub asked_at_ns: i64,
    /// Wall time of its latest beginning, ns since the epoch.
    pub started_at_ns: Option<i64>,
    /// Wall time of its undo, ns since the epoch.
    pub ended_at_ns: Option<i64>,
    /// Runs that began.
    pub runs: u32,
    /// What the amounts are.
    pub unit: Unit,
    /// What was asked of all workers together; after a ramp.
    pub amount: f64,
    /// What all workers achieve: of a rate since the start, of a level now; none before the first report.
    pub achieved: Option<f64>,
    /// The same over time.
    pub points: Vec<Point>,
    /// What else its workers say, by name.
    pub details: BTreeMap<String, u64>,
    /// Its plan.
    pub steps: Vec<StepRecord>,
}

impl Anomaly {
    /// Adds what was achieved, thinning out when there are too many.
    pub fn push(&mut self, point: Point) {
        if self.points.len() >= MAX_POINTS {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.points.push(point);
    }
}
