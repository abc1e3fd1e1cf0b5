//! Alerts at work, and what they say once.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, watch};

use crate::alerts::{self, Alerts, Change, Metrics, state::State};
use crate::app::reload::Reload;
use crate::app::said::{Subject, say};
use crate::config::Config;
use crate::events::Events;
use crate::receiver::measured::Accounts;
use crate::series::{OURSELVES, Series};
use crate::task::{Phase, Supervisor};

/// Changes that wait to be said: all alerts of a rule at once.
const CHANGES: usize = 1_024;

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
    let (changes, told) = mpsc::channel(CHANGES);
    let alerts =
        Alerts::new(&config.alerts, directory, series.clone(), metrics, crate::app::wall_ns, changes)
            .context("[alerts]")?;
    let shown = alerts.watch();
    let client = alerts.client();
    let files = client.files();
    if !files.is_empty() {
        let read = move || client.reload().map(|()| "for the next post".to_owned());
        reload.add("alerts", files, move || read().map_err(|error| crate::tls::words(&error)));
    }
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "alerts", async move {
        alerts.run(token).await;
        Ok::<_, Infallible>(())
    });
    let events = events.clone();
    supervisor.critical(Phase::Http, "alerts' events", async move {
        tell(told, &events).await;
        Ok::<_, Infallible>(())
    });
    Ok(shown)
}

/// Ends with the alerts.
async fn tell(mut told: mpsc::Receiver<Change>, events: &Events) {
    while let Some(Change(alert)) = told.recv().await {
        let kind = if alert.state == State::Firing { "alert_fired" } else { "alert_resolved" };
        // Labels that an event has itself are not overwritten by those of what the alert is about.
        let own = ["type", "source", "alertname", "severity"];
        let labels: Vec<_> =
            alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let about = labels.into_iter().filter(|(name, _)| !own.contains(name));
        let ours = [("alertname", alert.rule.as_str()), ("severity", alert.severity.as_str())];
        let labels: Vec<_> = ours.into_iter().chain(about).collect();
        say(events, kind, &labels, Subject::Alert).await;
    }
}

/// The fleet's accounts as series: what nodes dropped, and when they were heard last.
pub(super) async fn account(ingest: Arc<crate::receiver::ingest::Ingest>, series: Series) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(15));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut accounts = Accounts::default();
    loop {
        ticks.tick().await;
        let now_ns = crate::app::wall_ns();
        let accounted = accounts.at(now_ns, &ingest.fleet().nodes(now_ns));
        if let Err(cause) = series.append(OURSELVES, accounted).await {
            tracing::debug!(%cause, "the fleet's accounts are not stored");
            accounts.forget();
        }
    }
}
