//! Anomalies that a person asks for, as checked values: what, where, how strong, how long.
//!
//! What arrives is an [`Asked`] of any numbers; only [`Fault::check`] makes a [`Fault`], so that nothing behind it meets
//! a NaN, a negative duration or a strength past the node's limits. The share of each worker is known once the target's
//! CPUs are: [`Fault::shares`].

use std::fmt;

pub mod anomaly;

pub use anomaly::{Anomaly, Point, State, StepRecord};

/// More workers than this are no sharper a fault, only more processes.
const MAX_WORKERS: u32 = 1_024;
/// Shorter than this, a fault ends before its first report.
const MIN_DURATION_S: f64 = 1.0;
/// A process is at most one thread of load: all of one core.
const WHOLE_PERCENT: f64 = 100.0;

/// What is provoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// CPU time.
    Cpu,
}

impl Kind {
    /// Word for JSON, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
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

/// Of what a percentage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Of {
    /// One core, for each worker.
    #[default]
    Core,
    /// All CPUs that the target may use, by its quota and the machine's; its workers share it.
    Target,
}

/// What was asked for, unchecked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What.
    pub kind: Kind,
    /// Where.
    pub target: Target,
    /// How strong.
    pub percent: f64,
    /// Of what.
    pub of: Of,
    /// Processes; none: one, or as many as the target has CPUs.
    pub workers: Option<u32>,
    /// How long, s.
    pub duration_s: f64,
    /// How long it takes to full strength, s; part of the duration.
    pub ramp_s: f64,
}

/// What a node's operator allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Share of the node's CPUs that all faults together may take.
    pub max_percent_of_node: f64,
    /// Longest fault, s.
    pub max_duration_s: f64,
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
        within("strength.percent", asked.percent, f64::MIN_POSITIVE, WHOLE_PERCENT)?;
        within("duration", asked.duration_s, MIN_DURATION_S, limits.max_duration_s)?;
        within("ramp", asked.ramp_s, 0.0, asked.duration_s)?;
        if let Some(workers) = asked.workers
            && !(1..=MAX_WORKERS).contains(&workers)
        {
            return invalid("strength.workers", format!("{workers} is outside 1 to {MAX_WORKERS}"));
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

    /// Percent of one core for each worker, on a target that may use `cpus` of the node's `node_cpus` while other faults
    /// take `taken_percent` of one core.
    ///
    /// # Errors
    /// More than the target has, or than the node's operator allows.
    pub fn shares(
        &self,
        limits: &Limits,
        cpus: f64,
        node_cpus: u32,
        taken_percent: f64,
    ) -> Result<Vec<f64>, Invalid> {
        let (percent, workers) = match self.asked.of {
            Of::Core => (self.asked.percent, self.asked.workers.unwrap_or(1)),
            Of::Target => {
                let whole = (1..MAX_WORKERS).find(|n| f64::from(*n) >= cpus).unwrap_or(MAX_WORKERS);
                let workers = self.asked.workers.unwrap_or(whole);
                (self.asked.percent * cpus / f64::from(workers), workers)
            }
        };
        if percent > WHOLE_PERCENT {
            let why = format!(
                "{workers} workers cannot take {:.0} % of {cpus} CPUs: ask for more",
                self.asked.percent
            );
            return invalid("strength.workers", why);
        }
        let total = percent * f64::from(workers);
        let allowed = f64::from(node_cpus) * limits.max_percent_of_node - taken_percent;
        if total > allowed {
            let why = format!(
                "{total:.0} % of one core in all is more than the {:.0} % left of this node's limit \
                 ([actions] max_percent_of_node)",
                allowed.max(0.0)
            );
            return invalid("strength.percent", why);
        }
        // At most MAX_WORKERS, checked.
        Ok(vec![percent; workers as usize])
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
