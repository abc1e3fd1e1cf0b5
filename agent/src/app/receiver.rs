//! `sextant receiver`: store, fleet and queue behind HTTP. Builds no source, so it needs no privilege and no host path.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::check::{place_of_queue, place_of_series};
use super::host_facts::HostFacts;
use super::{events as kept, health, listen, reload};
use crate::config::Config;
use crate::domain::source::{Condition, SourceHealth};
use crate::host::HostRoots;
use crate::http::exposition::process::ProcessCollector;
use crate::http::receiver::exposition::FleetCollector;
use crate::http::receiver::queue::Door;
use crate::http::receiver::{ReceiverState, router};
use crate::http::{self, Common, Parts, Role, serve};
use crate::queue::{self, Queue};
use crate::receiver::collector::{self, nodes::Nodes, topic};
use crate::receiver::fleet::Fleet;
use crate::receiver::ingest::{self, Ingest};
use crate::series::{self, Series};
use crate::store::{self, Store};
use crate::task::{Phase, Supervisor};
use crate::telemetry;

mod alerts;
mod nodes;

/// For batches that are under way when the receiver stops.
const HTTP_GRACE: Duration = Duration::from_secs(5);

/// The OpenAPI document of this role.
pub fn openapi() -> String {
    http::openapi::to_json(&http::receiver::document())
}

/// What is set up while the process has one thread: the log has one of its own.
pub fn prepare() {
    crate::kernel::heap::share_between_two();
}

/// Runs until a signal or a critical failure, after [`prepare`].
///
/// # Errors
/// When it cannot start (a taken port, an unusable data directory), or a critical task ended.
pub async fn run(config: Config) -> Result<()> {
    let started_at_ns = super::wall_ns();
    let facts = HostFacts::read(&HostRoots::default(), "");
    let (keys, mut reload) = reload::keys(&config.keys)?;
    let tls = reload.tls(&config.http.tls)?;
    let bound = listen::tcp(&config.receiver.listen, tls.as_ref()).await?;
    let (mut registry, panics) = telemetry::registry("receiver");
    telemetry::install_panic_hook(panics);
    let mut supervisor = Supervisor::new();
    let ours = registry.sub_registry_with_prefix("sextant");

    let dir = &config.receiver.data_dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot make {}; --data-dir chooses another place", dir.display()))?;
    let store = Store::open(dir, &config.store, store::Metrics::register(ours))
        .with_context(|| format!("cannot open the store in {}", dir.display()))?;
    let fleet = Arc::new(Fleet::restore(&store).await?);
    let ingest = Arc::new(Ingest::new(store.clone(), fleet, ingest::Metrics::register(ours), super::wall_ns));

    let events = kept::open(dir, &config, ours)
        .with_context(|| format!("cannot open the events in {}", dir.display()))?;
    kept::keep_time(&mut supervisor, &events);

    let queue_metrics = queue::Metrics::register(ours);
    let queue = Queue::open(dir, &config.queue, queue_metrics.clone(), super::wall_ns)
        .await
        .with_context(|| format!("cannot open the queue {}", place_of_queue(&config)))?;

    let series = Series::open(dir, &config.series, series::Metrics::register(ours), super::wall_ns)
        .await
        .with_context(|| format!("cannot open the series {}", place_of_series(&config)))?;
    let collected = collector::Metrics::register(ours);
    let watched = crate::alerts::Metrics::register(ours);
    let alerts = alerts::start(&mut supervisor, &config, dir, &series, &events, watched, &mut reload)?;

    ours.register_collector(Box::new(FleetCollector { ingest: Arc::clone(&ingest), clock: super::wall_ns }));
    let metrics = http::metrics::Metrics::register(ours);
    registry.register_collector(Box::new(ProcessCollector::new(started_at_ns)));
    queue_metrics.register_reference(&mut registry);
    collected.register_reference(&mut registry);
    let files = series.files();
    if !files.is_empty() {
        let again = series.clone();
        let read = move || again.reload().map(|()| "for the next request".to_owned());
        reload.add("series", files, move || read().map_err(|error| error.to_string()));
    }
    let (ours, reloaded) = (parts(&mut supervisor, &store, &queue, &series), reload.start(&mut supervisor));
    let ours = health::joined(&mut supervisor, ours, events.health());
    let draining = tokio_util::sync::CancellationToken::new();
    let common = Common::from(Parts {
        config: config.http.clone(),
        identity: facts.identity(Role::Receiver, started_at_ns),
        keys,
        clock: super::wall_ns,
        registry,
        events: events.clone(),
        metrics,
        sources: health::joined(&mut supervisor, ours, reloaded),
        draining: draining.clone(),
    });
    let of_series = http::receiver::series::Door::new(series.clone());
    let nodes = Nodes::new(store.clone(), series.clone(), collected.clone(), dir);
    collect(&mut supervisor, nodes, &queue, &series, collected);
    let (accounts, token) =
        (alerts::account(Arc::clone(&ingest), series.clone()), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "fleet's accounts", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = accounts => {}
        }
        Ok::<_, Infallible>(())
    });
    if config.receiver.nodes_from_queue {
        let (queue, ingest, token) = (queue.clone(), Arc::clone(&ingest), supervisor.token(Phase::Http));
        supervisor.critical(Phase::Http, "nodes' batches", async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = nodes::take(queue, ingest) => {}
            }
            Ok::<_, Infallible>(())
        });
    }
    let state = ReceiverState::new(
        common.clone(),
        ingest,
        Door::new(queue.clone(), config.queue.max_streams),
        of_series,
        alerts,
    );
    let (timed, token) = (queue.clone(), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "queue's deadlines", async move {
        timed.keep_time(token).await;
        Ok::<_, Infallible>(())
    });
    listen::announce(&bound)?;
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "http", async move {
        serve::serve(bound.listeners, router(&state), common, token, HTTP_GRACE).await;
        // Last of all: what was answered is on disk already; this closes the files in order.
        events.close().await;
        store.close().await;
        queue.close().await;
        series.close().await;
        Ok::<_, Infallible>(())
    });
    Ok(super::until_stopped(supervisor, || draining.cancel()).await?)
}

