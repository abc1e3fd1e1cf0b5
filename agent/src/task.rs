//! No task without a kind: what happens when it fails, and in which order it stops.
//!
//! - *critical*: its error (or panic) stops the process with a non-zero exit.
//! - *best effort*: its error is counted, logged and answered by a restart with backoff; the rest goes on.
//!
//! Tasks belong to a [`Phase`]. A shutdown cancels the phases in order and gives each its share of the grace
//! period, so that sources stop before delivery has written the last batch, and HTTP answers until the end.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// First restart of a best-effort task; doubles up to [`RESTART_MAX`], with jitter.
const RESTART_MIN: Duration = Duration::from_secs(1);
/// A source that fails for hours is retried this often: seldom enough to cost nothing.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// A task that ran this long was healthy: its next failure starts the backoff anew.
const HEALTHY_AFTER: Duration = Duration::from_secs(120);

/// When a task stops, relative to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// First: what changes the node is undone.
    Actions,
    /// Then: whatever reads the node.
    Sources,
    /// Then: what turns readings into records, the last ones included.
    Records,
    /// Then: spool, forwarder, store.
    Delivery,
    /// Last: HTTP, so that health and status answer during the drain.
    Http,
}

impl Phase {
    const ORDER: [Self; 5] = [Self::Actions, Self::Sources, Self::Records, Self::Delivery, Self::Http];
}

/// A critical task ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("task `{task}` ended: {reason}")]
pub struct CriticalEnd {
    /// The task's name.
    pub task: &'static str,
    /// Its error or panic, in words.
    pub reason: String,
}

struct Room {
    token: CancellationToken,
    tasks: JoinSet<Option<CriticalEnd>>,
}

/// Owner of every task of a role.
pub struct Supervisor {
    rooms: [Room; Phase::ORDER.len()],
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// No tasks yet.
    pub fn new() -> Self {
        let room = || Room { token: CancellationToken::new(), tasks: JoinSet::new() };
        Self { rooms: [room(), room(), room(), room(), room()] }
    }

    /// Cancelled when the phase stops.
    pub fn token(&self, phase: Phase) -> CancellationToken {
        self.rooms[phase as usize].token.clone()
    }

    /// Spawns a task whose end before its phase's stop ends the process.
    pub fn critical<F, E>(&mut self, phase: Phase, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let room = &mut self.rooms[phase as usize];
        let token = room.token.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        room.tasks.spawn(async move {
            let reason = match task.await {
                Ok(Ok(())) if token.is_cancelled() => return None,
                Ok(Ok(())) => "returned without being asked to".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            Some(CriticalEnd { task: name, reason })
        });
    }

    /// Spawns a task that is made anew, after a pause, whenever it fails. An `Ok` end is final.
    pub fn best_effort<M, F, E>(&mut self, phase: Phase, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let room = &mut self.rooms[phase as usize];
        let token = room.token.clone();
        room.tasks.spawn(async move {
            let mut pauses = restart_pauses();
            loop {
                let started = Instant::now();
                let reason = match AbortOnDropHandle::new(tokio::spawn(make())).await {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error.to_string(),
                    Err(panic) => panic.to_string(),
                };
                if token.is_cancelled() {
                    return None;
                }
                if started.elapsed() >= HEALTHY_AFTER {
                    pauses = restart_pauses();
                }
                let pause = pauses.next().unwrap_or(RESTART_MAX);
                tracing::warn!(task = name, reason, pause_ms = pause.as_millis(), "task failed, restarting");
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = token.cancelled() => return None,
                }
            }
        });
    }

    /// Waits until a critical task ends. Never returns while all is well.
    pub async fn failed(&mut self) -> CriticalEnd {
        let [actions, sources, records, delivery, http] = &mut self.rooms;
        loop {
            let ended = tokio::select! {
                Some(ended) = actions.tasks.join_next() => ended,
                Some(ended) = sources.tasks.join_next() => ended,
                Some(ended) = records.tasks.join_next() => ended,
                Some(ended) = delivery.tasks.join_next() => ended,
                Some(ended) = http.tasks.join_next() => ended,
                else => return std::future::pending().await,
            };
            match ended {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(error) => return CriticalEnd { task: "supervisor", reason: error.to_string() },
            }
        }
    }

    /// Stops the phases in order, each within an equal share of what is left of `grace`; what does not end is aborted and
    /// named in the log. True when everything ended by itself.
    pub async fn drain(mut self, grace: Duration) -> bool {
        let end = Instant::now() + grace;
        let mut clean = true;
        for (phase, left) in Phase::ORDER.into_iter().zip((1..=5).rev()) {
            let room = &mut self.rooms[phase as usize];
            room.token.cancel();
            let deadline = Instant::now() + end.saturating_duration_since(Instant::now()) / left;
            let ended = timeout_at(deadline, async {
                while let Some(ended) = room.tasks.join_next().await {
                    if let Ok(Some(end)) = ended {
                        tracing::warn!(task = end.task, reason = end.reason, "task failed while stopping");
                    }
                }
            });
            if ended.await.is_err() {
                clean = false;
                tracing::warn!(?phase, left = room.tasks.len(), "tasks did not stop in time, aborting them");
                room.tasks.shutdown().await;
            }
        }
        clean
    }
}

fn restart_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(RESTART_MIN)
        .with_max_delay(RESTART_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_source_is_restarted_and_harms_nobody() {
        let mut supervisor = Supervisor::new();
        let runs = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&runs);
        supervisor.best_effort(Phase::Sources, "flaky", move || {
            let run = counter.fetch_add(1, Ordering::Relaxed);
            async move { if run < 3 { Err("not yet") } else { Ok(()) } }
        });
        let failed = tokio::time::timeout(Duration::from_secs(600), supervisor.failed()).await;
        assert!(failed.is_err(), "a best-effort task never fails the process");
        assert_eq!(runs.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_panicking_source_is_restarted_too() {
        let mut supervisor = Supervisor::new();
        let runs = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&runs);
        supervisor.best_effort(Phase::Sources, "panicky", move || {
            let run = counter.fetch_add(1, Ordering::Relaxed);
            async move { if run == 0 { panic!("bug") } else { Ok::<_, String>(()) } }
        });
        let _ = tokio::time::timeout(Duration::from_secs(600), supervisor.failed()).await;
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_critical_end_is_reported_with_its_name() {
        let mut supervisor = Supervisor::new();
        supervisor.critical(Phase::Http, "http", async { Err::<(), _>("bind lost") });
        let end = supervisor.failed().await;
        assert_eq!((end.task, end.reason.as_str()), ("http", "bind lost"));
    }

    #[tokio::test(start_paused = true)]
    async fn phases_stop_in_order_and_a_hanging_one_is_cut() {
        let mut supervisor = Supervisor::new();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        for (phase, name) in [(Phase::Http, "http"), (Phase::Sources, "sources")] {
            let token = supervisor.token(phase);
            let order = Arc::clone(&order);
            supervisor.critical(phase, name, async move {
                token.cancelled().await;
                order.lock().unwrap().push(name);
                Ok::<_, String>(())
            });
        }
        supervisor.critical(Phase::Delivery, "stuck", std::future::pending::<Result<(), String>>());
        assert!(!supervisor.drain(Duration::from_secs(3)).await, "the stuck task is said");
        assert_eq!(*order.lock().unwrap(), ["sources", "http"]);
    }
}
