//! The source as a task: start, read every interval, publish.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Config, RunqlatError, RunqlatSource};
use crate::domain::runqueue::{RunqueuePair, RunqueueReading};
use crate::domain::source::{Condition, SourceHealth};
use crate::host::HostRoots;
use crate::kernel::retry::{Retry, SAID};

/// Shortest time between readings: below it a node would watch itself.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Reads every interval until cancelled.
///
/// A kernel that does not permit or take the program is no error: the source is off, says why, and tries again, ever more
/// rarely ([`Retry`]).
///
/// # Errors
/// [`RunqlatError`] when the maps of the running program cannot be read; start again.
pub async fn run(
    roots: HostRoots,
    config: Config,
    wall: fn() -> i64,
    out: watch::Sender<Arc<RunqueuePair>>,
    health: watch::Sender<Vec<SourceHealth>>,
    cancel: CancellationToken,
) -> Result<(), RunqlatError> {
    let off = |why: String, error: Option<String>| {
        modify(&health, |health| {
            health.condition = Condition::Off;
            health.failures += u64::from(error.is_some());
            health.lacks = vec![why];
            health.last_error = error;
        });
    };
    if !config.enabled {
        off("switched off: runqlat.enabled".to_owned(), None);
        cancel.cancelled().await;
        return Ok(());
    }
    let mut retry = Retry::default();
    let mut source = loop {
        let at = roots.clone();
        let error = match spawn_blocking(move || RunqlatSource::start(&at, &config)).await {
            Ok(Ok(source)) => break source,
            Ok(Err(error)) => error,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Ok(()), // the runtime is going down
        };
        tracing::info!(%error, "no run-queue latency");
        off(format!("no run-queue latency: {error} ({SAID})"), Some(error.to_string()));
        retry.refused();
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = sleep_until(retry.due()) => {}
        }
    };
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(config.interval_ms).max(SHORTEST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let tick = Instant::now();
        let mono_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let collected = spawn_blocking(move || {
            let reading = source.collect(wall(), mono_ns);
            (source, reading)
        });
        let reading;
        (source, reading) = match collected.await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Ok(()),
        };
        let reading = reading.inspect_err(|error| {
            modify(&health, |health| {
                health.condition = Condition::Degraded;
                health.failures += 1;
                health.last_error = Some(error.to_string());
            });
        })?;
        modify(&health, |health| succeeded(health, &reading, tick.elapsed()));
        out.send_modify(|pair| *pair = Arc::new(RunqueuePair::clone(pair).then(reading)));
    }
}

/// The state of a source that has no others below it.
fn modify(health: &watch::Sender<Vec<SourceHealth>>, change: impl FnOnce(&mut SourceHealth)) {
    health.send_modify(|all| all.first_mut().map_or((), change));
}

fn succeeded(health: &mut SourceHealth, reading: &RunqueueReading, took: Duration) {
    health.collections += 1;
    health.last_success_at_ns = Some(reading.at_ns);
    health.last_error = None;
    health.last_duration_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    health.lacks.clear();
    if reading.losses.cgroups > 0 {
        let count = reading.losses.cgroups;
        health.lacks.push(format!(
            "{count} stints are counted for no cgroup of their own: raise runqlat.max_cgroups"
        ));
    }
    health.condition = if health.lacks.is_empty() { Condition::Up } else { Condition::Degraded };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was refused is tried again, and the reason stands meanwhile; switched off it is not.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_said_and_tried_again() {
        let nothing = tempfile::tempdir().expect("a folder");
        let failures_in_a_day = |config| {
            let roots = HostRoots { cgroup: nothing.path().to_owned(), ..HostRoots::default() };
            async move {
                let (out, _) = watch::channel(Arc::default());
                let (health, said) = watch::channel(vec![SourceHealth::default()]);
                let cancel = CancellationToken::new();
                let task = tokio::spawn(run(roots, config, || 1, out, health, cancel.clone()));
                tokio::time::sleep(Duration::from_secs(24 * 3_600)).await;
                cancel.cancel();
                assert!(matches!(task.await, Ok(Ok(()))));
                let said = said.borrow()[0].clone();
                assert_eq!((said.condition, said.lacks.len()), (Condition::Off, 1), "{said:?}");
                (said.failures, said.lacks[0].clone())
            }
        };
        let (failures, lack) = failures_in_a_day(Config::default()).await;
        assert!((48..=100).contains(&failures), "{failures}");
        assert!(lack.contains("holds no cgroup hierarchy") && lack.contains("tried again"), "{lack}");
        let (failures, lack) = failures_in_a_day(Config { enabled: false, ..Config::default() }).await;
        assert_eq!((failures, lack.as_str()), (0, "switched off: runqlat.enabled"), "the control");
    }
}
