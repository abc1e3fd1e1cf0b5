//! `GET /api/v1/stream` at the node: the scheduler, the pods and the workloads, as they are read.
//!
//! - `event: scheduler`: every reading, as `GET /api/v1/schedulers` has it. With a `Last-Event-ID` that is not older than
//!   the present reading, the stream begins with the next one.
//! - `event: pods`: at most one a second, [`PodsSample`]: the pods that are not as this stream last said, whole, and those
//!   that are gone. A stream begins with all of them, whatever its `Last-Event-ID`.
//! - `event: workloads`: [`WorkloadsSample`]: those that have said something or changed since this stream last told of
//!   them. A stream begins with all that are told of, if there are any.
//!
//! Whole pods, because a client puts one in the place of another and needs no rule for merging; only changed ones, because
//! a pod of one container and ten processes is some 4 kB, 200 of them 0.8 MB, and in a second without a new reading of usage and run queues (they come every 5 s)
//! a few of them change, most often none. Tasks outside pods are not in the stream.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Handles, NodeState, PodsWithAll};
use crate::api::envelope::Failure;
use crate::api::pods::{Pod, Pods};
use crate::api::scheduler::Scheduler;
use crate::api::stream::{PodsSample, WorkloadsSample};
use crate::api::workloads::View;
use crate::domain::scheduler::SchedulerReading;
use crate::domain::workload::Workload;
use crate::http::ApiError;
use crate::http::pids::Cache;
use crate::http::stream::{Feed, Message, kinds, last_event_id, respond};

const SCHEDULER: &str = "scheduler";
const PODS: &str = "pods";
const WORKLOADS: &str = "workloads";

/// Between two samples of the pods: where the kernel tells what happens there may be sixty maps a second, and no person
/// reads, and no screen shows, more.
const PODS_PACE: Duration = Duration::from_secs(1);

/// Samples with their numbers, the latest of each kind.
pub(super) struct Samples {
    scheduler: watch::Sender<Numbered<Arc<SchedulerReading>>>,
    pods: watch::Sender<Numbered<PodsWithAll>>,
    workloads: watch::Sender<Numbered<List>>,
    scheduler_text: Cache<Arc<SchedulerReading>>,
    pod_texts: Cache<PodsWithAll, Arc<[PodText]>>,
}

type List = Arc<Vec<Arc<Workload>>>;

/// A sample and how many there were before it; the first is number 1.
#[derive(Clone, Debug, Default)]
struct Numbered<T> {
    number: u64,
    sample: T,
}

/// A pod, encoded once for all streams.
#[derive(Debug)]
struct PodText {
    uid: String,
    namespace: Option<String>,
    name: Option<String>,
    /// Of everything but the length of the interval that recent figures are of: it is never twice the same, and says
    /// nothing of the pod.
    digest: u64,
    json: Box<RawValue>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            scheduler: watch::Sender::default(),
            pods: watch::Sender::default(),
            workloads: watch::Sender::default(),
            scheduler_text: Cache::new(|reading| super::encode(&Scheduler::from(&**reading)).into()),
            pod_texts: Cache::new(|(pods, (usage, runqueues))| {
                let pods = Pods::with_usage(pods, usage).with_runqueues(pods, runqueues);
                pods.pods.into_iter().filter_map(PodText::new).collect()
            }),
        }
    }
}

impl Samples {
    /// Numbers what the sources publish, until `stop`.
    pub(super) async fn follow(&self, handles: &Handles, stop: &CancellationToken) {
        let all = async {
            tokio::join!(
                self.follow_scheduler(handles),
                self.follow_pods(handles),
                self.follow_workloads(handles)
            )
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = all => {}
        }
    }

    async fn follow_scheduler(&self, handles: &Handles) {
        let mut readings = handles.scheduler.clone();
        readings.mark_changed();
        while readings.changed().await.is_ok() {
            let reading = Arc::clone(&readings.borrow_and_update());
            if reading.at_ns != 0 {
                self.scheduler.send_modify(|latest| latest.then(reading));
            }
        }
    }

    async fn follow_workloads(&self, handles: &Handles) {
        let Ok(door) = handles.workloads.owner() else { return };
        let mut lists = door.handle.follow();
        while lists.changed().await.is_ok() {
            let list = Arc::clone(&lists.borrow_and_update());
            self.workloads.send_modify(|latest| latest.then(list));
        }
    }

