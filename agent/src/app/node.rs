//! `sextant node`: sources into latest values and records, latest values to HTTP, records to the spool.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};

use super::host_facts::HostFacts;
use super::listen::{self, Bound};
use super::records::{self, Inputs, Pace, Writer};
use super::{delivery_view, health, watchdog};
use crate::config::Config;
use crate::delivery::forwarder::{Forwarder, Sender};
use crate::delivery::metrics::{ForwardMetrics, SpoolMetrics, register_age};
use crate::delivery::spool::Spool;
use crate::delivery::status::StatusDoor;
use crate::delivery::transport::http::Http;
use crate::domain::pod::PodMap;
use crate::domain::scheduler::SchedulerReading;
use crate::domain::source::SourceHealth;
use crate::http::exposition::node::NodeCollector;
use crate::http::exposition::process::ProcessCollector;
use crate::http::exposition::reference::ReferenceCollector;
use crate::http::node::{Handles, NodeState, router};
use crate::http::{self, Common, Identity, Parts, Role, door, serve};
use crate::sources::{pods, scheduler};
use crate::task::{Phase, Supervisor};
use crate::telemetry;

/// Exits that wait to be recorded: a scheduler that restarts in a loop makes one a second.
const EXITS_WAITING: usize = 64;
/// For answers that are under way when the node stops.
const HTTP_GRACE: Duration = Duration::from_secs(3);

/// The OpenAPI document of this role.
pub fn openapi() -> String {
    http::openapi::to_json(&http::node::document())
}

/// What would run, in words, for `--check`.
pub fn plan(config: &Config) -> String {
    let node = HostFacts::read(&config.host, &config.node.name).node;
    let forward = config.forward.receiver.as_ref().map_or_else(
        || "answer locally only (no --receiver)".to_owned(),
        |url| format!("forward to {url}, spooling in {}", config.node.data_dir.display()),
    );
    format!(
        "node {node}\nlisten on {}\nread every {} ms\n{forward}\n",
        config.node.listen.join(", "),
        config.node.interval_ms
    )
}

/// Runs until a signal or a critical failure.
///
/// # Errors
/// When it cannot start (a taken port, an unusable data directory), or a critical task ended.
pub async fn run(config: Config) -> Result<()> {
    let started_at_ns = super::wall_ns();
    let facts = HostFacts::read(&config.host, &config.node.name);
    let bound = bind(&config).await?;
    let (mut registry, panics) = telemetry::registry("node");
    telemetry::install_panic_hook(panics);
    let mut supervisor = Supervisor::new();
    let ours = registry.sub_registry_with_prefix("sextant");

    let (scheduler_out, scheduler) = watch::channel(Arc::new(SchedulerReading::default()));
    let (pods_out, pods) = watch::channel(Arc::new(PodMap::default()));
    let (exits_out, exits) = mpsc::channel(EXITS_WAITING);
    let (scheduler_health_out, scheduler_health) =
        watch::channel(SourceHealth { name: "scheduler", ..SourceHealth::default() });
    let (pods_health_out, pods_health) =
        watch::channel(vec![SourceHealth { name: "pods", ..SourceHealth::default() }]);

    let sources = health::merged(&mut supervisor, scheduler_health, pods_health);
    let pods_metrics = pods::metrics::Metrics::register(ours);
    let delivery = Delivery::start(&mut supervisor, &config, &facts, ours)?;

    spawn_scheduler(&mut supervisor, &config, scheduler_out, exits_out, scheduler_health_out);
    let source = (config.host.clone(), config.pods);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "pods", move || {
        let source = pods::PodsSource::new(source.0.clone(), source.1).with_metrics(pods_metrics.clone());
        pods::run(source, super::wall_ns, pods_out.clone(), pods_health_out.clone(), token.clone())
    });

    let (recorder, posts) = door::channel();
    let inputs = Inputs { scheduler: scheduler.clone(), pods: pods.clone(), exits, posts };
    let writer =
        Writer { spool: delivery.spool.clone(), boot_id: facts.boot_id.clone(), clock: super::wall_ns };
    let pace = Pace {
        scheduler: Duration::from_millis(config.node.scheduler_record_interval_ms),
        pods: Duration::from_millis(config.node.pods_record_interval_ms),
    };
    let token = supervisor.token(Phase::Sources);
    supervisor.critical(Phase::Sources, "records", async move {
        records::run(inputs, writer, pace, token).await;
        Ok::<_, Infallible>(())
    });

    ours.register_collector(Box::new(NodeCollector {
        scheduler: scheduler.clone(),
        sources: sources.clone(),
    }));
    ours.register_collector(Box::new(ProcessCollector::new(started_at_ns)));
    let metrics = http::metrics::Metrics::register(ours);
    if config.http.reference_metric_names {
        let machine_id = facts.machine_id.clone();
        registry
            .register_collector(Box::new(ReferenceCollector { scheduler: scheduler.clone(), machine_id }));
    }
    let draining = tokio_util::sync::CancellationToken::new();
    let common = Common::from(Parts {
        config: config.http.clone(),
        identity: Identity {
            role: Role::Node,
            name: facts.node,
            kernel: facts.kernel,
            machine_id: facts.machine_id,
            started_at_ns,
        },
        clock: super::wall_ns,
        registry,
        metrics,
        sources,
        draining: draining.clone(),
    });
    let recorder = delivery.spool.is_some().then_some(recorder);
    let state = NodeState::new(
        common.clone(),
        Handles { scheduler: scheduler.clone(), pods, delivery: delivery.view, recorder },
    );
    let follower = (state.clone(), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "history", async move {
        let (state, token) = follower;
        state.follow(token.clone()).await;
        // Its source stops before HTTP does: what it kept stands until then.
        token.cancelled().await;
        Ok::<_, Infallible>(())
    });
    listen::announce(&bound)?;
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "http", async move {
        serve::serve(bound.listeners, router(&state), common, token, HTTP_GRACE).await;
        Ok::<_, Infallible>(())
    });
    watchdog::spawn(&mut supervisor, scheduler, Duration::from_millis(config.node.interval_ms));
    super::notify(sd_notify::NotifyState::Ready);
    Ok(super::until_stopped(supervisor, || draining.cancel()).await?)
}

