//! The source's task: one collection per interval on a blocking thread, results into channels.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::SchedulerSource;
use crate::domain::event::SchedulerEvent;
use crate::domain::scheduler::SchedulerReading;
use crate::domain::source::SourceHealth;

/// Collects every `period` until `cancel`, then says what was still awaited.
///
/// `wall` stamps each collection, ns since the epoch. Returns when cancelled or when nobody takes events any
/// more.
///
/// # Panics
/// With the panic of a collection, so that the supervisor sees it.
pub async fn run(
    mut source: SchedulerSource,
    period: Duration,
    wall: fn() -> i64,
    out: watch::Sender<Arc<SchedulerReading>>,
    events: mpsc::Sender<SchedulerEvent>,
    health: watch::Sender<SourceHealth>,
    cancel: CancellationToken,
) {
    let started = Instant::now();
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            _ = ticks.tick() => {}
        }
        let mono_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let collected = tokio::task::spawn_blocking(move || {
            let collection = source.collect(wall(), mono_ns);
            (source, collection)
        });
        let collection;
        (source, collection) = match collected.await {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return, // the runtime is going down
        };
        let (reading, happened) = collection.into_events();
        health.send_replace(source.health());
        out.send_replace(Arc::new(reading));
        for event in happened {
            log(&event);
            tokio::select! {
                biased;
                // First, since what was collected is told also when the end comes meanwhile.
                room = events.reserve() => match room {
                    Ok(room) => room.send(event),
                    Err(_) => return,
                },
                () = cancel.cancelled() => lost(&event),
            }
        }
    }
    for event in source.last_words(wall()) {
        // Whoever takes events drains them after this task.
        if let Err(error) = events.try_send(event) {
            lost(&error.into_inner());
        }
    }
    // It ends a thread of its own, which may be in the middle of a walk.
    let _ended = tokio::task::spawn_blocking(move || drop(source)).await;
}

/// At the end of the process, with the channel full: nobody takes events any more.
fn lost(event: &SchedulerEvent) {
    tracing::warn!(?event, "nobody took what happened to a scheduler");
}

/// Warnings were logged when they were made.
fn log(event: &SchedulerEvent) {
    match event {
        SchedulerEvent::Ended(exit) => tracing::info!(
            ops = exit.ops,
            enable_seq = exit.enable_seq,
            kind = exit.kind.name(),
            reason = exit.reason,
            msg = exit.msg,
            detail = exit.detail,
            "scheduler ended"
        ),
        SchedulerEvent::Counted(change) => {
            let (ops, name, delta) = (&change.ops, &change.name, change.delta);
            tracing::debug!(ops, name, delta, "the kernel counted");
        }
        SchedulerEvent::Warned(_) => {}
    }
}