/// Records and queued telemetry become series until the receiver stops.
fn collect(
    supervisor: &mut Supervisor,
    nodes: Nodes,
    queue: &Queue,
    series: &Series,
    metrics: collector::Metrics,
) {
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "nodes' series", async move {
        nodes.run(token).await;
        Ok::<_, Infallible>(())
    });
    let (queue, of_topic, token) = (queue.clone(), series.clone(), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "telemetry's series", async move {
        tokio::select! {
            () = token.cancelled() => {}
            () = topic::run(queue, of_topic, metrics) => {}
        }
        Ok::<_, Infallible>(())
    });
    let (timed, token) = (series.clone(), supervisor.token(Phase::Http));
    supervisor.critical(Phase::Http, "days of series", async move {
        timed.keep_time(token).await;
        Ok::<_, Infallible>(())
    });
}

/// Stores and queue: what a receiver can lack.
fn parts(
    supervisor: &mut Supervisor,
    store: &Store,
    queue: &Queue,
    series: &Series,
) -> watch::Receiver<Vec<SourceHealth>> {
    let (mut store, mut queue, mut series) = (store.status(), queue.status(), series.status());
    let all =
        |store: &mut watch::Receiver<_>, queue: &mut watch::Receiver<_>, series: &mut watch::Receiver<_>| {
            health_of(&store.borrow_and_update(), &queue.borrow_and_update(), &series.borrow_and_update())
        };
    let (out, shown) = watch::channel(all(&mut store, &mut queue, &mut series));
    let token = supervisor.token(Phase::Http);
    supervisor.critical(Phase::Http, "health", async move {
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok::<_, Infallible>(()),
                changed = store.changed() => if changed.is_err() { break },
                changed = queue.changed() => if changed.is_err() { break },
                changed = series.changed() => if changed.is_err() { break },
            }
            out.send_if_modified(|shown| {
                let now = all(&mut store, &mut queue, &mut series);
                let changed = *shown != now;
                *shown = now;
                changed
            });
        }
        token.cancelled().await;
        Ok(())
    });
    shown
}

fn health_of(store: &store::Status, queue: &queue::Status, series: &series::Status) -> Vec<SourceHealth> {
    let health = |name, degraded: &Option<String>, damage: &Option<String>| {
        let lacks: Vec<String> = degraded.iter().chain(damage).cloned().collect();
        let condition = if degraded.is_some() { Condition::Degraded } else { Condition::Up };
        SourceHealth { name, condition, lacks, ..SourceHealth::default() }
    };
    vec![
        health("store", &store.degraded, &store.damage),
        health("queue", &queue.degraded, &queue.damage),
        health("series", &series.degraded, &series.damage),
    ]
}
