//! `sextant node`: sources into latest values and records, latest values to HTTP, records to the spool.

mod anomalies;
mod delivery;
mod events;
mod sources;
mod workloads;

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::host_facts::HostFacts;
use super::listen::{self, Bound};
use super::records::{self, Inputs, Pace, Workloads, Writer};
use super::reload::Reload;
use super::{events as kept, health, reload, watchdog};
use crate::config::Config;
use crate::events::Events;
use crate::http::exposition::database::DatabaseCollector;
use crate::http::exposition::gpu::{GpuCollector, GpuSourceCollector};
use crate::http::exposition::node::NodeCollector;
use crate::http::exposition::process::ProcessCollector;
use crate::http::exposition::reference::ReferenceCollector;
use crate::http::exposition::runqueue::RunqueueCollector;
use crate::http::exposition::runqueue::reference::GthulhuCollector;
use crate::http::exposition::usage::UsageCollector;
use crate::http::node::database::Database;
use crate::http::node::{Handles, NodeState, router};
use crate::http::{self, Common, Parts, Role, door, serve};
use crate::task::{Phase, Supervisor};
use crate::telemetry;

/// For answers that are under way when the node stops.
const HTTP_GRACE: Duration = Duration::from_secs(3);

/// By then sources have tried everything once, on all but the slowest machines.
const SETTLED: Duration = Duration::from_secs(10);

/// The OpenAPI document of this role.
pub fn openapi() -> String {
    http::openapi::to_json(&http::node::document())
}

/// What is set up while the process has one thread: the log has one of its own.
pub fn prepare() {
    crate::kernel::heap::share();
}

/// Runs until a signal or a critical failure, after [`prepare`].
///
/// # Errors
/// When it cannot start (a taken port, an unusable data directory), or a critical task ended.
pub async fn run(config: Config) -> Result<()> {
    super::open_files::raise();
    let started_at_ns = super::wall_ns();
    let facts = HostFacts::read(&config.host, &config.node.name);
    let (keys, mut reload) = reload::keys(&config.keys)?;
    let bound = bind(&config, &mut reload).await?;
    let (mut registry, panics) = telemetry::registry("node");
    telemetry::install_panic_hook(panics);
    let ours = registry.sub_registry_with_prefix("sextant");

    let mut supervisor = Supervisor::new();
    let delivery = delivery::start(&mut supervisor, &config, &facts, ours, &mut reload)?;
    let events = kept::open_or_off(&config.node.data_dir, &config, ours);
    kept::keep_time(&mut supervisor, &events);
    let mut sources = sources::start(&mut supervisor, &config, &facts.node, ours);
    let reloaded = reload.start(&mut supervisor);
    sources.health = health::joined(&mut supervisor, sources.health, reloaded);
    events::start(&mut supervisor, &events, sources.health.clone(), &delivery, &facts);
    sources.health = health::joined(&mut supervisor, sources.health, events.health());
    let (anomalies, anomaly_events) =
        anomalies::start(&mut supervisor, &config, &facts, &sources, bound.ports(), ours);
    let workloads = workloads::start(&mut supervisor, &config, ours);
    let (recorder, posts) = door::channel();
    let inputs = Inputs {
        scheduler: sources.scheduler.clone(),
        pods: sources.pods.clone(),
        usage: sources.usage.clone(),
        runqueues: sources.runqueues.clone(),
        gpus: sources.gpus.clone(),
        database: sources.database.clone(),
        workloads: Workloads::new(workloads.owner().ok().map(|owner| &owner.handle)),
        events: sources.events,
        anomalies: anomaly_events,
        posts,
    };
    let spool = delivery.spool.clone();
    let boot_id = facts.boot_id.clone();
    let writer = Writer { spool, events: events.clone(), boot_id, clock: super::wall_ns };
    start_records(&mut supervisor, &config, inputs, writer);

    let (scheduler, health) = (sources.scheduler.clone(), sources.health.clone());
    ours.register_collector(Box::new(NodeCollector { scheduler, sources: health }));
    let (pods, usage) = (sources.pods.clone(), sources.usage.clone());
    let usage = UsageCollector::new(pods, usage, config.usage.max_pods_exported);
    ours.register_collector(Box::new(usage));
    let (pods, runqueues) = (sources.pods.clone(), sources.runqueues.clone());
    let runqueues = RunqueueCollector::new(pods, runqueues, config.runqlat.max_pods_exported);
    ours.register_collector(Box::new(runqueues));
    ours.register_collector(Box::new(DatabaseCollector { history: sources.database.clone() }));
    ours.register_collector(Box::new(GpuSourceCollector { map: sources.gpus.clone() }));
    let metrics = http::metrics::Metrics::register(ours);
    registry.register_collector(Box::new(ProcessCollector::new(started_at_ns)));
    registry.register_collector(Box::new(GpuCollector { map: sources.gpus }));
    if config.http.reference_metric_names {
        let (scheduler, machine_id) = (sources.scheduler.clone(), facts.machine_id.clone());
        registry.register_collector(Box::new(ReferenceCollector { scheduler, machine_id }));
        registry.register_collector(Box::new(GthulhuCollector {
            pods: sources.pods.clone(),
            runqueues: sources.runqueues.clone(),
            node: facts.node.clone(),
            max_pods: config.runqlat.max_pods_exported,
        }));
    }
    let draining = CancellationToken::new();
    let common = Common::from(Parts {
        config: config.http.clone(),
        identity: facts.identity(Role::Node, started_at_ns),
        keys,
        clock: super::wall_ns,
        registry,
        events: events.clone(),
        metrics,
        sources: sources.health,
        draining: draining.clone(),
    });
    let recorder = delivery.spool.is_some().then_some(recorder);
    let scheduler = sources.scheduler.clone();
    let (pods, usage, runqueues) = (sources.pods, sources.usage, sources.runqueues);
    let delivery = delivery.view;
    let database = Database { history: sources.database, prometheus: sources::prometheus(&config) };
    let handles =
        Handles { scheduler, pods, usage, runqueues, delivery, recorder, anomalies, database, workloads };
    let state = NodeState::new(common.clone(), handles);
    start_http(&mut supervisor, bound, state, common, events)?;
    watchdog::spawn(&mut supervisor, sources.scheduler, config.node.interval());
    trim_when_settled(&mut supervisor);
    Ok(super::until_stopped(supervisor, || draining.cancel()).await?)
}

