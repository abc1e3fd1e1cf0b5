//! What is told once of the schedulers: which life this is, what the kernel counted in it, which lives nobody saw.

use super::counters::Counters;
use super::epoch::Life;
use super::numbers::Numbers;
use super::postmortem;
use super::sysfs::Facts;
use crate::domain::event::CounterChange;
use crate::domain::exit::SchedulerExit;

/// Most lives that one look may find missing: a scheduler that restarts in a loop makes one or two a second, a node that
/// stood still for minutes need not tell of each.
const MAX_UNSEEN: u64 = 16;

/// What is not told yet, and what is needed to know it.
#[derive(Debug)]
pub(super) struct News {
    event_interval_ms: u64,
    looked: bool,
    /// Lives so far: the number of the one at hand.
    lives: u64,
    numbers: Numbers,
    counters: Option<Counters>,
    changes: Vec<CounterChange>,
}

impl News {
    /// Nothing was looked at yet.
    pub(super) fn new(event_interval_ms: u64) -> Self {
        Self {
            event_interval_ms,
            looked: false,
            lives: 0,
            numbers: Numbers::default(),
            counters: None,
            changes: Vec::new(),
        }
    }

    /// Takes in a life that ended; returns it with its right number.
    pub(super) fn ended(&mut self, life: Life, at_ns: i64) -> Life {
        let life = self.numbers.ended(life);
        if let Some(mut counters) = self.counters.take() {
            self.changes.extend(counters.end((&life.ops, life.enable_seq), at_ns));
        }
        life
    }

    /// Takes in a look, after [`Self::ended`]; returns the ends of lives that nobody saw.
    pub(super) fn look(&mut self, facts: &Facts, life: Option<&Life>, at_ns: i64) -> Vec<SchedulerExit> {
        let unseen = self.numbers.unseen(facts, life);
        if let Some(life) = life {
            if self.counters.is_none() {
                self.lives += 1;
                self.counters = Some(Counters::new(self.event_interval_ms, at_ns, self.looked));
            }
            if let Some(counters) = &mut self.counters {
                counters.see(&facts.events, at_ns);
                // Until then its number may be that of the one before.
                if life.is_settled() {
                    self.changes.extend(counters.due((&life.ops, life.enable_seq), at_ns));
                }
            }
        }
        self.looked = true;
        let first = unseen.end.saturating_sub(MAX_UNSEEN).max(unseen.start);
        if first > unseen.start {
            tracing::warn!(
                lives = first - unseen.start,
                "schedulers came and went, too many to tell of each"
            );
        }
        (first..unseen.end).map(|enable_seq| postmortem::unseen(enable_seq, at_ns)).collect()
    }

    /// The number of the life at hand: it tells one from the next, whatever they are called.
    pub(super) const fn life(&self) -> u64 {
        self.lives
    }

    /// What the kernel counted, to be told now.
    pub(super) fn take_changes(&mut self) -> Vec<CounterChange> {
        std::mem::take(&mut self.changes)
    }

    /// What the kernel counted in the life at hand and would be told later: for the end of the process.
    pub(super) fn last_changes(&mut self, life: Option<&Life>, at_ns: i64) -> Vec<CounterChange> {
        if let (Some(counters), Some(life)) = (&mut self.counters, life) {
            self.changes.extend(counters.end((&life.ops, life.enable_seq), at_ns));
        }
        self.take_changes()
    }
}
