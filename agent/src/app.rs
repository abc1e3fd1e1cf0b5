//! Wires a role: config -> probe -> bind -> spawn -> ready -> drain.
//!
//! The only room that knows every other one. It holds no logic of its own beyond order: what starts before what,
//! what stops before what, and which latest value goes where.

pub mod check;
mod delivery_view;
mod events;
mod health;
pub mod host_facts;
pub mod inspect;
pub mod key;
mod listen;
pub mod node;
mod open_files;
pub mod receiver;
mod records;
mod reload;
pub mod replay;
mod said;
mod signals;
mod watchdog;
pub mod worker;

use std::time::Duration;

use crate::task::{CriticalEnd, Supervisor};

/// A pod's default termination grace period is 30 s: everything has ended before.
const GRACE: Duration = Duration::from_secs(20);

/// Wall time, ns since the epoch: the one place that asks.
#[expect(clippy::disallowed_methods, reason = "wall time is stamped here, and an argument everywhere else")]
pub fn wall_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Says that the role is ready, runs until a signal or a critical failure, then drains. `Err` is the failure.
async fn until_stopped(mut supervisor: Supervisor, mut not_ready: impl FnMut()) -> Result<(), CriticalEnd> {
    let mut signals = signals::Signals::install();
    // Not before: systemd may stop what is ready, and without a handler that is a kill.
    notify(sd_notify::NotifyState::Ready);
    let result = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, grace_ms = GRACE.as_millis(), "stopping; a second signal exits at once");
            Ok(())
        }
        end = supervisor.failed() => {
            tracing::error!(task = end.task, reason = end.reason, "stopping: a critical task ended");
            Err(end)
        }
    };
    not_ready();
    notify(sd_notify::NotifyState::Stopping);
    tokio::select! {
        clean = supervisor.drain(GRACE) => tracing::info!(clean, "stopped"),
        signal = signals.next() => tracing::warn!(signal, "second signal: exiting without draining"),
    }
    result
}

/// Tells systemd, if it listens. It not listening is the usual case and no error.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "cannot notify systemd");
    }
}
