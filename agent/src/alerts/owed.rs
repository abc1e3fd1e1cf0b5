//! What is still to be told, and to whom: posts of changes in their order, and how far each reader has come in them. It is kept
//! with the states, so that a post outlives an outage of who is to hear it, a restart and a kill.
//!
//! A reader is given a post when it is on disk, and says when it has told it, which is kept soon after: who is killed between
//! the two tells it once more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};

use super::Metrics;
use super::state::{Alert, State};

/// Alerts in one post.
pub(super) const MAX_IN_POST: usize = 1_000;

/// Posts that wait: a day of changes at one in five minutes.
const MAX_POSTS: usize = 256;

/// Alerts in them, half a kilobyte each.
const MAX_ALERTS: usize = 32_768;

/// What is kept of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The number of the oldest post.
    first: u64,
    posts: VecDeque<Vec<Alert>>,
    /// By reader: the number of the first post that it has not told.
    next: BTreeMap<String, u64>,
}

impl Ledger {
    /// For these readers: new ones begin with what comes, and what only others waited for goes.
    fn of(mut self, readers: &BTreeSet<String>) -> Self {
        let (first, end) = (self.first, self.end());
        let next = |reader: &String| self.next.get(reader).map_or(end, |next| (*next).clamp(first, end));
        self.next = readers.iter().map(|reader| (reader.clone(), next(reader))).collect();
        self.forget();
        self
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.posts.len() as u64)
    }

    /// How often a post that somebody waits for gave way.
    fn push(&mut self, changed: &[Alert]) -> u64 {
        self.posts.extend(changed.chunks(MAX_IN_POST).map(<[Alert]>::to_vec));
        let mut dropped = 0;
        while self.posts.len() > MAX_POSTS || self.posts.iter().map(Vec::len).sum::<usize>() > MAX_ALERTS {
            for next in self.next.values_mut().filter(|next| **next == self.first) {
                *next += 1;
                dropped += 1;
            }
            self.posts.pop_front();
            self.first += 1;
        }
        self.forget();
        dropped
    }

    /// The oldest post before `end` that a reader has not told.
    fn post(&self, reader: &str, end: u64) -> Option<(u64, Vec<Alert>)> {
        let number = self.next.get(reader).copied().filter(|number| *number < end)?;
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some((number, self.posts.get(at)?.clone()))
    }

    fn told(&mut self, reader: &str, number: u64) {
        if let Some(next) = self.next.get_mut(reader).filter(|next| **next == number) {
            *next += 1;
        }
        self.forget();
    }

    /// What everybody has told goes.
    fn forget(&mut self) {
        let told = self.next.values().copied().min().unwrap_or_else(|| self.end());
        while self.first < told && self.posts.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn untold(&self) -> u64 {
        self.next.values().map(|next| self.end().saturating_sub(*next)).sum()
    }
}

/// See the module; clones share it.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Inner>);

struct Inner {
    ledger: Mutex<Ledger>,
    /// Posts before this one are on disk.
    kept: watch::Sender<u64>,
    moved: Notify,
    metrics: Metrics,
}

impl Outbox {
    /// Of what a file kept, for these readers.
    pub(super) fn new(ledger: Ledger, readers: &BTreeSet<String>, metrics: Metrics) -> Self {
        let ledger = ledger.of(readers);
        let kept = watch::Sender::new(ledger.end());
        let this = Self(Arc::new(Inner { ledger: Mutex::new(ledger), kept, moved: Notify::new(), metrics }));
        this.count(&this.ledger());
        this
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Every change of it is whole when something could panic.
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, ledger: &Ledger) {
        self.0.metrics.untold.set(i64::try_from(ledger.untold()).unwrap_or(i64::MAX));
    }

    /// As it is to be kept.
    pub(super) fn snapshot(&self) -> Ledger {
        self.ledger().clone()
    }

    /// More to tell; nobody is given it before [`Outbox::release`].
    pub(super) fn push(&self, changed: &[Alert]) {
        let mut ledger = self.ledger();
        for _ in 0..ledger.push(changed) {
            self.0.metrics.posted("dropped");
        }
        self.count(&ledger);
    }

    /// What was pushed is on disk.
    pub(super) fn release(&self) {
        let end = self.ledger().end();
        self.0.kept.send_if_modified(|kept| std::mem::replace(kept, end) != end);
    }

    /// Moves on with each release of something new.
    pub(super) fn released(&self) -> watch::Receiver<u64> {
        self.0.kept.subscribe()
    }

    /// A reader has told something, which is to be kept.
    pub(super) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    /// The same, without waiting.
    pub(super) fn has_moved(&self) -> bool {
        self.moved().now_or_never().is_some()
    }

    pub(super) fn reader(&self, name: &str) -> Reader {
        Reader { outbox: self.clone(), name: name.to_owned(), kept: self.released(), at: None }
    }
}

/// Somebody who tells what changed.
pub struct Reader {
    outbox: Outbox,
    name: String,
    kept: watch::Receiver<u64>,
    at: Option<u64>,
}

impl Reader {
    /// The oldest post that was not told, as soon as there is one and it is on disk; the same again until [`Reader::told`].
    pub async fn next(&mut self) -> Vec<Alert> {
        loop {
            let end = *self.kept.borrow_and_update();
            let post = self.outbox.ledger().post(&self.name, end);
            if let Some((number, alerts)) = post {
                self.at = Some(number);
                return alerts;
            }
            if self.kept.changed().await.is_err() {
                // Its sender lives as long as the reader.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The post is told, or never can be.
    pub fn told(&mut self) {
        let Some(number) = self.at.take() else { return };
        let mut ledger = self.outbox.ledger();
        ledger.told(&self.name, number);
        self.outbox.count(&ledger);
        drop(ledger);
        self.outbox.0.moved.notify_one();
    }

    /// The post is still there: newer ones did not need its room.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.at.is_some() && self.outbox.ledger().next.get(&self.name).copied() == self.at
    }
}

impl Alert {
    /// The same for the same firing, or the same end, whoever says it again.
    #[must_use]
    pub fn id(&self) -> String {
        let at_ms = match self.state {
            State::Resolved => self.resolved_at_ms,
            State::Pending | State::Firing => self.fired_at_ms,
        };
        let about = serde_json::json!([self.rule, self.labels]).to_string();
        format!("alert_{}/{}/{}", self.state.name(), digest(&about), at_ms.unwrap_or_default())
    }
}

/// A name for a text that may be long, or a secret: 128 bits of SHA-256 in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
