//! An Alertmanager is told what fires by its API (`POST /api/v2/alerts`): at every change, and again every minute however
//! seldom rules are evaluated, each time with an end five minutes ahead, since it resolves by itself what it does not hear of
//! again. What was resolved is told for a quarter of an hour, as Prometheus does.
//!
//! Nothing waits for it: each post is made of the present, so that after an outage it hears what is so and nothing that was.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::owed::MAX_IN_POST;
use super::super::state::{Alert, State};
use super::super::{Metrics, WallClock, Watch};
use super::client::Outcome;
use super::{Client, Place, labels, pauses, rfc3339_ms};

/// Between two posts of the same.
pub(in crate::alerts) const REPEAT: Duration = Duration::from_secs(60);

/// It forgets what it has not heard of for so long: four repetitions may fail.
const END_AHEAD_MS: i64 = 300_000;

/// An end is told for so long; the alert has ended by itself before.
const END_TOLD_MS: i64 = 900_000;

/// One of them.
#[derive(Clone)]
pub(in crate::alerts) struct Alertmanager {
    pub(in crate::alerts) place: Place,
    pub(in crate::alerts) client: Client,
    pub(in crate::alerts) metrics: Metrics,
    pub(in crate::alerts) clock: WallClock,
    /// Between two posts of the same: [`REPEAT`].
    pub(in crate::alerts) repeat: Duration,
    /// What is so, and on disk.
    pub(in crate::alerts) shown: Watch,
    /// Moves on when something fired or was resolved, and that is on disk.
    pub(in crate::alerts) changes: watch::Receiver<u64>,
}

impl Alertmanager {
    /// Of the Alertmanager at a URL.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub(in crate::alerts) fn place(url: &str) -> Result<Place, String> {
        Place::new(url, &["api", "v2", "alerts"])
    }

    /// Tells it until the token is cancelled.
    pub(in crate::alerts) async fn run(mut self, stop: CancellationToken) {
        let (mut waits, mut failures) = (pauses(), 0_u32);
        loop {
            let is_told = tokio::select! {
                () = stop.cancelled() => return,
                is_told = self.tell(failures) => is_told,
            };
            let wait = if is_told {
                (waits, failures) = (pauses(), 0);
                self.repeat
            } else {
                failures = failures.saturating_add(1);
                waits.next().unwrap_or(self.repeat)
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                Ok(()) = self.changes.changed(), if is_told => {}
            }
        }
    }

    /// Once; false where it has to be tried again.
    async fn tell(&mut self, failures: u32) -> bool {
        self.changes.borrow_and_update();
        let alerts = Arc::clone(&self.shown.borrow().alerts);
        let to = &self.place.shown;
        for post in posts(&alerts, (self.clock)().div_euclid(1_000_000)) {
            match self.client.post(&self.place, &post).await {
                Outcome::Taken => self.metrics.posted("delivered"),
                Outcome::Refused(words) => {
                    warn!(to, words, "alerts are refused");
                    self.metrics.posted("refused");
                }
                Outcome::Again(words) => {
                    self.metrics.posted("retried");
                    if failures == 0 {
                        warn!(to, words, "alerts cannot be told, trying again");
                    }
                    return false;
                }
            }
        }
        if failures > 0 {
            info!(to, failures, "alerts are told again");
        }
        true
    }
}

/// What fires, and what was resolved lately, in as many posts as that takes.
pub(super) fn posts(alerts: &[Alert], now_ms: i64) -> Vec<Value> {
    let is_told = |alert: &&Alert| match alert.state {
        State::Pending => false,
        State::Firing => true,
        State::Resolved => {
            alert.resolved_at_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < END_TOLD_MS)
        }
    };
    let all: Vec<_> = alerts.iter().filter(is_told).collect();
    all.chunks(MAX_IN_POST).map(|some| some.iter().map(|alert| managed(alert, now_ms)).collect()).collect()
}

/// As its API has it.
fn managed(alert: &Alert, now_ms: i64) -> Value {
    let ends_ms = alert.resolved_at_ms.unwrap_or(now_ms.saturating_add(END_AHEAD_MS));
    json!({"labels": labels(alert), "annotations": {"summary": alert.summary},
        "startsAt": rfc3339_ms(alert.active_at_ms), "endsAt": rfc3339_ms(ends_ms)})
}
