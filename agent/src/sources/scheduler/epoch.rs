//! When one scheduler's life begins and ends, as a pure state machine over what sysfs shows.
//!
//! ```text
//!            ops shown, enabled or disabling
//!   no life ────────────────────────────────► life {ops, enable_seq}
//!      ▲                                        │  other ops or enable_seq: replaced (ended + began)
//!      └──── disabled, enabling, unsupported ◄──┘  disabling without ops, same enable_seq: still the same
//! ```
//!
//! The kernel shows `enabled` a moment before it raises `enable_seq`, so the first look at a life may see the
//! number of the one before. If the number is one higher at the second look, only the struct_ops map's id can
//! tell the same scheduler from the next: the machine asks ([`Change::Doubtful`]).

use super::sysfs::Facts;
use crate::domain::scheduler::State;

/// One scheduler, from when it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// `root/ops`.
    pub(super) ops: String,
    /// `enable_seq`; 0 on a kernel that does not say.
    pub(super) enable_seq: u64,
    /// Seen twice: `enable_seq` is its own.
    settled: bool,
}

/// What a look at sysfs means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing began, nothing ended.
    Same,
    /// A life began.
    Began,
    /// A life ended and none began.
    Ended(Life),
    /// A life ended and another began.
    Replaced(Life),
    /// Ask the struct_ops map whether it is still the same; then call [`Epochs::adopt`] or
    /// [`Epochs::replace`].
    Doubtful,
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    life: Option<Life>,
}

impl Epochs {
    /// The life at the last look.
    pub(super) const fn life(&self) -> Option<&Life> {
        self.life.as_ref()
    }

    /// Takes in one look.
    pub(super) fn observe(&mut self, facts: &Facts) -> Change {
        let runs = match facts.state {
            State::Enabled | State::Disabling => true,
            State::Unsupported | State::Disabled | State::Enabling => false,
            // A word of a newer kernel: the scheduler's name stays the witness.
            State::Other(_) => facts.ops.is_some(),
        };
        let Some(life) = &mut self.life else {
            self.life = if runs { Life::begin(facts) } else { None };
            return if self.life.is_some() { Change::Began } else { Change::Same };
        };
        let same_ops = facts.ops.as_ref().is_none_or(|ops| ops.raw == life.ops);
        let seq = facts.enable_seq.unwrap_or(life.enable_seq);
        if runs && same_ops && seq == life.enable_seq {
            life.settled = true;
            return Change::Same;
        }
        if runs && same_ops && !life.settled && life.enable_seq.checked_add(1) == Some(seq) {
            return Change::Doubtful;
        }
        let next = if runs { Life::begin(facts) } else { None };
        match (std::mem::replace(&mut self.life, next), &self.life) {
            (Some(old), Some(_)) => Change::Replaced(old),
            (Some(old), None) => Change::Ended(old),
            (None, _) => Change::Same,
        }
    }

    /// After [`Change::Doubtful`]: it is the same scheduler, under its own number now.
    pub(super) fn adopt(&mut self, facts: &Facts) {
        if let Some(life) = &mut self.life {
            life.enable_seq = facts.enable_seq.unwrap_or(life.enable_seq);
            life.settled = true;
        }
    }

    /// After [`Change::Doubtful`], or when the struct_ops map is another: the old life, replaced.
    pub(super) fn replace(&mut self, facts: &Facts) -> Option<Life> {
        std::mem::replace(&mut self.life, Life::begin(facts))
    }
}

impl Life {
    fn begin(facts: &Facts) -> Option<Self> {
        let ops = facts.ops.as_ref()?.raw.clone();
        Some(Self { ops, enable_seq: facts.enable_seq.unwrap_or(0), settled: false })
    }

    /// One of which only the number is known.
    pub(super) fn unseen(enable_seq: u64) -> Self {
        Self { ops: "unknown".to_owned(), enable_seq, settled: true }
    }

    /// Whether `enable_seq` is its own for sure.
    pub(super) const fn is_settled(&self) -> bool {
        self.settled
    }
}

#[cfg(test)]
mod tests;
