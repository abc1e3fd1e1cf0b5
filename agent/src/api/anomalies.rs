//! Anomalies on the wire: `/api/v1/anomalies` in full, `/api/anomaly/*` as clients of the reference backend speak it.
//!
//! Durations are seconds. What a strength says depends on the kind: [`strength`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339_seconds;
use crate::domain::action::{self, Anomaly, Asked, Kind};
use crate::domain::event::AnomalyEvent;

pub mod reference;
pub mod strength;

use strength::Strength;

/// As the reference runs its own: ten minutes.
const DEFAULT_DURATION_S: f64 = 600.0;
/// What is done in no time is over as soon as anything is.
const MOMENT_S: f64 = 1.0;

/// What is wrong with a request before its numbers are looked at.
pub type Wrong = action::Invalid;

/// Where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AnomalyTarget)]
pub enum Target {
    /// The whole node.
    Node,
    /// `NAMESPACE/NAME` or uid.
    Pod(String),
    /// Id, or the beginning of one.
    Container(String),
    /// Path below the cgroup root.
    Cgroup(String),
    /// A process.
    Pid(u32),
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnomalySchedule)]
pub struct Schedule {
    /// Until the first run, s.
    #[serde(default)]
    pub delay: f64,
    /// Between the beginnings of two runs, s; at least the duration.
    #[serde(default)]
    pub every: f64,
    /// Runs in all.
    #[serde(default = "once")]
    pub runs: u32,
}

const fn once() -> u32 {
    1
}

/// What `POST /api/v1/anomalies` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AnomalyRequest)]
pub struct Request {
    /// `cpu`, `memory`, `disk`, `network` or `process`.
    pub kind: String,
    /// Where.
    pub target: Target,
    /// How strong: the shape for the kind.
    #[schema(value_type = Strength)]
    pub strength: serde_json::Value,
    /// How long, s; 600 by default, 1 for what is done in no time.
    #[serde(default)]
    pub duration: Option<f64>,
    /// Time to full strength, s, within the duration.
    #[serde(default)]
    pub ramp: f64,
    /// When; once and at once by default.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// Also where it would make the kernel eject the node's scheduler.
    #[serde(default)]
    pub force: bool,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Request {
    /// What is asked for.
    ///
    /// # Errors
    /// A kind that there is not, or a strength of another shape.
    pub fn asked(&self) -> Result<Asked, Wrong> {
        let Some(kind) = Kind::named(&self.kind) else {
            return Err(Wrong { field: "kind", why: format!("{:?} is none of {}", self.kind, kinds()) });
        };
        let strength = strength::of(kind, &self.strength)?;
        let moment = matches!(strength, action::Strength::Process(action::Process::Kill(_)));
        Ok(Asked {
            target: (&self.target).into(),
            strength,
            duration_s: self.duration.unwrap_or(if moment { MOMENT_S } else { DEFAULT_DURATION_S }),
            ramp_s: self.ramp,
            schedule: self.schedule.map(|schedule| action::Schedule {
                delay_s: schedule.delay,
                every_s: schedule.every,
                runs: schedule.runs,
            }),
            force: self.force,
        })
    }
}

fn kinds() -> String {
    Kind::ALL.map(Kind::name).join(", ")
}

/// What was achieved in the time before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyPoint)]
pub struct Point {
    /// Since the start of the run, s.
    pub at_s: f64,
    /// In the anomaly's unit, all workers together.
    pub value: f64,
}

/// A step of a plan and its undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyStep)]
pub struct Step {
    /// What it does.
    pub does: String,
    /// What undoes it.
    pub undo: String,
    /// It was done.
    pub done: bool,
    /// It was undone, and that was checked.
    pub undone: bool,
}

/// An anomaly as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyView)]
pub struct View {
    /// Names it.
    pub id: String,
    /// `cpu`, `memory`, `disk`, `network` or `process`.
    pub kind: String,
    /// Where.
    pub target: Target,
    /// As asked for; null for one that an earlier life of the node left.
    pub strength: Option<Strength>,
    /// As asked for, s.
    pub duration: f64,
    /// As asked for, s.
    pub ramp: f64,
    /// As asked for.
    pub schedule: Option<Schedule>,
    /// `planned`, `scheduled`, `running`, `undoing`, `ended`, `stopped`, `failed` or `aborted`.
    pub state: String,
    /// Why it is over.
    pub reason: Option<String>,
    /// Wall time of the request.
    pub asked_at: String,
    /// Wall time of the latest beginning.
    pub started_at: Option<String>,
    /// Wall time of its undo.
    pub ended_at: Option<String>,
    /// Runs that began.
    pub runs: u32,
    /// What the amounts are: `percent_of_core`, `bytes`, `bytes_per_s`, `operations_per_s`, `tasks`, `limits`, `ms`,
    /// `bits_per_s`, `percent_lost`, `percent_duplicated` or `percent_corrupted`.
    pub unit: String,
    /// What was asked of all workers together, after a ramp.
    pub asked: f64,
    /// What they achieve: of a rate since the start, of a level now; null before the first report.
    pub achieved: Option<f64>,
    /// The same over time; at most 600 points.
    pub points: Vec<Point>,
    /// What else its workers say.
    pub details: BTreeMap<String, u64>,
    /// What was done, and what became of it.
    pub steps: Vec<Step>,
}

/// A record: an anomaly began, or is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyEvent)]
pub struct Event {
    /// Wall time, ns since the epoch.
    pub at_ns: i64,
    /// Names it.
    pub id: String,
    /// `cpu`, `memory`, `disk`, `network` or `process`.
    pub kind: String,
    /// Where, in words.
    pub target: String,
    /// `running`, or how it ended.
    pub state: String,
    /// What the amounts are.
    pub unit: String,
    /// What was asked for.
    pub asked: f64,
    /// What was achieved; null before the first report.
    pub achieved: Option<f64>,
    /// Why it is over.
    pub reason: Option<String>,
}

/// `GET /api/v1/nodes/{node}/anomalies` at the receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeAnomalies {
    /// The node's name.
    pub node: String,
    /// The last beginnings and ends, oldest first.
    pub events: Vec<Event>,
}

