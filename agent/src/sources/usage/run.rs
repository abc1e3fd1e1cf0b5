//! The source as a task: read, publish, wait.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::UsageSource;
use crate::domain::source::SourceHealth;
use crate::domain::usage::{Target, UsageMap};

/// Shortest time between collections: below it the figures are mostly this source's own.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Why the source stopped without being asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A collection panicked, which no input should make it do; the source's state is lost.
    #[error("a collection of the usage source panicked")]
    Collect(#[source] JoinError),
}

/// Reads at once and then every interval until cancelled, publishing each map and the source's state. While there are no
/// targets, the first ones are read as soon as they come.
///
/// Collections run on the blocking pool. One that takes longer than the interval delays the next one.
///
/// # Errors
/// [`RunError`] when a collection panicked; start again with a new source.
pub async fn run(
    mut source: UsageSource,
    wall: fn() -> i64,
    mut targets: watch::Receiver<Arc<[Target]>>,
    out: watch::Sender<Arc<UsageMap>>,
    health: watch::Sender<Vec<SourceHealth>>,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let interval = Duration::from_millis(source.config.interval_ms).max(SHORTEST_INTERVAL);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wanted = Arc::clone(&targets.borrow_and_update());
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
            Ok(()) = targets.changed(), if wanted.is_empty() => ticks.reset(),
        }
        let wanted = Arc::clone(&targets.borrow_and_update());
        let reading = spawn_blocking(move || {
            let map = source.collect(&wanted, wall());
            (source, map)
        });
        let (back, map) = reading.await.map_err(RunError::Collect)?;
        source = back;
        health.send_replace(vec![source.health().clone()]);
        out.send_replace(map);
    }
}
