//! From delivery's own status to the wire's.

use crate::api::status::{Delivery, Receiver, age_ms};
use crate::delivery::status::DeliveryStatus;

/// As `/status` shows it at a wall time, ns since the epoch.
pub(super) fn of(status: &DeliveryStatus, now_ns: i64) -> Delivery {
    let receiver = status.receiver.as_ref().map(|url| Receiver {
        url: url.clone(),
        state: state(status).to_owned(),
        last_ack_age_ms: status.last_success_at_ns.map(|at_ns| age_ms(at_ns, now_ns)),
        last_error: if status.failures > 0 { status.last_error.clone() } else { None },
    });
    let others = status.others.iter().map(|other| Receiver {
        url: other.receiver.clone(),
        state: if other.left_alone { "failing" } else { "standby" }.to_owned(),
        last_ack_age_ms: None,
        last_error: None,
    });
    Delivery {
        accounts: Some(status.accounts.clone()),
        lag_ms: (status.lag_ns > 0).then_some(u64::try_from(status.lag_ns / 1_000_000).unwrap_or(0)),
        degraded: status.degraded.clone().or_else(|| status.damage.clone()),
        receivers: receiver.into_iter().chain(others).collect(),
    }
}

const fn state(status: &DeliveryStatus) -> &'static str {
    match (status.failures, status.last_success_at_ns) {
        (0, None) => "starting",
        (0, Some(_)) => "connected",
        (_, _) => "retrying",
    }
}