impl From<AnomalyEvent> for Event {
    fn from(event: AnomalyEvent) -> Self {
        let AnomalyEvent { at_ns, id, kind, target, state, unit, amount, achieved, reason } = event;
        let (kind, state, unit) = (kind.to_owned(), state.to_owned(), unit.to_owned());
        Self { at_ns, id, kind, target, state, unit, asked: amount, achieved, reason }
    }
}

/// What `GET /api/v1/anomalies` answers, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyList)]
pub struct List {
    /// They may be provoked.
    pub enabled: bool,
    /// Why not, and how to allow it.
    pub off_because: Option<String>,
    /// Those that are active, and the last that were.
    pub anomalies: Vec<View>,
}

/// What `DELETE /api/v1/anomalies` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyStoppedAll)]
pub struct StoppedAll {
    /// How many were active.
    pub stopped: usize,
}

impl From<&Anomaly> for View {
    fn from(anomaly: &Anomaly) -> Self {
        let step = |step: &action::StepRecord| Step {
            does: step.does.clone(),
            undo: step.undo.clone(),
            done: step.done,
            undone: step.undone,
        };
        let schedule =
            |it: action::Schedule| Schedule { delay: it.delay_s, every: it.every_s, runs: it.runs };
        Self {
            id: anomaly.id.clone(),
            kind: anomaly.kind.name().to_owned(),
            target: (&anomaly.target).into(),
            strength: anomaly.strength.as_ref().map(Strength::from),
            duration: anomaly.duration_s,
            ramp: anomaly.ramp_s,
            schedule: anomaly.schedule.map(schedule),
            state: anomaly.state.name().to_owned(),
            reason: anomaly.reason.clone(),
            asked_at: rfc3339_seconds(anomaly.asked_at_ns),
            started_at: anomaly.started_at_ns.map(rfc3339_seconds),
            ended_at: anomaly.ended_at_ns.map(rfc3339_seconds),
            runs: anomaly.runs,
            unit: anomaly.unit.name().to_owned(),
            asked: anomaly.amount,
            achieved: anomaly.achieved,
            points: anomaly.points.iter().map(|p| Point { at_s: p.at_s, value: p.value }).collect(),
            details: anomaly.details.clone(),
            steps: anomaly.steps.iter().map(step).collect(),
        }
    }
}

impl From<&Target> for action::Target {
    fn from(target: &Target) -> Self {
        match target {
            Target::Node => Self::Node,
            Target::Pod(name) => Self::Pod(name.clone()),
            Target::Container(id) => Self::Container(id.clone()),
            Target::Cgroup(path) => Self::Cgroup(path.clone()),
            Target::Pid(pid) => Self::Pid(*pid),
        }
    }
}

impl From<&action::Target> for Target {
    fn from(target: &action::Target) -> Self {
        match target {
            action::Target::Node => Self::Node,
            action::Target::Pod(name) => Self::Pod(name.clone()),
            action::Target::Container(id) => Self::Container(id.clone()),
            action::Target::Cgroup(path) => Self::Cgroup(path.clone()),
            action::Target::Pid(pid) => Self::Pid(*pid),
        }
    }
}