/// Gives back the memory that only the start needed.
fn trim_when_settled(supervisor: &mut Supervisor) {
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "trim", move || {
        let token = token.clone();
        async move {
            if token.run_until_cancelled(tokio::time::sleep(SETTLED)).await.is_none() {
                return Ok(());
            }
            tokio::task::spawn_blocking(crate::kernel::heap::trim).await
        }
    });
}

async fn bind(config: &Config, reload: &mut Reload) -> Result<Bound> {
    let tls = reload.tls(&config.http.tls)?;
    let mut bound = listen::tcp(&config.node.listen, tls.as_ref()).await?;
    let path = &config.node.unix_socket;
    if path.as_os_str().is_empty() {
        return Ok(bound);
    }
    match listen::unix(path).await {
        Ok(listener) => {
            bound.listeners.push(listener);
            tracing::info!(path = %path.display(), "listening on a unix socket");
        }
        Err(error) if config.node.unix_socket_required => return Err(error),
        Err(error) => {
            let error = format!("{error:#}");
            tracing::info!(error, "no unix socket; --unix-socket chooses its place");
        }
    }
    Ok(bound)
}

fn start_records(supervisor: &mut Supervisor, config: &Config, inputs: Inputs, writer: Writer) {
    let pace = Pace {
        scheduler: Duration::from_millis(config.node.scheduler_record_interval_ms),
        pods: Duration::from_millis(config.node.pods_record_interval_ms),
        usage: Duration::from_millis(config.node.usage_record_interval_ms),
    };
    let token = supervisor.token(Phase::Records);
    supervisor.critical(Phase::Records, "records", async move {
        records::run(inputs, writer, pace, token).await;
        Ok::<_, Infallible>(())
    });
}

fn start_http(
    supervisor: &mut Supervisor,
    bound: Bound,
    state: NodeState,
    common: Common,
    events: Events,
) -> Result<()> {
    let (follower, token) = (state.clone(), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "history", async move {
        follower.follow(token.clone()).await;
        // Its source stops before HTTP does: what it kept stands until then.
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
    listen::announce(&bound)?;
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "http", async move {
        serve::serve(bound.listeners, router(&state), common, token, HTTP_GRACE).await;
        events.close().await;
        Ok::<_, Infallible>(())
    });
    Ok(())
}