    async fn follow_pods(&self, handles: &Handles) {
        let (mut pods, mut usage, mut runqueues) =
            (handles.pods.clone(), handles.usage.clone(), handles.runqueues.clone());
        pods.mark_changed();
        loop {
            // A source that has ended says nothing new; the pods' end is the end.
            tokio::select! {
                changed = pods.changed() => if changed.is_err() { return },
                Ok(()) = usage.changed() => {}
                Ok(()) = runqueues.changed() => {}
            }
            let map = Arc::clone(&pods.borrow_and_update());
            let rest = (Arc::clone(&usage.borrow_and_update()), Arc::clone(&runqueues.borrow_and_update()));
            if map.at_ns != 0 {
                self.pods.send_modify(|latest| latest.then((map, rest)));
                sleep(PODS_PACE).await;
            }
        }
    }
}

impl<T> Numbered<T> {
    fn then(&mut self, sample: T) {
        *self = Self { number: self.number + 1, sample };
    }
}

impl PodText {
    fn new(mut pod: Pod) -> Option<Self> {
        let json = to_raw_value(&pod).ok()?;
        let containers = pod.containers.iter_mut().map(|container| &mut container.runqueue);
        let runqueues = std::iter::once(&mut pod.runqueue).chain(containers).flatten();
        for recent in runqueues.filter_map(|runqueue| runqueue.recent.as_mut()) {
            recent.interval_ms = 0;
        }
        let mut hasher = DefaultHasher::new();
        super::encode(&pod).hash(&mut hasher);
        let Pod { uid, namespace, name, .. } = pod;
        Some(Self { uid, namespace, name, digest: hasher.finish(), json })
    }
}

/// Query of `/api/v1/stream`.
#[derive(Debug, Deserialize)]
pub(in crate::http) struct StreamQuery {
    kind: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
}

/// Samples as they are read, as server-sent events.
#[utoipa::path(get, path = "/api/v1/stream", tag = "node",
    params(("kind" = Option<String>, Query, 
            description = "any of `scheduler`, `pods`, `workloads` with commas between; all by default"),
        ("namespace" = Option<String>, Query, description = "only pods of this namespace"),
        ("pod" = Option<String>, Query, description = "only pods of this name"),
        ("Last-Event-ID" = Option<i64>, Header,
            description = "the last event that the client has: nothing is replayed, and that one is not repeated")),
    responses((status = 200, content_type = "text/event-stream", body = PodsSample,
            description = "`event: scheduler` with the shape of `/api/v1/schedulers`; `event: pods` with this one; \
                `event: workloads` with `{\"at_ns\":N,\"workloads\":[...]}` as `/api/v1/workloads` has them; \
                `event: skipped` with `{\"samples\":N}` before the next where the client was too slow"),
        (status = 400, body = Failure), (status = 503, body = Failure)))]
pub(in crate::http) async fn stream(
    State(node): State<NodeState>,
    headers: HeaderMap,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "kind", why: error.body_text() })?;
    let kinds = kinds(query.kind.as_deref(), &[SCHEDULER, PODS, WORKLOADS])?;
    let common = node.0.common.clone();
    respond(&common, NodeFeed::new(node, &kinds, query, last_event_id(&headers)))
}

/// What one stream has carried.
struct NodeFeed {
    node: NodeState,
    query: StreamQuery,
    last_id: Option<i64>,
    scheduler: Option<watch::Receiver<Numbered<Arc<SchedulerReading>>>>,
    scheduler_number: u64,
    pods: Option<watch::Receiver<Numbered<PodsWithAll>>>,
    pods_number: u64,
    /// Samples of pods that were passed over and not told yet.
    pods_skipped: u64,
    workloads: Option<watch::Receiver<Numbered<List>>>,
    workloads_number: u64,
    /// Workloads as they were told.
    told_workloads: List,
    /// Digests of the pods as they were told, by uid; none before the first sample.
    told: Option<HashMap<String, u64>>,
}

impl NodeFeed {
    fn new(node: NodeState, kinds: &BTreeSet<&str>, query: StreamQuery, last_id: Option<i64>) -> Self {
        let samples = &node.0.samples;
        Self {
            scheduler: kinds.contains(SCHEDULER).then(|| from_now(&samples.scheduler)),
            scheduler_number: 0,
            pods: kinds.contains(PODS).then(|| from_now(&samples.pods)),
            pods_number: 0,
            pods_skipped: 0,
            workloads: kinds.contains(WORKLOADS).then(|| from_now(&samples.workloads)),
            workloads_number: 0,
            told_workloads: List::default(),
            told: None,
            query,
            last_id,
            node,
        }
    }

