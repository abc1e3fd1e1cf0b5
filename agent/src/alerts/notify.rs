//! The way out: each target has a queue and a task of its own, so that one which is down holds up no other.
//!
//! - A webhook gets one post per evaluation with what changed, `{"version":1,"receiver":...,"alerts":[...]}`; it is tried again
//!   with pauses that grow until it is taken, or until newer ones need the room.
//! - An Alertmanager is told by its API (`POST /api/v2/alerts`) what fires, at every change and again every minute, each time
//!   with an end five minutes ahead: it resolves by itself what it does not hear of again, and a repeated post is none too
//!   many. So only the newest post to it is worth keeping.
//!
//! [`client`] says which answers are final; anything else is tried again.

mod client;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::client::Client;
use self::client::Outcome;
pub(super) use self::client::Place;
use super::Metrics;
use super::state::{Alert, State};

/// Posts that wait for one target: a day of changes at one an hour, many times over.
const MAX_WAITING: usize = 256;

/// Alerts in one post.
const MAX_IN_POST: usize = 1_000;

/// An Alertmanager forgets what it has not heard of for so long.
const END_AHEAD_MS: i64 = 300_000;

/// What a target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Webhook,
    Alertmanager,
}

/// One target.
#[derive(Clone)]
pub(super) struct Target {
    kind: Kind,
    place: Place,
    waiting: Arc<Mutex<VecDeque<Value>>>,
    bell: Arc<Notify>,
}

impl Target {
    /// # Errors
    /// What is wrong with the URL.
    pub(super) fn new(kind: Kind, url: &str) -> Result<Self, String> {
        let path: &[&str] = match kind {
            Kind::Webhook => &[],
            Kind::Alertmanager => &["api", "v2", "alerts"],
        };
        let place = Place::new(url, path)?;
        Ok(Self { kind, place, waiting: Arc::default(), bell: Arc::default() })
    }

    /// Tells what changed, and to an Alertmanager what fires.
    pub(super) fn tell(&self, changed: &[Alert], firing: &[Alert], now_ms: i64, metrics: &Metrics) {
        let post = match self.kind {
            Kind::Webhook if changed.is_empty() => return,
            Kind::Webhook => webhook(changed),
            Kind::Alertmanager => {
                let resolved = changed.iter().filter(|alert| alert.state == State::Resolved);
                let all: Vec<_> = firing
                    .iter()
                    .chain(resolved)
                    .take(MAX_IN_POST)
                    .map(|alert| managed(alert, now_ms))
                    .collect();
                if all.is_empty() {
                    return;
                }
                Value::Array(all)
            }
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // What is repeated anyway replaces what waits, but for a post that ends something.
        if self.kind == Kind::Alertmanager && changed.is_empty() {
            if waiting.is_empty() {
                waiting.push_back(post);
            }
        } else {
            waiting.push_back(post);
        }
        if waiting.len() > MAX_WAITING {
            waiting.pop_front();
            metrics.posted("dropped");
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// Posts what waits until the token is cancelled.
    pub(super) async fn run(self, client: Client, metrics: Metrics, stop: CancellationToken) {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).front().cloned();
            let Some(post) = next else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.bell.notified() => continue,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.deliver(&client, &post, &metrics) => {}
            }
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have been dropped for a newer one meanwhile.
            if waiting.front() == Some(&post) {
                waiting.pop_front();
            }
        }
    }

    /// Until it is taken or refused, or nobody waits for it any more.
    async fn deliver(&self, client: &Client, post: &Value, metrics: &Metrics) {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(60))
            .with_jitter()
            .without_max_times();
        for (tries, pause) in pauses.build().enumerate() {
            let to = &self.place.shown;
            match client.post(&self.place, post).await {
                Outcome::Taken => {
                    metrics.posted("delivered");
                    if tries > 0 {
                        info!(to, tries, "alerts are told again");
                    }
                    return;
                }
                Outcome::Refused(words) => {
                    warn!(to, words, "alerts are refused");
                    metrics.posted("refused");
                    return;
                }
                Outcome::Again(words) => {
                    metrics.posted("retried");
                    if tries == 0 {
                        warn!(to, words, "alerts cannot be told, trying again");
                    }
                }
            }
            let gone = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).front() != Some(post);
            if gone {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn rfc3339_ms(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

fn labels(alert: &Alert) -> Value {
    let mut all = alert.labels.clone();
    all.insert("alertname".to_owned(), alert.rule.clone());
    if !alert.severity.is_empty() {
        all.insert("severity".to_owned(), alert.severity.clone());
    }
    json!(all)
}

fn webhook(changed: &[Alert]) -> Value {
    let one = |alert: &Alert| {
        json!({"status": alert.state.name(), "labels": labels(alert), "value": alert.value,
            "annotations": {"summary": alert.summary}, "startsAt": rfc3339_ms(alert.active_at_ms),
            "endsAt": alert.resolved_at_ms.map(rfc3339_ms)})
    };
    let alerts: Vec<_> = changed.iter().take(MAX_IN_POST).map(one).collect();
    json!({"version": 1, "receiver": "sextant", "alerts": alerts})
}

/// As Alertmanager's API has it.
fn managed(alert: &Alert, now_ms: i64) -> Value {
    let ends_ms = alert.resolved_at_ms.unwrap_or(now_ms.saturating_add(END_AHEAD_MS));
    json!({"labels": labels(alert), "annotations": {"summary": alert.summary},
        "startsAt": rfc3339_ms(alert.active_at_ms), "endsAt": rfc3339_ms(ends_ms)})
}

#[cfg(test)]
mod tests;
