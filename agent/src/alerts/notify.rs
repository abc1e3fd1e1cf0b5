//! The way out: each target has a task of its own, so that one which is down holds up no other. A [`webhook`] hears each
//! change, an [`alertmanager`] what is so; [`client`] says which answers are final.

mod alertmanager;
mod client;
mod webhook;

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use serde_json::{Value, json};

pub(super) use self::alertmanager::{Alertmanager, REPEAT};
pub use self::client::Client;
pub(super) use self::client::Place;
pub(super) use self::webhook::Webhook;
use super::state::Alert;

/// Between tries, without an end.
fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(60))
        .with_jitter()
        .without_max_times()
        .build()
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

#[cfg(test)]
mod tests;
