//! Workloads on purpose: their owner, and the door to it.

use prometheus_client::registry::Registry;

use crate::app::wall_ns;
use crate::config::Config;
use crate::http::keys::Keys;
use crate::http::node::workloads::{Door, Workloads};
use crate::task::{Phase, Supervisor};
use crate::workloads::{self, Metrics, Parts};

const OFF: &str = "workloads are off: set enabled = true in [workloads] and keys_sha256 in [actions] of the \
                   configuration file";

/// Starts their owner where they are allowed. A node whose owner cannot start does without.
pub(super) fn start(supervisor: &mut Supervisor, config: &Config, registry: &mut Registry) -> Workloads {
    if !config.workloads.enabled {
        return Err(OFF.to_owned());
    }
    let started = door(supervisor, config, registry);
    if let Err(error) = &started {
        tracing::error!(error, "workloads cannot be started");
    }
    started
}

fn door(supervisor: &mut Supervisor, config: &Config, registry: &mut Registry) -> Workloads {
    let off = |error: &dyn std::fmt::Display| format!("workloads are off: {error}");
    let digests = config.actions.key_digests().map_err(|error| off(&error))?;
    let parts = Parts {
        config: config.workloads.clone(),
        database: config.database.clone(),
        clock: wall_ns,
        metrics: Metrics::register(registry),
    };
    let (handle, steward) = workloads::start(parts).map_err(|error| off(&error))?;
    let token = supervisor.token(Phase::Actions);
    supervisor.critical(Phase::Actions, "workloads", steward.run(token));
    let tables = (config.workloads.tables, config.workloads.table_size);
    Ok(Door { handle, keys: Keys::new(digests), tables })
}
