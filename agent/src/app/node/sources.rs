//! The node's sources and their latest values.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::app::{health, wall_ns};
use crate::config::Config;
use crate::domain::database::History;
use crate::domain::event::SchedulerEvent;
use crate::domain::gpu::GpuMap;
use crate::domain::pod::PodMap;
use crate::domain::runqueue::RunqueuePair;
use crate::domain::scheduler::SchedulerReading;
use crate::domain::source::SourceHealth;
use crate::domain::usage::{Target, UsageMap, targets};
use crate::sources::database::prometheus::Prometheus;
use crate::sources::{database, gpu, pods, runqlat, scheduler, usage};
use crate::task::{Phase, Supervisor};

/// Events that wait to be recorded: all counters of the newest kernel at once, three times over; the source waits
/// while there are more.
const EVENTS_WAITING: usize = 64;

/// What the sources say.
pub(super) struct Sources {
    pub(super) scheduler: watch::Receiver<Arc<SchedulerReading>>,
    pub(super) events: mpsc::Receiver<SchedulerEvent>,
    pub(super) pods: watch::Receiver<Arc<PodMap>>,
    pub(super) usage: watch::Receiver<Arc<UsageMap>>,
    pub(super) runqueues: watch::Receiver<Arc<RunqueuePair>>,
    pub(super) database: watch::Receiver<Arc<History>>,
    pub(super) gpus: watch::Receiver<Arc<GpuMap>>,
    pub(super) health: watch::Receiver<Vec<SourceHealth>>,
}

/// Starts every source; each is best effort.
pub(super) fn start(
    supervisor: &mut Supervisor,
    config: &Config,
    node: &str,
    registry: &mut Registry,
) -> Sources {
    let (scheduler, events, scheduler_health) = start_scheduler(supervisor, config);
    let (pods, pods_health) = start_pods(supervisor, config, registry);
    let (usage, usage_health) = start_usage(supervisor, config, registry, pods.clone());
    let (runqueues, runqlat_health) = start_runqlat(supervisor, config);
    let (database, database_health) = start_database(supervisor, config);
    let (gpus, gpu_health) = start_gpu(supervisor, config, node);
    let others = vec![pods_health, usage_health, runqlat_health, database_health, gpu_health];
    let health = health::merged(supervisor, scheduler_health, others);
    Sources { scheduler, events, pods, usage, runqueues, database, gpus, health }
}

type SchedulerSide =
    (watch::Receiver<Arc<SchedulerReading>>, mpsc::Receiver<SchedulerEvent>, watch::Receiver<SourceHealth>);

fn start_scheduler(supervisor: &mut Supervisor, config: &Config) -> SchedulerSide {
    let (out, readings) = watch::channel(Arc::new(SchedulerReading::default()));
    let (events_out, events) = mpsc::channel(EVENTS_WAITING);
    let (health_out, health) = watch::channel(SourceHealth { name: "scheduler", ..SourceHealth::default() });
    let (roots, settings) = (config.host.clone(), config.scheduler.clone());
    let period = Duration::from_millis(config.node.interval_ms);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "scheduler", move || {
        let reader = Box::new(scheduler::KernelReader::new(&roots));
        let source = scheduler::SchedulerSource::new(&roots, settings.clone(), reader).watching(wall_ns);
        let (out, events, health, token) =
            (out.clone(), events_out.clone(), health_out.clone(), token.clone());
        async move {
            scheduler::run(source, period, wall_ns, out, events, health, token).await;
            Ok::<_, Infallible>(())
        }
    });
    (readings, events, health)
}

fn start_pods(
    supervisor: &mut Supervisor,
    config: &Config,
    registry: &mut Registry,
) -> (watch::Receiver<Arc<PodMap>>, watch::Receiver<Vec<SourceHealth>>) {
    let (out, maps) = watch::channel(Arc::new(PodMap::default()));
    let (health_out, health) = watch::channel(vec![SourceHealth { name: "pods", ..SourceHealth::default() }]);
    let metrics = pods::metrics::Metrics::register(registry);
    let (roots, settings) = (config.host.clone(), config.pods);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "pods", move || {
        let source = pods::PodsSource::new(roots.clone(), settings).with_metrics(metrics.clone());
        pods::run(source, wall_ns, out.clone(), health_out.clone(), token.clone())
    });
    (maps, health)
}

