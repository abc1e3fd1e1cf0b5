//! Workloads on purpose: their owner, and the door to it.

use prometheus_client::registry::Registry;

use crate::app::wall_ns;
use crate::config::Config;
use crate::http::node::workloads::{Owner, Workloads};
use crate::task::{Phase, Supervisor};
use crate::workloads::{self, Metrics, Parts};

const OFF: &str = "workloads are off: set enabled = true in [workloads], and a key of scope act in [keys], of the \
                   configuration file";

/// Starts their owner where they are allowed. A node whose owner cannot start does without.
pub(super) fn start(supervisor: &mut Supervisor, config: &Config, registry: &mut Registry) -> Workloads {
    if !config.workloads.enabled {
        return Err(OFF.to_owned()).into();
    }
    let started = owner(supervisor, config, registry);
    if let Err(error) = &started {
        tracing::error!(error, "workloads cannot be started");
    }
    started.into()
}

fn owner(supervisor: &mut Supervisor, config: &Config, registry: &mut Registry) -> Result<Owner, String> {
    let off = |error: &dyn std::fmt::Display| format!("workloads are off: {error}");
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
    Ok(Owner { handle, tables })
}
