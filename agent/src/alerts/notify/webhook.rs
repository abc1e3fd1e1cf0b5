//! A webhook gets one post for what changed at an evaluation, `{"version":1,"receiver":...,"alerts":[...]}`, tried again with
//! pauses that grow until it is taken or refused, or until newer ones need the room.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::Metrics;
use super::super::state::Alert;
use super::client::Outcome;
use super::{Client, MAX_IN_POST, Place, labels, pauses, rfc3339_ms};

/// Posts that wait for one target: a day of changes at one an hour, many times over.
pub(super) const MAX_WAITING: usize = 256;

/// One of them.
#[derive(Clone)]
pub(in crate::alerts) struct Webhook {
    place: Place,
    pub(super) waiting: Arc<Mutex<VecDeque<Value>>>,
    bell: Arc<Notify>,
}

impl Webhook {
    pub(in crate::alerts) fn new(place: Place) -> Self {
        Self { place, waiting: Arc::default(), bell: Arc::default() }
    }

    /// Tells what changed.
    pub(in crate::alerts) fn tell(&self, changed: &[Alert], metrics: &Metrics) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(changed.chunks(MAX_IN_POST).map(post));
        while waiting.len() > MAX_WAITING {
            waiting.pop_front();
            metrics.posted("dropped");
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// Posts what waits until the token is cancelled.
    pub(in crate::alerts) async fn run(self, client: Client, metrics: Metrics, stop: CancellationToken) {
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
        for (tries, pause) in pauses().enumerate() {
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

pub(super) fn post(changed: &[Alert]) -> Value {
    let one = |alert: &Alert| {
        json!({"status": alert.state.name(), "labels": labels(alert), "value": alert.value,
            "annotations": {"summary": alert.summary}, "startsAt": rfc3339_ms(alert.active_at_ms),
            "endsAt": alert.resolved_at_ms.map(rfc3339_ms)})
    };
    let alerts: Vec<_> = changed.iter().map(one).collect();
    json!({"version": 1, "receiver": "sextant", "alerts": alerts})
}
