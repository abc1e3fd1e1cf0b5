//! Tells systemd that the node does its work: `WATCHDOG=1` only when the scheduler source has collected since the
//! last time, never from a timer alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::scheduler::SchedulerReading;
use crate::task::{Phase, Supervisor};

/// Pings at half the time that systemd waits, if it waits.
pub(super) fn spawn(
    supervisor: &mut Supervisor,
    mut readings: watch::Receiver<Arc<SchedulerReading>>,
    interval: Duration,
) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    if interval >= limit {
        tracing::warn!(
            interval_ms = interval.as_millis(),
            watchdog_ms = limit.as_millis(),
            "readings are rarer than systemd's watchdog allows: it will restart the node"
        );
    }
    let token = supervisor.token(Phase::Sources);
    supervisor.critical(Phase::Sources, "watchdog", async move {
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                changed = readings.changed() => if changed.is_err() { break },
            }
            super::notify(sd_notify::NotifyState::Watchdog);
            tokio::select! {
                () = token.cancelled() => break,
                () = tokio::time::sleep(limit / 2) => {}
            }
        }
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
}
