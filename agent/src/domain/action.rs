//! Anomalies that a person asks for, as checked values: what, where, how strong, how long, when.
//!
//! What arrives is an [`Asked`] of any numbers; only [`Fault::check`] makes a [`Fault`], so that nothing behind it meets
//! a NaN, a negative duration or a strength past the node's limits. What depends on the target (its CPUs, its memory) is
//! checked when the target was found: [`Cpu::shares`], [`Amount::bytes_of`].

use std::fmt;

pub mod anomaly;
mod strength;

pub use anomaly::{Anomaly, Point, State, StepRecord, Unit};
pub use strength::{
    Amount, Class, Cpu, Disk, DiskFill, DiskLoad, DiskSlow, Memory, Of, Process, Signal, Strength,
};

/// Shorter than this, a fault ends before its first report.
const MIN_DURATION_S: f64 = 1.0;
/// A day: who plans further ahead has a scheduler for that, which outlives a restart of the node.
const MAX_WAIT_S: f64 = 86_400.0;
/// A run a second for an hour.
const MAX_RUNS: u32 = 3_600;

/// What is provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// A disk that is busy, full or slow.
    Disk,
    /// Processes that stand still or end.
    Process,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Disk, Self::Process];

    /// Word for JSON, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Process => "process",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The whole node: outside every limit but the machine's.
    Node,
    /// A pod: `namespace/name`, or its uid.
    Pod(String),
    /// A container by id, or by an unambiguous beginning of it.
    Container(String),
    /// A cgroup: its path below the cgroup root, beginning with `/`.
    Cgroup(String),
    /// The cgroups of one process.
    Pid(u32),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Container(id) => write!(f, "container {id}"),
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Pid(pid) => write!(f, "pid {pid}"),
        }
    }
}

impl Target {
    /// The words of [`fmt::Display`] back.
    pub fn of_words(words: &str) -> Option<Self> {
        let (kind, name) = words.split_once(' ').unwrap_or((words, ""));
        match kind {
            "node" if name.is_empty() => Some(Self::Node),
            "pod" => Some(Self::Pod(name.to_owned())),
            "container" => Some(Self::Container(name.to_owned())),
            "cgroup" => Some(Self::Cgroup(name.to_owned())),
            "pid" => name.parse().ok().map(Self::Pid),
            _ => None,
        }
    }
}

/// When: the first run after `delay_s`, further ones every `every_s` after the beginning of the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Until the first run, s.
    pub delay_s: f64,
    /// Between the beginnings of two runs, s; not less than a run lasts.
    pub every_s: f64,
    /// Runs in all.
    pub runs: u32,
}

/// What was asked for, unchecked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Where.
    pub target: Target,
    /// What, and how strong.
    pub strength: Strength,
    /// How long, s.
    pub duration_s: f64,
    /// How long it takes to full strength, s; part of the duration.
    pub ramp_s: f64,
    /// When; none: once, at once.
    pub schedule: Option<Schedule>,
    /// Also where it would make the kernel eject the node's scheduler.
    pub force: bool,
}

/// What a node's operator allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Share of the node's CPUs that all faults together may take.
    pub max_percent_of_node: f64,
    /// Longest fault, s.
    pub max_duration_s: f64,
    /// Share of the node's memory that must stay available.
    pub min_percent_of_memory: f64,
    /// Share of a file system that a fault may fill it to.
    pub max_percent_of_disk: f64,
}

/// A field that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which, as the API names it.
    pub field: &'static str,
    /// Why, with what would be right.
    pub why: String,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// A fault whose every number was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    asked: Asked,
}

impl Fault {
    /// Checks what does not depend on the target.
    ///
    /// # Errors
    /// The first field that is not finite or not within its limits.
    pub fn check(asked: Asked, limits: &Limits) -> Result<Self, Invalid> {
        asked.strength.check(limits)?;
        within("duration", asked.duration_s, MIN_DURATION_S, limits.max_duration_s)?;
        within("ramp", asked.ramp_s, 0.0, asked.duration_s)?;
        if let Some(schedule) = &asked.schedule {
            within("schedule.delay", schedule.delay_s, 0.0, MAX_WAIT_S)?;
            whole("schedule.runs", schedule.runs, 1, MAX_RUNS)?;
            if schedule.runs > 1 {
                within("schedule.every", schedule.every_s, asked.duration_s, MAX_WAIT_S)?;
            }
        }
        Ok(Self { asked })
    }

    /// What was asked for.
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// How long, ns.
    pub fn duration_ns(&self) -> u64 {
        nanoseconds(self.asked.duration_s)
    }

    /// How long it takes to full strength, ns.
    pub fn ramp_ns(&self) -> u64 {
        nanoseconds(self.asked.ramp_s)
    }

    /// Until the first run, between the beginnings of two, ns; runs in all.
    pub fn schedule(&self) -> (u64, u64, u32) {
        self.asked.schedule.map_or((0, 0, 1), |s| (nanoseconds(s.delay_s), nanoseconds(s.every_s), s.runs))
    }
}

fn within(field: &'static str, value: f64, min: f64, max: f64) -> Result<(), Invalid> {
    // NaN is in no range.
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let range =
        if min > 0.0 && min < 1.0 { format!("above 0, up to {max}") } else { format!("{min} to {max}") };
    invalid(field, format!("{value} is not within {range}"))
}

fn whole<T: Copy + PartialOrd + fmt::Display>(
    field: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), Invalid> {
    if (&min..=&max).contains(&&value) {
        return Ok(());
    }
    invalid(field, format!("{value} is outside {min} to {max}"))
}

const fn invalid<T>(field: &'static str, why: String) -> Result<T, Invalid> {
    Err(Invalid { field, why })
}

/// Checked seconds: finite, not negative.
fn nanoseconds(seconds: f64) -> u64 {
    let duration = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
