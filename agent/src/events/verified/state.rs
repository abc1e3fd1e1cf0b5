//! What is known of one scraper that is asked what it stored, and what follows from its answer: no IO, no clock.
//!
//! An answer whose number is read back was stored whole. One whose number is missing may still be on its way to the
//! database: a proxy or a stalled disk can let its request outlive the next one. So it stays undecided, and what goes out
//! meanwhile is a *probe*: a number in a series of its own, which does not hide the other, and no events. A probe that is
//! read back was scraped behind the undecided answer, as scrapes of a target follow each other: what is missing then has
//! got lost. Before the first events an answer without any has to be read back, too.

use std::collections::BTreeSet;

use crate::events::progress::Progress;
use crate::events::window::{Event, Seq, Window};

/// Numbers that a sample, which is a binary fraction, holds exactly.
const END: u64 = 1 << 53;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Tells journals apart that are scraped under one name.
    pub(super) server: u64,
    progress: Progress,
    /// The last answer that was no probe.
    answer: Option<Answer>,
    /// The last one since then.
    probe: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    number: u64,
    seqs: Vec<Seq>,
}

/// What became of the answer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// There was none.
    Fresh,
    /// It was read back.
    Confirmed,
    /// It was not, or not yet.
    Lost,
}

impl Before {
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Confirmed => "confirmed",
            Self::Lost => "lost",
        }
    }
}

/// What goes out next.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) number: u64,
    pub(super) is_probe: bool,
    pub(super) events: Vec<Event>,
}

impl State {
    pub(super) fn new(server: u64, base: Seq) -> Self {
        Self { server, progress: Progress::at(base), answer: None, probe: None }
    }

    /// What another cursor of this scraper has passed is done here, too.
    pub(super) fn join(&mut self, other: &Progress) {
        self.progress.join(other);
    }

    /// The highest number that was given.
    pub(super) fn last(&self) -> Option<u64> {
        self.probe.max(self.answer.as_ref().map(|answer| answer.number))
    }

    /// The lowest number that is looked for.
    pub(super) fn looked_for(&self) -> Option<u64> {
        self.answer.as_ref().map(|answer| answer.number)
    }

    /// Everything before is stored.
    pub(super) const fn stored(&self) -> Seq {
        self.progress.base()
    }

    /// Takes what was read back.
    pub(super) fn decide(&mut self, found: &BTreeSet<u64>) -> Before {
        let Some(answer) = &mut self.answer else { return Before::Fresh };
        if found.contains(&answer.number) {
            for seq in answer.seqs.drain(..) {
                self.progress.mark(seq);
            }
        } else if self.probe.is_some_and(|probe| found.contains(&probe)) {
            answer.seqs.clear();
        } else {
            return Before::Lost;
        }
        self.probe = None;
        Before::Confirmed
    }

    /// The next answer: events only behind one that was read back. None at the end of all numbers.
    pub(super) fn next(
        &mut self,
        before: Before,
        (now_ms, found): (u64, &BTreeSet<u64>),
        (window, max): (&Window, usize),
    ) -> Option<Next> {
        let taken = self.last().max(found.last().copied()).unwrap_or(0);
        let number = now_ms.max(taken + 1);
        if number >= END {
            return None;
        }
        if self.answer.as_ref().is_some_and(|answer| !answer.seqs.is_empty()) {
            self.probe = Some(number);
            return Some(Next { number, is_probe: true, events: Vec::new() });
        }
        let is_open = before == Before::Confirmed;
        let next = if is_open { self.progress.next(window, max) } else { Vec::new() };
        let (seqs, events) = next.into_iter().unzip();
        self.answer = Some(Answer { number, seqs });
        Some(Next { number, is_probe: false, events })
    }

    /// For the journal, numbers of 8 bytes, LE: server, answer's number, probe's (0 is none), how many events the answer
    /// holds and which, progress.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (number, seqs) =
            self.answer.as_ref().map_or((0, &[][..]), |answer| (answer.number, &answer.seqs));
        let head = [self.server, number, self.probe.unwrap_or(0), seqs.len() as u64];
        let mut bytes: Vec<u8> = head.iter().chain(seqs).flat_map(|number| number.to_le_bytes()).collect();
        bytes.extend(self.progress.to_bytes());
        bytes
    }

    /// From the journal.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(32)?;
        let (head, _) = head.as_chunks::<8>();
        let [server, number, probe, count] = [0, 1, 2, 3].map(|at: usize| u64::from_le_bytes(head[at]));
        let size = usize::try_from(count).ok()?.checked_mul(8)?;
        let (seqs, progress) = rest.split_at_checked(size)?;
        let (seqs, _) = seqs.as_chunks::<8>();
        let seqs = seqs.iter().map(|seq| Seq::from_le_bytes(*seq)).collect();
        let answer = (number > 0).then_some(Answer { number, seqs });
        let probe = (probe > 0).then_some(probe);
        Some(Self { server, progress: Progress::from_bytes(progress)?, answer, probe })
    }
}

#[cfg(test)]
mod tests;
