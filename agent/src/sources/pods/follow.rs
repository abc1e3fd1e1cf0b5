//! Following the kernel: between two walks the map is kept by events, and every walk says how well.
//!
//! Work is done when something happened, and in proportion to the map only when something in it changed. What may be
//! asked for without end has a pace: the tree of groups is not walked, and no map is made, for more than a small part
//! of the time.

use std::time::Duration;

use agent_ebpf::process::{Event, Kind};
use tokio::time::Instant;

use super::feed::{Feed, FeedError};
use super::live::{Changed, Correction, Live};
use super::tree::Walk;

/// How long an event may be on its way after a walk that saw its effect: the kernel makes a task visible some
/// microseconds before it tells, and the teller may be preempted in between.
const SETTLES: Duration = Duration::from_millis(200);

/// Between two walks that losses ask for: a storm that overflows the ring once will do it again.
const HEALS: Duration = Duration::from_secs(1);

/// Shares of time: a tree of groups is walked again after ten times what it took.
const TREE_SHARE: u32 = 10;

/// The feed, and what is known from it.
pub(super) struct Follower {
    feed: Box<dyn Feed>,
    pub(super) live: Live,
    events: Vec<Event>,
    lost: u64,
    reconciled_at: Option<Instant>,
    tree_from: Instant,
    /// What the last walk of the tree left out.
    pub(super) tree_skipped: super::skipped::Skipped,
}

/// What a turn found out.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Events taken over: forks, execs, exits, moves.
    pub(super) events: [u64; 4],
    /// Events lost since the turn before.
    pub(super) lost: u64,
    /// Corrections that no event explains.
    pub(super) corrections: Vec<Correction>,
}

impl Follower {
    pub(super) fn new(feed: Box<dyn Feed>, limit: usize) -> Self {
        Self {
            feed,
            live: Live::new(limit),
            events: Vec::new(),
            lost: 0,
            reconciled_at: None,
            tree_from: Instant::now(),
            tree_skipped: super::skipped::Skipped::default(),
        }
    }

    /// Takes over what happened.
    pub(super) fn follow(&mut self, found: &mut Found) -> Result<(), FeedError> {
        self.drain(found);
        let lost = self.feed.lost()?;
        found.lost += lost.saturating_sub(self.lost);
        self.lost = lost;
        if self.live.is_unsettled() && self.reconciled_at.is_none_or(|at| at.elapsed() >= SETTLES) {
            found.corrections.extend(self.live.settle());
        }
        Ok(())
    }

    /// Walks the kernel and sets right what events have missed. Groups come first, by [`Follower::set_tree`].
    pub(super) fn reconcile(&mut self, found: &mut Found) -> Result<(), FeedError> {
        self.follow(found)?;
        // The walk before had its time.
        found.corrections.extend(self.live.settle());
        let records = self.feed.walk()?;
        self.events.clear();
        self.feed.drain(&mut self.events);
        found.count(&self.events);
        self.live.reconcile(records.into_iter(), &self.events);
        self.reconciled_at = Some(Instant::now());
        Ok(())
    }

    /// Takes over a walk of the tree that took so long.
    pub(super) fn set_tree(&mut self, walk: Walk, took: Duration) {
        self.live.set_groups(walk.places, walk.owners);
        self.tree_skipped = walk.skipped;
        self.tree_from = Instant::now() + took * TREE_SHARE;
    }

    /// There was no tree to walk.
    pub(super) fn put_tree_off(&mut self) {
        self.tree_from = Instant::now() + HEALS;
    }

    /// The tree should be walked, and may be.
    pub(super) fn wants_tree(&self) -> bool {
        self.live.changed().groups && Instant::now() >= self.tree_from
    }

    /// Lost events may be healed by a walk now.
    pub(super) fn may_reconcile(&self) -> bool {
        self.reconciled_at.is_none_or(|at| at.elapsed() >= HEALS)
    }

    /// When to look again though nothing may have happened.
    pub(super) fn again_at(&self) -> Option<Instant> {
        let groups = self.live.changed().groups.then_some(self.tree_from);
        let settled = self.reconciled_at.filter(|_| self.live.is_unsettled()).map(|at| at + SETTLES);
        groups.into_iter().chain(settled).min()
    }

    /// What changed since it was asked last.
    pub(super) fn take_changed(&mut self) -> Changed {
        self.live.take_changed()
    }

    /// See [`Feed::lacks`].
    pub(super) fn lacks(&self) -> Vec<String> {
        self.feed.lacks()
    }

    fn drain(&mut self, found: &mut Found) {
        self.events.clear();
        self.feed.drain(&mut self.events);
        found.count(&self.events);
        self.live.apply(&self.events);
    }
}

impl Found {
    fn count(&mut self, events: &[Event]) {
        for event in events {
            let at = match event.kind() {
                Some(Kind::Fork) => 0,
                Some(Kind::Exec) => 1,
                Some(Kind::Exit) => 2,
                Some(Kind::Attach) => 3,
                _ => continue,
            };
            self.events[at] += 1;
        }
    }
}

#[cfg(test)]
mod tests;
