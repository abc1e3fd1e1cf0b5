//! The node's sources and their latest values.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::app::{health, wall_ns};
use crate::config::Config;
use crate::domain::exit::SchedulerExit;
use crate::domain::pod::PodMap;
use crate::domain::scheduler::SchedulerReading;
use crate::domain::source::SourceHealth;
use crate::sources::{pods, scheduler};
use crate::task::{Phase, Supervisor};

/// Exits that wait to be recorded: a scheduler that restarts in a loop makes one a second.
const EXITS_WAITING: usize = 64;

/// What the sources say.
pub(super) struct Sources {
    pub(super) scheduler: watch::Receiver<Arc<SchedulerReading>>,
    pub(super) exits: mpsc::Receiver<SchedulerExit>,
    pub(super) pods: watch::Receiver<Arc<PodMap>>,
    pub(super) health: watch::Receiver<Vec<SourceHealth>>,
}

/// Starts every source; each is best effort.
pub(super) fn start(supervisor: &mut Supervisor, config: &Config, registry: &mut Registry) -> Sources {
    let (scheduler, exits, scheduler_health) = start_scheduler(supervisor, config);
    let (pods, pods_health) = start_pods(supervisor, config, registry);
    Sources { scheduler, exits, pods, health: health::merged(supervisor, scheduler_health, pods_health) }
}

type SchedulerSide =
    (watch::Receiver<Arc<SchedulerReading>>, mpsc::Receiver<SchedulerExit>, watch::Receiver<SourceHealth>);

fn start_scheduler(supervisor: &mut Supervisor, config: &Config) -> SchedulerSide {
    let (out, readings) = watch::channel(Arc::new(SchedulerReading::default()));
    let (exits_out, exits) = mpsc::channel(EXITS_WAITING);
    let (health_out, health) = watch::channel(SourceHealth { name: "scheduler", ..SourceHealth::default() });
    let (roots, settings) = (config.host.clone(), config.scheduler.clone());
    let period = Duration::from_millis(config.node.interval_ms);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "scheduler", move || {
        let reader = Box::new(scheduler::KernelReader::new(&roots));
        let source = scheduler::SchedulerSource::new(&roots, settings.clone(), reader);
        let (out, exits, health, token) = (out.clone(), exits_out.clone(), health_out.clone(), token.clone());
        async move {
            scheduler::run(source, period, wall_ns, out, exits, health, token).await;
            Ok::<_, Infallible>(())
        }
    });
    (readings, exits, health)
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
