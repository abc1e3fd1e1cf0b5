//! One anomaly from the request to its undo, as everybody is told of it.

use super::{Asked, Kind};

/// Points kept of one anomaly: at one a second ten minutes; a longer one has every second, every fourth.
pub const MAX_POINTS: usize = 600;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// A dry run: nothing was started.
    Planned,
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
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Ended => "ended",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// Something of it may still be on the node.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::Undoing)
    }
}

/// What it took in the time before a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Since the start, s.
    pub at_s: f64,
    /// Percent of one core, all workers together.
    pub percent: f64,
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
    /// What was asked for.
    pub asked: Asked,
    /// How it stands.
    pub state: State,
    /// Why it is not running any more, or cannot.
    pub reason: Option<String>,
    /// Wall time, ns since the epoch.
    pub started_at_ns: i64,
    /// Wall time of its undo, ns since the epoch.
    pub ended_at_ns: Option<i64>,
    /// Percent of one core that was asked of all workers together; after a ramp.
    pub asked_percent: f64,
    /// Percent of one core since the start, all workers together; none before the first report.
    pub achieved_percent: Option<f64>,
    /// The same over time.
    pub achieved: Vec<Point>,
    /// Its plan.
    pub steps: Vec<StepRecord>,
}

impl Anomaly {
    /// Adds what was achieved, thinning out when there are too many.
    pub fn push(&mut self, point: Point) {
        if self.achieved.len() >= MAX_POINTS {
            let mut keep = false;
            self.achieved.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.achieved.push(point);
    }
}
