//! Anomalies on the wire: `/api/v1/anomalies` in full, `/api/anomaly/*` as clients of the reference backend speak it.
//!
//! Durations are seconds. A percentage is of one core for each worker, or of all CPUs of the target (`"of":"target"`).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time::rfc3339_seconds;
use crate::domain::action::{self, Anomaly, Asked, Kind, Of};

/// As the reference runs its own: ten minutes.
const DEFAULT_DURATION_S: f64 = 600.0;
/// The reference's `cpu_stress`: two workers of 90 %.
const REFERENCE_PERCENT: f64 = 90.0;
const REFERENCE_WORKERS: u32 = 2;

/// Kinds that are known and not there.
const NOT_BUILT: [&str; 4] = ["memory", "disk", "network", "process"];

/// A kind that cannot be provoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKind {
    /// Not in this version.
    NotBuilt(String),
    /// In none.
    Unknown(String),
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
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

/// Of what a percentage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// One core, for each worker.
    #[default]
    Core,
    /// All CPUs that the target may use.
    Target,
}

/// How strong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Strength {
    /// Above 0, up to 100.
    pub percent: f64,
    /// Of what.
    #[serde(default)]
    pub of: Base,
    /// Processes; by default one, or one for each of the target's CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
}

/// What `POST /api/v1/anomalies` takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `cpu`.
    pub kind: String,
    /// Where.
    pub target: Target,
    /// How strong.
    pub strength: Strength,
    /// How long, s; 600 by default.
    #[serde(default)]
    pub duration: Option<f64>,
    /// Time to full strength, s, within the duration.
    #[serde(default)]
    pub ramp: f64,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

impl Request {
    /// What is asked for.
    ///
    /// # Errors
    /// A kind that cannot be provoked.
    pub fn asked(&self) -> Result<Asked, NoKind> {
        Ok(Asked {
            kind: kind(&self.kind)?,
            target: (&self.target).into(),
            percent: self.strength.percent,
            of: match self.strength.of {
                Base::Core => Of::Core,
                Base::Target => Of::Target,
            },
            workers: self.strength.workers,
            duration_s: self.duration.unwrap_or(DEFAULT_DURATION_S),
            ramp_s: self.ramp,
        })
    }
}

/// What `POST /api/anomaly/start` takes; other keys are ignored, as the reference does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReferenceRequest {
    /// `cpu_stress`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long, s; 600 by default.
    #[serde(default)]
    pub duration: Option<f64>,
}

impl ReferenceRequest {
    /// What is asked for: the reference's strength, on the node.
    ///
    /// # Errors
    /// A kind that cannot be provoked.
    pub fn asked(&self) -> Result<Asked, NoKind> {
        let plain = match &*self.kind {
            "cpu_stress" => "cpu",
            "memory_stress" => "memory",
            "disk_stress" => "disk",
            "network_delay" => "network",
            other => return Err(NoKind::Unknown(other.to_owned())),
        };
        Ok(Asked {
            kind: kind(plain)?,
            target: action::Target::Node,
            percent: REFERENCE_PERCENT,
            of: Of::Core,
            workers: Some(REFERENCE_WORKERS),
            duration_s: self.duration.unwrap_or(DEFAULT_DURATION_S),
            ramp_s: 0.0,
        })
    }
}

fn kind(name: &str) -> Result<Kind, NoKind> {
    match name {
        "cpu" => Ok(Kind::Cpu),
        name if NOT_BUILT.contains(&name) => Err(NoKind::NotBuilt(name.to_owned())),
        name => Err(NoKind::Unknown(name.to_owned())),
    }
}

/// What was achieved in the time before a moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// Since the start, s.
    pub at_s: f64,
    /// Percent of one core, all workers together.
    pub percent: f64,
}

/// A step of a plan and its undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
pub struct View {
    /// Names it; empty for a dry run.
    pub id: String,
    /// `cpu`.
    pub kind: String,
    /// Where.
    pub target: Target,
    /// As asked for.
    pub strength: Strength,
    /// As asked for, s.
    pub duration: f64,
    /// As asked for, s.
    pub ramp: f64,
    /// `planned`, `running`, `undoing`, `ended`, `stopped`, `failed` or `aborted`.
    pub state: String,
    /// Why it is over.
    pub reason: Option<String>,
    /// Wall time.
    pub started_at: String,
    /// Wall time of its undo.
    pub ended_at: Option<String>,
    /// Percent of one core asked of all workers together.
    pub asked_percent: f64,
    /// Percent of one core since the start, all workers together; null before the first report.
    pub achieved_percent: Option<f64>,
    /// The same over time; at most 600 points.
    pub achieved: Vec<Point>,
    /// What was done, and what became of it.
    pub steps: Vec<Step>,
}

/// What `GET /api/v1/anomalies` answers, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
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
pub struct StoppedAll {
    /// How many were active.
    pub stopped: usize,
}

/// `{"status":"success","message":"..."}`, the reference's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Always `success`.
    pub status: String,
    /// A sentence.
    pub message: String,
}

impl Status {
    /// With this sentence.
    pub fn success(message: String) -> Self {
        Self { status: "success".to_owned(), message }
    }
}

/// `{"detail":"..."}`: every answer of the reference backend that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detail {
    /// What went wrong.
    pub detail: String,
}

/// One of `GET /api/anomaly/active`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Active {
    /// Names it.
    pub id: String,
    /// `cpu_stress`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where, in words.
    pub target: String,
    /// Wall time.
    pub start_time: String,
    /// s.
    pub duration: f64,
}

impl From<&Anomaly> for Active {
    fn from(anomaly: &Anomaly) -> Self {
        Self {
            id: anomaly.id.clone(),
            kind: format!("{}_stress", anomaly.kind.name()),
            target: anomaly.asked.target.to_string(),
            start_time: rfc3339_seconds(anomaly.started_at_ns),
            duration: anomaly.asked.duration_s,
        }
    }
}

impl From<&Anomaly> for View {
    fn from(anomaly: &Anomaly) -> Self {
        let Anomaly { asked, .. } = anomaly;
        let of = match asked.of {
            Of::Core => Base::Core,
            Of::Target => Base::Target,
        };
        let step = |step: &action::StepRecord| Step {
            does: step.does.clone(),
            undo: step.undo.clone(),
            done: step.done,
            undone: step.undone,
        };
        Self {
            id: anomaly.id.clone(),
            kind: anomaly.kind.name().to_owned(),
            target: (&asked.target).into(),
            strength: Strength { percent: asked.percent, of, workers: asked.workers },
            duration: asked.duration_s,
            ramp: asked.ramp_s,
            state: anomaly.state.name().to_owned(),
            reason: anomaly.reason.clone(),
            started_at: rfc3339_seconds(anomaly.started_at_ns),
            ended_at: anomaly.ended_at_ns.map(rfc3339_seconds),
            asked_percent: anomaly.asked_percent,
            achieved_percent: anomaly.achieved_percent,
            achieved: anomaly.achieved.iter().map(|p| Point { at_s: p.at_s, percent: p.percent }).collect(),
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
