//! Anomalies on purpose: their owner, and the door to it.

use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use super::sources::Sources;
use crate::actions::{self, Handle, Metrics, Parts};
use crate::app::host_facts::HostFacts;
use crate::app::wall_ns;
use crate::config::Config;
use crate::domain::event::AnomalyEvent;
use crate::http::node::anomalies::Anomalies;
use crate::task::{Phase, Supervisor};

const OFF: &str = "anomalies are off: set enabled = true in [actions], and a key of scope act in [keys], of the configuration file";

/// Beginnings and ends that wait for the spool: more than may come between two of its answers.
const MAX_EVENTS: usize = 256;

/// Starts their owner where they are allowed; the receiver is told of what begins and ends. A node whose owner cannot start does without.
pub(super) fn start(
    supervisor: &mut Supervisor,
    config: &Config,
    facts: &HostFacts,
    sources: &Sources,
    own_ports: Vec<u16>,
    registry: &mut Registry,
) -> (Anomalies, mpsc::Receiver<AnomalyEvent>) {
    let (events, told) = mpsc::channel(MAX_EVENTS);
    if !config.actions.enabled {
        return (Err(OFF.to_owned()).into(), told);
    }
    let started = owner(config, facts, sources, own_ports, events, registry);
    match &started {
        Ok(handle) => {
            let (handle, token) = (handle.clone(), supervisor.token(Phase::Actions));
            supervisor.critical(Phase::Actions, "anomalies", handle.until(token));
        }
        Err(error) => tracing::error!(error, "anomalies cannot be provoked"),
    }
    (started.into(), told)
}

fn owner(
    config: &Config,
    facts: &HostFacts,
    sources: &Sources,
    own_ports: Vec<u16>,
    events: mpsc::Sender<AnomalyEvent>,
    registry: &mut Registry,
) -> Result<Handle, String> {
    let dir = &config.node.data_dir;
    let off = |error: &dyn std::fmt::Display| format!("anomalies are off: {error}");
    std::fs::create_dir_all(dir).map_err(|error| off(&format!("{}: {error}", dir.display())))?;
    let handle = actions::start(Parts {
        config: config.actions.clone(),
        roots: config.host.clone(),
        pods: sources.pods.clone(),
        scheduler: sources.scheduler.clone(),
        own_ports,
        events,
        boot_id: facts.boot_id.clone(),
        journal: dir.join("anomalies.journal"),
        clock: wall_ns,
        metrics: Metrics::register(registry),
    });
    handle.map_err(|error| off(&error))
}
