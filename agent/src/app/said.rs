//! What the process itself says once, in the words of the events' door.

use crate::domain::event::{AnomalyEvent, SchedulerEvent};
use crate::domain::exit::SchedulerExit;
use crate::domain::scheduler::{SchedulerReading, State};
use crate::events::{Error, Events, NewEvent};

/// What a label of ours may take of a text; the door refuses longer ones.
const MAX_LABEL_CHARS: usize = 200;

/// Of what an event is: its label `source`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    /// A scheduler.
    Scheduler,
    /// An anomaly.
    Anomaly,
    /// A source.
    Source,
    /// An alert.
    Alert,
}

impl Subject {
    const fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Anomaly => "anomaly",
            Self::Source => "source",
            Self::Alert => "alert",
        }
    }
}

/// Says it once. What cannot be kept is counted by the events, and logged here.
pub(super) async fn say(events: &Events, kind: &str, labels: &[(&str, &str)], subject: Subject) {
    say_as(events, kind, labels, subject, None).await;
}

/// Says it once, whoever says it again under the same id. False where it may be taken later.
pub(super) async fn say_as(
    events: &Events,
    kind: &str,
    labels: &[(&str, &str)],
    subject: Subject,
    id: Option<String>,
) -> bool {
    let ours = [("type", kind), ("source", subject.name())];
    let labels = ours.iter().chain(labels).filter_map(|(label, value)| {
        let value: String = value.chars().filter(|char| *char != '\0').take(MAX_LABEL_CHARS).collect();
        (!value.is_empty()).then(|| ((*label).to_owned(), value))
    });
    let event = NewEvent { name: None, labels: labels.collect(), value: 1.0, id };
    match event.check(&events.config().name) {
        Ok(event) => {
            let Err(error) = events.post(vec![event]).await else { return true };
            tracing::debug!(%error, kind, "event not taken");
            !matches!(
                error,
                Error::Busy | Error::Full { .. } | Error::Ahead { .. } | Error::Disk(_) | Error::Closed
            )
        }
        Err(error) => {
            tracing::warn!(%error, kind, "event cannot be said");
            true
        }
    }
}

/// A scheduler was enabled: once per life, of which `last` is the one that was told.
pub(super) async fn scheduler_enabled(
    events: &Events,
    reading: &SchedulerReading,
    boot_id: &str,
    last: &mut Option<u64>,
) {
    let (State::Enabled, Some(enable_seq)) = (&reading.state, reading.enable_seq) else { return };
    if last.replace(enable_seq) == Some(enable_seq) {
        return;
    }
    let ops = reading.ops.as_ref().map_or("", |ops| &*ops.base);
    // A node that is restarted sees the same life again.
    let id = format!("scheduler_enabled/{boot_id}/{enable_seq}");
    say_as(events, "scheduler_enabled", &[("ops", ops)], Subject::Scheduler, Some(id)).await;
}

/// A scheduler ended, or is about to be ejected. What the kernel counts is a counter already.
pub(super) async fn scheduler(events: &Events, event: &SchedulerEvent) {
    match event {
        SchedulerEvent::Ended(exit) => {
            let SchedulerExit { ops, kind, msg, .. } = exit;
            let word = if kind.is_error() { "scheduler_ejected" } else { "scheduler_exited" };
            let labels = [("ops", &**ops), ("reason", kind.name()), ("message", &**msg)];
            say(events, word, &labels, Subject::Scheduler).await;
        }
        SchedulerEvent::Warned(warning) => {
            let labels = [("ops", &*warning.ops), ("waits", &*warning.longest.comm)];
            say(events, "watchdog_margin_low", &labels, Subject::Scheduler).await;
        }
        SchedulerEvent::Counted(_) => {}
    }
}

/// An anomaly began, or is over.
pub(super) async fn anomaly(events: &Events, event: &AnomalyEvent) {
    let word = match event.state {
        "running" => "anomaly_started",
        "failed" | "aborted" => "anomaly_failed",
        _ => "anomaly_stopped",
    };
    let reason = event.reason.as_deref().unwrap_or_default();
    let labels = [
        ("kind", event.kind),
        ("target", &*event.target),
        ("id", &*event.id),
        ("state", event.state),
        ("reason", reason),
    ];
    say(events, word, &labels, Subject::Anomaly).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::exit::ExitKind;
    use crate::events::Query;

    #[tokio::test]
    async fn what_happens_is_said_with_its_labels_and_a_life_once() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = crate::events::Metrics::default();
        let config = crate::events::Config::default();
        let events = Events::open(dir.path(), &config, metrics, crate::app::wall_ns).unwrap();
        let reading =
            SchedulerReading { state: State::Enabled, enable_seq: Some(3), ..SchedulerReading::default() };
        for mut last in [None, Some(3), None] {
            scheduler_enabled(&events, &reading, "boot", &mut last).await;
        }
        let exit = SchedulerExit {
            ops: "lavd".to_owned(),
            enable_seq: 3,
            kind: ExitKind::ErrorStall,
            exit_code: 0,
            reason: String::new(),
            msg: "x\0y".repeat(500),
            detail: String::new(),
            noticed_at_ns: 0,
        };
        scheduler(&events, &SchedulerEvent::Ended(exit)).await;
        let said = events.history(Query { limit: 9, ..Query::default() }).await.unwrap();
        let types: Vec<_> = said.iter().map(|one| &*one.labels["type"]).collect();
        assert_eq!(types, ["scheduler_ejected", "scheduler_enabled"]);
        assert_eq!(said[0].labels["reason"], "error_stall");
        assert_eq!(said[0].labels["message"].len(), MAX_LABEL_CHARS);
    }
}