async fn bind(config: &Config) -> Result<Bound> {
    let mut bound = listen::tcp(&config.node.listen).await?;
    let path = &config.node.unix_socket;
    if !path.as_os_str().is_empty() {
        match listen::unix(path).await {
            Ok(listener) => {
                bound.listeners.push(listener);
                tracing::info!(path = %path.display(), "listening on a unix socket");
            }
            Err(error) if config.node.unix_socket_required => return Err(error),
            Err(error) => tracing::info!(
                error = format!("{error:#}"),
                "no unix socket; --unix-socket chooses its place"
            ),
        }
    }
    Ok(bound)
}

fn spawn_scheduler(
    supervisor: &mut Supervisor,
    config: &Config,
    out: watch::Sender<Arc<SchedulerReading>>,
    exits: mpsc::Sender<crate::domain::exit::SchedulerExit>,
    health: watch::Sender<SourceHealth>,
) {
    let (roots, settings) = (config.host.clone(), config.scheduler.clone());
    let period = Duration::from_millis(config.node.interval_ms);
    let token = supervisor.token(Phase::Sources);
    supervisor.best_effort(Phase::Sources, "scheduler", move || {
        let reader = Box::new(scheduler::KernelReader::new(&roots));
        let source = scheduler::SchedulerSource::new(&roots, settings.clone(), reader);
        let (out, exits, health, token) = (out.clone(), exits.clone(), health.clone(), token.clone());
        async move {
            scheduler::run(source, period, super::wall_ns, out, exits, health, token).await;
            Ok::<_, Infallible>(())
        }
    });
}

/// The way out: a spool and a forwarder, or nothing where no receiver is configured.
struct Delivery {
    spool: Option<Spool>,
    view: http::node::DeliveryView,
}

impl Delivery {
    fn start(
        supervisor: &mut Supervisor,
        config: &Config,
        facts: &HostFacts,
        registry: &mut prometheus_client::registry::Registry,
    ) -> Result<Self> {
        let Some(url) = &config.forward.receiver else {
            return Ok(Self { spool: None, view: Arc::new(|_| crate::api::status::Delivery::default()) });
        };
        let dir = &config.node.data_dir;
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make {}; --data-dir chooses another place", dir.display()))?;
        let spool = Spool::open(dir, &config.spool, SpoolMetrics::register(registry), super::wall_ns)
            .with_context(|| format!("cannot open the spool in {}", dir.display()))?;
        register_age(registry, &spool, super::wall_ns);
        let transport = Http::new(url, Duration::from_millis(config.forward.connect_timeout_ms))?;
        let sender = Sender { node: facts.node.clone(), boot_id: facts.boot_id.clone() };
        let metrics = ForwardMetrics::register(registry);
        let forwarder =
            Forwarder::new(spool.clone(), transport, &config.forward, sender, metrics, super::wall_ns);
        let door = StatusDoor::new(&spool, Some(forwarder.link()), super::wall_ns);
        let (token, closing) = (supervisor.token(Phase::Delivery), spool.clone());
        supervisor.critical(Phase::Delivery, "forwarder", async move {
            forwarder.run(token).await;
            closing.close().await;
            Ok::<_, Infallible>(())
        });
        Ok(Self { spool: Some(spool), view: Arc::new(move |now_ns| delivery_view::of(&door.now(), now_ns)) })
    }
}