    fn scheduler(&mut self, latest: &Numbered<Arc<SchedulerReading>>) -> Option<Message> {
        let skipped = skipped(&mut self.scheduler_number, latest.number);
        let id = latest.sample.at_ns;
        if self.last_id.take().is_some_and(|last| id <= last) {
            return None;
        }
        let bytes = self.node.0.samples.scheduler_text.get(&latest.sample);
        let data = String::from_utf8_lossy(&bytes).into_owned();
        Some(Message { id, kind: SCHEDULER, data, skipped })
    }

    fn workloads(&mut self, latest: &Numbered<List>) -> Option<Message> {
        let skipped = skipped(&mut self.workloads_number, latest.number);
        let told = std::mem::replace(&mut self.told_workloads, Arc::clone(&latest.sample));
        // What is unchanged is the same value in memory.
        let news = latest.sample.iter().filter(|one| !told.iter().any(|known| Arc::ptr_eq(known, one)));
        let workloads: Vec<_> = news.map(|workload| View::from(&**workload)).collect();
        if workloads.is_empty() {
            return None;
        }
        let at_ns = (self.node.0.common.clock)();
        let data = serde_json::to_string(&WorkloadsSample { at_ns, workloads }).unwrap_or_default();
        Some(Message { id: at_ns, kind: WORKLOADS, data, skipped })
    }

    async fn pods(&mut self, latest: Numbered<PodsWithAll>) -> Option<Message> {
        self.pods_skipped += skipped(&mut self.pods_number, latest.number);
        let (map, (usage, runqueues)) = &latest.sample;
        let at_ns = map.at_ns.max(usage.at_ns).max(runqueues.now.at_ns);
        let (node, sample) = (self.node.clone(), latest.sample);
        // Hundreds of pods take milliseconds to encode.
        let texts = tokio::task::spawn_blocking(move || node.0.samples.pod_texts.get(&sample)).await.ok()?;
        let before = self.told.take();
        let complete = before.is_none();
        let mut before = before.unwrap_or_default();
        let (mut pods, mut told) = (Vec::new(), HashMap::new());
        for pod in texts.iter().filter(|pod| self.query.wants(pod)) {
            if before.remove(&pod.uid) != Some(pod.digest) {
                pods.push(pod.json.clone());
            }
            told.insert(pod.uid.clone(), pod.digest);
        }
        self.told = Some(told);
        let mut gone: Vec<_> = before.into_keys().collect();
        gone.sort_unstable();
        if !complete && pods.is_empty() && gone.is_empty() {
            return None;
        }
        let data = serde_json::to_string(&PodsSample { at_ns, complete, pods, gone }).unwrap_or_default();
        let skipped = std::mem::take(&mut self.pods_skipped);
        Some(Message { id: at_ns, kind: PODS, data, skipped })
    }
}

impl Feed for NodeFeed {
    async fn next(&mut self) -> Option<Message> {
        loop {
            let message = tokio::select! {
                latest = changed(&mut self.scheduler) => self.scheduler(&latest?),
                latest = changed(&mut self.pods) => self.pods(latest?).await,
                latest = changed(&mut self.workloads) => self.workloads(&latest?),
            };
            if message.is_some() {
                return message;
            }
        }
    }
}

impl StreamQuery {
    fn wants(&self, pod: &PodText) -> bool {
        (self.namespace.is_none() || self.namespace == pod.namespace)
            && (self.pod.is_none() || self.pod == pod.name)
    }
}

/// Samples between the last one that was carried and this one; none before a stream's first.
const fn skipped(carried: &mut u64, number: u64) -> u64 {
    let skipped = if *carried == 0 { 0 } else { number.saturating_sub(*carried + 1) };
    *carried = number;
    skipped
}

/// From the present sample on, if there is one.
fn from_now<T>(samples: &watch::Sender<Numbered<T>>) -> watch::Receiver<Numbered<T>> {
    let mut receiver = samples.subscribe();
    if receiver.borrow().number > 0 {
        receiver.mark_changed();
    }
    receiver
}

/// The next sample of a kind that is wanted; `None` when there will be none.
async fn changed<T: Clone>(samples: &mut Option<watch::Receiver<Numbered<T>>>) -> Option<Numbered<T>> {
    let Some(samples) = samples else { return std::future::pending().await };
    samples.changed().await.ok()?;
    Some(samples.borrow_and_update().clone())
}
