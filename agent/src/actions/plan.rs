//! A fault as data: its steps in order, each with what undoes it.

use std::path::PathBuf;

use super::place::Place;
use crate::domain::action::{Fault, StepRecord};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Start a worker of CPU load inside the target's groups.
    Load {
        /// Percent of one core.
        percent: f64,
        /// Time to full strength, ns.
        ramp_ns: u64,
        /// When it ends by itself, ns since boot.
        deadline_ns: u64,
        /// Directories of the groups to join.
        groups: Vec<PathBuf>,
    },
}

impl Step {
    /// In words, before anything is done.
    pub(super) fn record(&self) -> StepRecord {
        let Self::Load { percent, groups, .. } = self;
        let groups: Vec<_> = groups.iter().map(|group| group.display().to_string()).collect();
        StepRecord {
            does: format!("start a worker that takes {percent:.1} % of one core in {}", groups.join(", ")),
            undo: "end the worker; it ends itself when the node does and at its deadline".to_owned(),
            done: false,
            undone: false,
        }
    }
}

/// The steps of a checked fault: a worker for each share.
pub(super) fn steps(fault: &Fault, place: &Place, shares: &[f64], now_ns: u64) -> Vec<Step> {
    let deadline_ns = now_ns.saturating_add(fault.duration_ns());
    let step = |percent: &f64| Step::Load {
        percent: *percent,
        ramp_ns: fault.ramp_ns(),
        deadline_ns,
        groups: place.groups.clone(),
    };
    shares.iter().map(step).collect()
}
