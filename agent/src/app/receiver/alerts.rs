//! Alerts at work, and what they say once.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::alerts::state::{Alert, State};
use crate::alerts::{self, Alerts, Metrics, Reader};
use crate::app::reload::Reload;
use crate::app::said::{Subject, say_as};
use crate::config::Config;
use crate::events::Events;
use crate::series::Series;
use crate::task::{Phase, Supervisor};

/// Until an event that was not taken is said again: a disk, or a window that is full, takes its time.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts them; what they know, for who asks.
///
/// # Errors
/// Rules or states that cannot be read.
pub(super) fn start(
    supervisor: &mut Supervisor,
    config: &Config,
    directory: &Path,
    series: &Series,
    events: &Events,
    metrics: Metrics,
    reload: &mut Reload,
) -> Result<alerts::Watch> {
    if !config.alerts.enabled {
        return Ok(watch::channel(alerts::Status::default()).1);
    }
    let alerts = Alerts::new(&config.alerts, directory, series.clone(), metrics, crate::app::wall_ns)
        .context("[alerts]")?;
    let shown = alerts.watch();
    let client = alerts.client();
    let files = client.files();
    if !files.is_empty() {
        let read = move || client.reload().map(|()| "for the next post".to_owned());
        reload.add("alerts", files, move || read().map_err(|error| crate::tls::words(&error)));
    }
    let token = supervisor.token(Phase::Http);
    let saying = tell(alerts.changes(), events.clone(), token.clone());
    supervisor.critical(Phase::Http, "alerts", async move {
        alerts.run(token, saying).await;
        Ok::<_, Infallible>(())
    });
    Ok(shown)
}

/// Says what changed, in its order, until the token is cancelled.
async fn tell(mut changes: Reader, events: Events, stop: CancellationToken) {
    loop {
        let alerts = tokio::select! {
            () = stop.cancelled() => return,
            alerts = changes.next() => alerts,
        };
        for alert in &alerts {
            while changes.is_wanted() && !is_said(&events, alert).await {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        changes.told();
    }
}

/// Under the alert's id: a process that comes back may say it again.
async fn is_said(events: &Events, alert: &Alert) -> bool {
    let kind = if alert.state == State::Firing { "alert_fired" } else { "alert_resolved" };
    // Labels that an event has itself are not overwritten by those of what the alert is about.
    let own = ["type", "source", "alertname", "severity"];
    let labels: Vec<_> = alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let about = labels.into_iter().filter(|(name, _)| !own.contains(name));
    let ours = [("alertname", alert.rule.as_str()), ("severity", alert.severity.as_str())];
    let labels: Vec<_> = ours.into_iter().chain(about).collect();
    say_as(events, kind, &labels, Subject::Alert, Some(alert.id())).await
}

/// The fleet's accounts as series: what nodes dropped, and when they were heard last.
pub(super) async fn account(ingest: Arc<crate::receiver::ingest::Ingest>, series: Series) {
    let mut ticks = tokio::time::interval(Duration::from_secs(15));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now_ns = crate::app::wall_ns();
        let accounts = crate::receiver::measured::accounts(&ingest.fleet().nodes(now_ns), now_ns);
        if let Err(cause) = series.append("fleet", accounts).await {
            tracing::debug!(%cause, "the fleet's accounts are not stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Query;

    /// Said again after a kill, a change is no second event; the next firing is one.
    #[tokio::test]
    async fn a_change_is_one_event_however_often_it_is_said() {
        let events = Events::in_memory(crate::app::wall_ns);
        let fired = Alert {
            rule: "Hot".to_owned(),
            labels: [("gpu", "3"), ("type", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            state: State::Firing,
            value: Some(91.0),
            active_at_ms: 1,
            fired_at_ms: Some(2),
            resolved_at_ms: None,
            severity: "critical".to_owned(),
            summary: "3 is at 91".to_owned(),
        };
        let again = Alert { fired_at_ms: Some(7), ..fired.clone() };
        let resolved = Alert { state: State::Resolved, resolved_at_ms: Some(5), ..fired.clone() };
        for alert in [&fired, &fired, &resolved, &resolved, &again] {
            assert!(is_said(&events, alert).await);
        }
        let said = events.history(Query { limit: 9, ..Query::default() }).await.unwrap();
        let types: Vec<_> = said.iter().map(|one| &*one.labels["type"]).collect();
        assert_eq!(types, ["alert_fired", "alert_resolved", "alert_fired"]);
        assert_eq!((&*said[0].labels["gpu"], &*said[0].labels["alertname"]), ("3", "Hot"));
        // Where they are closed it is not over with: who comes back says it.
        events.close().await;
        assert!(!is_said(&events, &Alert { fired_at_ms: Some(9), ..fired }).await);
    }
}
