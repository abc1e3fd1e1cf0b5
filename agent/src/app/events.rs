//! One-shot events of both roles: their file, and the task that lets them expire.

use std::convert::Infallible;
use std::path::Path;

use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::events::{Error, Events, Metrics};
use crate::task::{Phase, Supervisor};

/// Opens their file in the role's data directory.
///
/// # Errors
/// Those of [`Events::open`].
pub(super) fn open(dir: &Path, config: &Config, registry: &mut Registry) -> Result<Events, Error> {
    Events::open(dir, &config.events, Metrics::register(registry), super::wall_ns)
}

/// The same, or none: a node does without.
pub(super) fn open_or_off(dir: &Path, config: &Config, registry: &mut Registry) -> Events {
    let metrics = Metrics::register(registry);
    Events::open(dir, &config.events, metrics.clone(), super::wall_ns).unwrap_or_else(|error| {
        let error = error.to_string();
        tracing::warn!(error, "events cannot be kept; --data-dir chooses another place");
        Events::off(error, &config.events, metrics)
    })
}

/// Lets them expire while the role runs, and closes their file behind the last request.
pub(super) fn keep_time(supervisor: &mut Supervisor, events: &Events) {
    let (events, token) = (events.clone(), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "events", async move {
        events.keep_time(token).await;
        Ok::<_, Infallible>(())
    });
}
