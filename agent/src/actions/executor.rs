//! The seam between a plan and the node: one step done, watched, undone.
//!
//! Real steps are processes of this binary ([`processes`]); tests record them and let the n-th one fail.

use std::collections::BTreeMap;

use super::journal::Begin;
use super::plan::Step;

pub mod processes;

/// Names a step of an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<'a> {
    /// The anomaly's id.
    pub id: &'a str,
    /// Position in its plan.
    pub step: usize,
}

/// What a worker says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Since it joined its groups, ns.
    pub elapsed_ns: u64,
    /// A sum since then, or a level.
    pub amount: u64,
    /// What else it says.
    pub details: BTreeMap<String, u64>,
}

/// A look at a step that was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The latest report; none before the first.
    pub report: Option<Report>,
    /// Set when it ended by itself: how.
    pub ended: Option<String>,
}

/// Does steps.
pub trait Executor: Send {
    /// Does a step, completely or not at all.
    ///
    /// # Errors
    /// Why it cannot be done; nothing of it is left.
    fn execute(&mut self, key: Key<'_>, step: &Step) -> Result<(), String>;

    /// A step that was done.
    fn look(&mut self, key: Key<'_>) -> Seen;

    /// Undoes a step and checks that it is undone. Undoing what is undone is no error.
    ///
    /// # Errors
    /// Why it is still there.
    fn undo(&mut self, key: Key<'_>) -> Result<(), String>;

    /// Removes what an earlier life of the node left of these anomalies: their workers, and then their changes. How many
    /// workers there were.
    ///
    /// # Errors
    /// What is still there.
    fn sweep(&mut self, leftovers: &[Begin]) -> Result<usize, String>;
}

#[cfg(test)]
pub(super) mod recording;
