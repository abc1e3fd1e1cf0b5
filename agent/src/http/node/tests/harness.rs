//! A node without its sources: snapshots are set by the test, posts are taken by a fake recorder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::bss::Record;
use crate::api::status::Delivery;
use crate::domain::database::History;
use crate::domain::pod::PodMap;
use crate::domain::runqueue::RunqueuePair;
use crate::domain::scheduler::SchedulerReading;
use crate::domain::source::SourceHealth;
use crate::domain::usage::UsageMap;
use crate::http::door::{self, AcceptError};
use crate::http::exposition::database::DatabaseCollector;
use crate::http::exposition::node::NodeCollector;
use crate::http::exposition::runqueue::RunqueueCollector;
use crate::http::exposition::usage::UsageCollector;
use crate::http::keys::tests::of;
use crate::http::keys::{self, Keys, Scope};
use crate::http::node::anomalies::Anomalies;
use crate::http::node::database::Database;
use crate::http::node::workloads::Workloads;
use crate::http::node::{Handles, NodeState};
use crate::http::testing::{NOW_NS, identity};
use crate::http::{Common, Config, Parts, Role, metrics};

pub(super) struct Node {
    pub(super) router: Router,
    pub(super) state: NodeState,
    pub(super) common: Common,
    pub(super) scheduler: watch::Sender<Arc<SchedulerReading>>,
    pub(super) pods: watch::Sender<Arc<PodMap>>,
    pub(super) usage: watch::Sender<Arc<UsageMap>>,
    pub(super) runqueues: watch::Sender<Arc<RunqueuePair>>,
    pub(super) database: watch::Sender<Arc<History>>,
    pub(super) sources: watch::Sender<Vec<SourceHealth>>,
    pub(super) draining: CancellationToken,
    /// Records that the fake recorder took.
    pub(super) recorded: Arc<AtomicU64>,
}

/// What the fake recorder answers.
#[derive(Clone)]
pub(super) enum Recorder {
    None,
    Takes,
    Answers(AcceptError),
}

pub(super) fn node() -> Node {
    node_with(Config::default(), Recorder::None)
}

/// With a door to anomalies.
pub(super) fn node_in(anomalies: Anomalies) -> Node {
    node_of(Setup { anomalies, ..Setup::default() })
}

/// With a door to workloads.
pub(super) fn node_with_workloads(workloads: Workloads) -> Node {
    node_of(Setup { workloads, ..Setup::default() })
}

/// Needs a runtime: the fake recorder is a task.
pub(super) fn node_with(config: Config, answer: Recorder) -> Node {
    node_of(Setup { config, answer, ..Setup::default() })
}

/// What a node is made of.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) keys: keys::Config,
    pub(super) answer: Recorder,
    pub(super) anomalies: Anomalies,
    pub(super) workloads: Workloads,
}

impl Default for Setup {
    /// Whose `key` may act, and where there is nothing to act on.
    fn default() -> Self {
        Self {
            config: Config::default(),
            keys: of(&[("key", &[Scope::Act])]),
            answer: Recorder::None,
            anomalies: Err("anomalies are off".to_owned()).into(),
            workloads: Err("workloads are off".to_owned()).into(),
        }
    }
}

/// Needs a runtime: the fake recorder is a task.
pub(super) fn node_of(setup: Setup) -> Node {
    let Setup { config, keys, answer, anomalies, workloads } = setup;
    let keys = Keys::new(&keys).expect("keys");
    let (scheduler, readings) = watch::channel(Arc::default());
    let (pods, maps) = watch::channel(Arc::default());
    let (usage, usages) = watch::channel(Arc::default());
    let (runqueues, pairs) = watch::channel(Arc::default());
    let (sources, healths) = watch::channel(Vec::new());
    let (mut registry, _panics) = crate::telemetry::registry("node");
    let ours = registry.sub_registry_with_prefix("sextant");
    let metrics = metrics::Metrics::register(ours);
    ours.register_collector(Box::new(NodeCollector {
        scheduler: readings.clone(),
        sources: healths.clone(),
    }));
    ours.register_collector(Box::new(UsageCollector::new(maps.clone(), usages.clone(), 110)));
    ours.register_collector(Box::new(RunqueueCollector::new(maps.clone(), pairs.clone(), 110)));
    let (database, histories) = watch::channel(Arc::default());
    ours.register_collector(Box::new(DatabaseCollector { history: histories.clone() }));
    let draining = CancellationToken::new();
    let common = Common::from(Parts {
        config,
        identity: identity(Role::Node),
        keys,
        clock: || NOW_NS,
        registry,
        events: crate::events::Events::in_memory(|| NOW_NS),
        metrics,
        sources: healths,
        draining: draining.clone(),
    });
    let recorded = Arc::new(AtomicU64::new(0));
    let handles = Handles {
        scheduler: readings,
        pods: maps,
        usage: usages,
        runqueues: pairs,
        delivery: Arc::new(|_| Delivery::default()),
        recorder: fake_recorder(answer, Arc::clone(&recorded)),
        anomalies,
        database: Database { history: histories, prometheus: None },
        workloads,
    };
    let state = NodeState::new(common.clone(), handles);
    let router = crate::http::node::router(&state);
    Node { router, state, common, scheduler, pods, usage, runqueues, database, sources, draining, recorded }
}

fn fake_recorder(answer: Recorder, recorded: Arc<AtomicU64>) -> Option<door::Recorder> {
    if matches!(answer, Recorder::None) {
        return None;
    }
    let (recorder, mut posts) = door::channel();
    tokio::spawn(async move {
        while let Some(post) = posts.recv().await {
            let result = match &answer {
                Recorder::Answers(error) => Err(error.clone()),
                _ => Ok(()),
            };
            if result.is_ok() {
                let count = post.records.iter().filter(|record| **record != Record::default()).count();
                recorded.fetch_add(u64::try_from(count).expect("small"), Ordering::Relaxed);
            }
            let _ = post.reply.send(result);
        }
    });
    Some(recorder)
}
