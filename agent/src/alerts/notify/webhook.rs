//! A webhook gets one post for what changed at an evaluation, `{"version":1,"receiver":...,"alerts":[...]}`, tried again with
//! pauses that grow until it is taken or refused, or until newer ones need the room.

use std::pin::pin;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::Metrics;
use super::super::owed::Reader;
use super::super::state::Alert;
use super::client::Outcome;
use super::{Client, Place, labels, pauses, rfc3339_ms};

/// What is under way at the end may still be answered, so that it is not told again after a restart.
const LAST: Duration = Duration::from_secs(2);

/// One of them.
pub(in crate::alerts) struct Webhook {
    pub(in crate::alerts) place: Place,
    pub(in crate::alerts) client: Client,
    pub(in crate::alerts) metrics: Metrics,
    pub(in crate::alerts) reader: Reader,
}

impl Webhook {
    /// Posts what is to be told until the token is cancelled.
    pub(in crate::alerts) async fn run(mut self, stop: CancellationToken) {
        loop {
            let alerts = tokio::select! {
                () = stop.cancelled() => return,
                alerts = self.reader.next() => alerts,
            };
            if !self.deliver(&post(&alerts), &stop).await {
                return;
            }
            self.reader.told();
        }
    }

    /// Until it is taken or refused, or nobody waits for it any more; false where it is to be told after a restart.
    async fn deliver(&self, post: &Value, stop: &CancellationToken) -> bool {
        let to = &self.place.shown;
        for (tries, pause) in pauses().enumerate() {
            let mut posting = pin!(self.client.post(&self.place, post));
            let outcome = tokio::select! {
                outcome = &mut posting => outcome,
                () = stop.cancelled() => match tokio::time::timeout(LAST, posting).await {
                    Ok(outcome) => outcome,
                    Err(_) => return false,
                },
            };
            match outcome {
                Outcome::Taken => {
                    self.metrics.posted("delivered");
                    if tries > 0 {
                        info!(to, tries, "alerts are told again");
                    }
                    return true;
                }
                Outcome::Refused(words) => {
                    warn!(to, words, "alerts are refused");
                    self.metrics.posted("refused");
                    return true;
                }
                Outcome::Again(words) => {
                    self.metrics.posted("retried");
                    if tries == 0 {
                        warn!(to, words, "alerts cannot be told, trying again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
            if !self.reader.is_wanted() {
                return true;
            }
        }
        false
    }
}

fn post(changed: &[Alert]) -> Value {
    let one = |alert: &Alert| {
        json!({"status": alert.state.name(), "labels": labels(alert), "value": alert.value,
            "annotations": {"summary": alert.summary}, "startsAt": rfc3339_ms(alert.active_at_ms),
            "endsAt": alert.resolved_at_ms.map(rfc3339_ms)})
    };
    let alerts: Vec<_> = changed.iter().map(one).collect();
    json!({"version": 1, "receiver": "sextant", "alerts": alerts})
}