fn start_usage(
    supervisor: &mut Supervisor,
    config: &Config,
    registry: &mut Registry,
    pods: watch::Receiver<Arc<PodMap>>,
) -> (watch::Receiver<Arc<UsageMap>>, watch::Receiver<Vec<SourceHealth>>) {
    let (out, maps) = watch::channel(Arc::new(UsageMap::default()));
    let (health_out, health) =
        watch::channel(vec![SourceHealth { name: "usage", ..SourceHealth::default() }]);
    let metrics = usage::metrics::Metrics::register(registry);
    let (roots, settings) = (config.host.clone(), config.usage);
    let targets = follow_targets(supervisor, pods);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "usage", move || {
        let source = usage::UsageSource::new(roots.clone(), settings).with_metrics(metrics.clone());
        usage::run(source, wall_ns, targets.clone(), out.clone(), health_out.clone(), token.clone())
    });
    (maps, health)
}

fn start_runqlat(
    supervisor: &mut Supervisor,
    config: &Config,
) -> (watch::Receiver<Arc<RunqueuePair>>, watch::Receiver<Vec<SourceHealth>>) {
    let (out, pairs) = watch::channel(Arc::new(RunqueuePair::default()));
    let (health_out, health) =
        watch::channel(vec![SourceHealth { name: "runqlat", ..SourceHealth::default() }]);
    let (roots, settings) = (config.host.clone(), config.runqlat);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "runqlat", move || {
        runqlat::run(roots.clone(), settings, wall_ns, out.clone(), health_out.clone(), token.clone())
    });
    (pairs, health)
}

fn start_database(
    supervisor: &mut Supervisor,
    config: &Config,
) -> (watch::Receiver<Arc<History>>, watch::Receiver<Vec<SourceHealth>>) {
    let (out, histories) = watch::channel(Arc::default());
    let (health_out, health) =
        watch::channel(vec![SourceHealth { name: database::NAME, ..SourceHealth::default() }]);
    let (settings, login) = (config.database_source.clone(), config.database.clone());
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "database", move || {
        let (settings, login) = (settings.clone(), login.clone());
        let (out, health, token) = (out.clone(), health_out.clone(), token.clone());
        async move {
            database::run(settings, login, wall_ns, out, health, token).await;
            Ok::<_, Infallible>(())
        }
    });
    (histories, health)
}

fn start_gpu(
    supervisor: &mut Supervisor,
    config: &Config,
    node: &str,
) -> (watch::Receiver<Arc<GpuMap>>, watch::Receiver<Vec<SourceHealth>>) {
    let (map_out, maps) = watch::channel(Arc::default());
    let (health_out, health) =
        watch::channel(vec![SourceHealth { name: gpu::NAME, ..SourceHealth::default() }]);
    let (settings, roots, node) = (config.gpu.clone(), config.host.clone(), node.to_owned());
    let out = gpu::Outputs { map: map_out, health: health_out };
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "gpu", move || {
        gpu::run(settings.clone(), roots.clone(), node.clone(), wall_ns, out.clone(), token.clone())
    });
    (maps, health)
}

/// The Prometheus that tells of tenants, if one is configured.
pub(super) fn prometheus(config: &Config) -> Option<Prometheus> {
    let url = &config.database_source.prometheus_url;
    // Its address was checked with the configuration.
    if url.is_empty() { None } else { Prometheus::new(url).ok() }
}

/// What the usage source reads, from what the pods source found: sources never meet.
fn follow_targets(
    supervisor: &mut Supervisor,
    mut pods: watch::Receiver<Arc<PodMap>>,
) -> watch::Receiver<Arc<[Target]>> {
    let (out, wanted) = watch::channel(Arc::from(targets(&pods.borrow_and_update())));
    let token = supervisor.token(Phase::Sources);
    supervisor.critical(Phase::Sources, "usage targets", async move {
        while let Some(Ok(())) = token.run_until_cancelled(pods.changed()).await {
            let now = targets(&pods.borrow_and_update());
            out.send_if_modified(|known| {
                let changed = **known != *now;
                if changed {
                    *known = now.into();
                }
                changed
            });
        }
        // The pods source stops in the same phase, perhaps first: the last list stands until then.
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
    wanted
}
