//! The source while the kernel tells what happens: events keep the map, walks of the kernel set it right.

use std::fmt::Display;
use std::sync::Arc;

use aya::util::online_cpus;
use tokio::time::Instant;

use super::feed::{FeedError, Kernel};
use super::follow::{Follower, Found};
use super::skipped::Reason;
use super::tree::Want;
use super::{PodsSource, Seen, WalkError};
use crate::domain::pod::PodMap;
use crate::kernel::retry::{Retry, SAID};

impl PodsSource {
    /// Lets the kernel tell what happens from now on, if it permits that; otherwise the health says why not. The next
    /// [`PodsSource::collect`] is the first to use it.
    pub fn attach(&mut self) {
        self.follower = None;
        self.bell = None;
        self.without_events = None;
        if !self.config.events {
            return;
        }
        // The hierarchy is chosen by a walk.
        if self.forest.hierarchy().is_none()
            && let Err(error) = self.forest.walk(Want::Groups)
        {
            return self.detach(&error);
        }
        let Some(hierarchy) = self.forest.hierarchy() else {
            return self.detach(&"no cgroup hierarchy was found");
        };
        let cpus = online_cpus().map_or(usize::MAX, |cpus| cpus.len());
        let loaded = Kernel::load(&self.roots, hierarchy, self.config.ring_bytes(cpus));
        match loaded.and_then(|kernel| Ok((kernel.bell().map_err(FeedError::Bell)?, kernel))) {
            Ok((bell, kernel)) => {
                self.bell = Some(bell);
                // What was read of `/proc` until now is not needed any more.
                if let Some(tasks) = &mut self.tasks {
                    tasks.forget();
                }
                self.follower = Some(Follower::new(Box::new(kernel), self.config.max_tasks));
            }
            Err(error) => self.detach(&error),
        }
    }

    /// Tries once more what the kernel refused, if that is due.
    pub(super) fn attach_again(&mut self) {
        if self.without_events.is_some() && self.retry.is_due() {
            self.attach();
        }
    }

    fn detach(&mut self, error: &dyn Display) {
        self.retry.refused();
        let error = error.to_string();
        tracing::info!(error, "pods are found by reading /proc");
        self.without_events = Some(error);
        self.follower = None;
        self.bell = None;
    }

    pub(super) fn event_lacks(&self) -> Vec<String> {
        let without = self.without_events.iter();
        let without =
            without.map(|why| format!("processes appear late, at the next walk of /proc: {why} ({SAID})"));
        without.chain(self.follower.iter().flat_map(Follower::lacks)).collect()
    }

    /// By the kernel's own walk; by `/proc` from now on if that fails.
    pub(super) fn reconcile(&mut self) -> Result<Seen, WalkError> {
        let before = self.forest.hierarchy().map(ToOwned::to_owned);
        let started = Instant::now();
        let tree = self.forest.walk(Want::Groups)?;
        let took = started.elapsed();
        if self.forest.hierarchy() != before.as_deref() {
            // Pods are elsewhere than they were: the kernel must be asked for other groups.
            self.attach();
        }
        let Some(follower) = &mut self.follower else { return self.walk() };
        follower.set_tree(tree, took);
        let mut found = Found::default();
        let reconciled = follower.reconcile(&mut found);
        self.metrics.followed(&found);
        if let Err(error) = reconciled {
            self.detach(&error);
            return self.walk();
        }
        self.metrics.reconciles.inc();
        self.retry = Retry::default();
        follower.take_changed();
        Ok(self.followed())
    }

    /// Takes over what the kernel told since the last time; returns a new map if something in a pod or container
    /// changed, or, with `all`, if anything did. `at_ns` is the wall time now.
    pub(super) fn follow(&mut self, at_ns: i64, all: bool) -> Option<Arc<PodMap>> {
        let started = Instant::now();
        let follower = self.follower.as_mut()?;
        let mut found = Found::default();
        let followed = follower.follow(&mut found);
        self.metrics.followed(&found);
        if let Err(error) = followed {
            self.detach(&error);
            return Some(self.collect(at_ns));
        }
        self.heal |= found.lost > 0;
        if self.heal && follower.may_reconcile() {
            self.heal = false;
            return Some(self.collect(at_ns));
        }
        let groups = follower.wants_tree();
        if groups {
            let started = Instant::now();
            match self.forest.walk(Want::Groups) {
                Ok(tree) => follower.set_tree(tree, started.elapsed()),
                // The next walk of everything will say so.
                Err(_) => follower.put_tree_off(),
            }
        }
        self.health.last_success_at_ns = Some(at_ns);
        // Only then may there be a pod to name, or a name.
        if groups || all {
            self.names.look_up(&follower.live.groups(), at_ns);
        }
        let changed = follower.live.changed();
        if !changed.places && !(all && (changed.host || self.names.have_news())) {
            return None;
        }
        follower.take_changed();
        let seen = self.followed();
        self.make_map(seen, at_ns);
        self.health.last_duration_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.metrics.map(&self.last);
        Some(Arc::clone(&self.last))
    }

    fn followed(&self) -> Seen {
        let Some(follower) = &self.follower else { return Seen::default() };
        let (leaves, host) = follower.live.leaves();
        let mut skipped = follower.tree_skipped;
        skipped.add(Reason::TooManyTasks, follower.live.beyond());
        Seen { leaves, host, foreign: 0, skipped }
    }
}
