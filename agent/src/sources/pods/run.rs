//! The source as a task: walk, publish, wait; with one task beside it for each RPC name source.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::PodsSource;
use super::names::poller::{self, Pace, Service};
use crate::domain::pod::PodMap;
use crate::domain::source::SourceHealth;

/// Shortest time between walks: below it a node would watch itself.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Why the source stopped without being asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// A walk panicked, which no input should make it do; the source's state is lost.
    #[error("a walk of the pods source panicked")]
    Walk(#[source] JoinError),
}

/// Walks at once and then every interval until cancelled, publishing each map and the states of all sources.
///
/// Walks run on the blocking pool. A walk that takes longer than the interval delays the next one.
///
/// # Errors
/// [`RunError`] when a walk panicked; start again with a new source.
pub async fn run(
    mut source: PodsSource,
    wall: fn() -> i64,
    out: watch::Sender<Arc<PodMap>>,
    health: watch::Sender<Vec<SourceHealth>>,
    cancel: CancellationToken,
) -> Result<(), RunError> {
    let mut pollers = JoinSet::new();
    for ends in source.connect() {
        let (roots, cancel) = (source.roots.clone(), cancel.clone());
        pollers.spawn(poller::poll(ends, Pace::default(), roots, wall, cancel));
    }
    let interval = Duration::from_millis(source.config.interval_ms).max(SHORTEST_INTERVAL);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let walk = spawn_blocking(move || {
            let map = source.collect(wall());
            (source, map)
        });
        let (back, map) = walk.await.map_err(RunError::Walk)?;
        source = back;
        health.send_replace(source.health());
        out.send_replace(map);
    }
    while pollers.join_next().await.is_some() {}
    Ok(())
}

impl PodsSource {
    /// The ends for the pollers of the RPC sources that are switched on.
    fn connect(&mut self) -> Vec<super::names::Ends> {
        let config = self.config;
        self.names.connect(|service| match service {
            Service::Cri => config.cri,
            Service::Kubelet => config.kubelet,
        })
    }
}
