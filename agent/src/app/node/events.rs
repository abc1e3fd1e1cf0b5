//! What the node itself says once, through the same door as everybody: sources that are lost and come back; and the way
//! of all events into the spool. What schedulers and anomalies do is said where it is recorded ([`crate::app::records`]).

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;

use super::delivery::Delivery;
use crate::api::events::{Said, Value};
use crate::api::record::{Body, Record};
use crate::app::host_facts::HostFacts;
use crate::app::said::{Subject, say};
use crate::app::wall_ns;
use crate::delivery::spool::Spool;
use crate::domain::source::{Condition, SourceHealth};
use crate::events::{Event, Events, Told};
use crate::task::{Phase, Supervisor};

/// Events in one transaction of the spool.
const FORWARDED_AT_ONCE: usize = 256;

/// After the spool refused them.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts what says and what forwards.
pub(super) fn start(
    supervisor: &mut Supervisor,
    events: &Events,
    health: watch::Receiver<Vec<SourceHealth>>,
    delivery: &Delivery,
    facts: &HostFacts,
) {
    let (said, token) = (events.clone(), supervisor.token(Phase::Records));
    supervisor.critical(Phase::Records, "events of sources", async move {
        token.run_until_cancelled(follow_sources(said, health)).await;
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
    let Some(spool) = delivery.spool.clone() else { return };
    let (events, boot_id) = (events.clone(), facts.boot_id.clone());
    let token = supervisor.token(Phase::Records);
    supervisor.critical(Phase::Records, "events to the spool", async move {
        token.run_until_cancelled(forward(events, spool, boot_id)).await;
        Ok::<_, Infallible>(())
    });
}

async fn follow_sources(events: Events, mut health: watch::Receiver<Vec<SourceHealth>>) {
    let mut known = Known::default();
    loop {
        let now = health.borrow_and_update().clone();
        for (kind, source) in known.changes(&now) {
            let why = source.last_error.clone().or_else(|| source.lacks.first().cloned()).unwrap_or_default();
            say(&events, kind, &[("name", source.name), ("reason", &why)], Subject::Source).await;
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}

/// Which sources give anything.
#[derive(Default)]
struct Known(HashMap<&'static str, bool>);

impl Known {
    /// Those that gave and do not, and those that did not any more and do again.
    fn changes<'a>(&mut self, now: &'a [SourceHealth]) -> Vec<(&'static str, &'a SourceHealth)> {
        let mut changes = Vec::new();
        for source in now.iter().filter(|source| source.condition != Condition::Starting) {
            let gives = source.condition != Condition::Off;
            match self.0.insert(source.name, gives) {
                Some(true) if !gives => changes.push(("source_lost", source)),
                Some(false) if gives => changes.push(("source_regained", source)),
                _ => {}
            }
        }
        changes
    }
}

async fn forward(events: Events, spool: Spool, boot_id: String) {
    let mut after = events.forwarded();
    loop {
        let (found, next) = events.next_to_forward(after, FORWARDED_AT_ONCE).await;
        let records = found.iter().map(|event| encode(event, &boot_id)).collect();
        match spool.append_many(records).await {
            Ok(_) => {
                after = next;
                events.forwarded_up_to(next);
            }
            Err(error) => {
                tracing::debug!(%error, "events wait for the spool");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn encode(event: &Event, boot_id: &str) -> Vec<u8> {
    let Told { ts_ms, name, labels, value, id } = event.into();
    let said = Said { timestamp_ms: ts_ms, name, labels, value: Value::from(value), event_id: id };
    let record = Record { at_ns: wall_ns(), boot_id: boot_id.to_owned(), body: Body::Event(said) };
    serde_json::to_vec(&record).expect("wire types have string keys and no failing serializer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_lost_when_it_gave_before_and_regained_when_it_did() {
        let mut known = Known::default();
        let mut told = |condition| {
            let now = [SourceHealth { name: "pods", condition, ..SourceHealth::default() }];
            known.changes(&now).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        assert!(told(Condition::Starting).is_empty());
        assert!(told(Condition::Up).is_empty());
        assert!(told(Condition::Degraded).is_empty());
        assert_eq!(told(Condition::Off), ["source_lost"]);
        assert!(told(Condition::Off).is_empty());
        assert!(told(Condition::Starting).is_empty());
        assert_eq!(told(Condition::Up), ["source_regained"]);
    }
}
