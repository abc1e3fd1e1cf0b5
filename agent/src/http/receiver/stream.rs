//! `GET /api/v1/stream` at the receiver: what arrives from nodes, once it is stored.
//!
//! The event's name is the record's kind, its data the record's body with the node's name. A stream begins with the latest
//! of each kind of each node, oldest first; with a `Last-Event-ID`, with those of them that came after it. Ids ascend over
//! restarts as long as the clock does; an id from the future is none. Behind a restart of the receiver what it had stored
//! counts as come when the node made it: nothing is repeated, and what was long on its way and came between the client's
//! last event and the restart is not sent.
//!
//! A client that reads more slowly than records come gets each value's latest. What happens to a scheduler (exits,
//! warnings, what the kernel counted) replaces nothing: the last of each node wait for it, as many as the fleet remembers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::ReceiverState;
use crate::api::envelope::Failure;
use crate::api::pods::Pods;
use crate::api::runqueue::record::NodeRunqueue;
use crate::api::stream::FleetSample;
use crate::api::usage::record::NodeUsage;
use crate::http::ApiError;
use crate::http::stream::{Feed, Message, kinds, last_event_id, respond};
use crate::receiver::changes::{Change, Kind, Sample};
use crate::receiver::fleet::Fleet;

/// Query of `/api/v1/stream`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct StreamQuery {
    kind: Option<String>,
    node: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
}

/// What arrives from nodes, as server-sent events.
#[utoipa::path(get, path = "/api/v1/stream", tag = "receiver",
    params(("kind" = Option<String>, Query,
            description = "any of `scheduler`, `scheduler_exit`, `scheduler_warning`, `scheduler_event`, `anomaly`, `event`, `pods`, `usage`, `runqueue`, `gpu`, `database`, `workloads`, separated by commas; all by default"),
        ("node" = Option<String>, Query, description = "only of this node"),
        ("namespace" = Option<String>, Query, description = "only pods of this namespace"),
        ("pod" = Option<String>, Query, description = "only pods of this name"),
        ("Last-Event-ID" = Option<i64>, Header,
            description = "the last event that the client has: the stream begins with the latest values that came after it")),
    responses((status = 200, content_type = "text/event-stream", body = FleetSample<Pods>,
            description = "`event:` is the record's kind and `body` the record's; here that of `pods`; \
                `event: skipped` with `{\"samples\":N}` before the next where the client was too slow"),
        (status = 400, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn stream(
    State(receiver): State<ReceiverState>,
    headers: HeaderMap,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::Query { name: "kind", why: error.body_text() })?;
    let kinds = kinds(query.kind.as_deref(), &Kind::ALL.map(Kind::name))?;
    let fleet = Arc::clone(receiver.ingest.fleet());
    respond(&receiver.common, FleetFeed::new(fleet, kinds, query, last_event_id(&headers)))
}

/// How far one stream has come.
struct FleetFeed {
    fleet: Arc<Fleet>,
    kinds: BTreeSet<&'static str>,
    query: StreamQuery,
    changed: watch::Receiver<i64>,
    after: i64,
    /// Versions that were carried; as many as there are nodes and kinds at most.
    carried: HashMap<(Arc<str>, Kind), u64>,
    /// Versions that were passed over and not told yet.
    skipped: u64,
}

impl FleetFeed {
    fn new(
        fleet: Arc<Fleet>,
        kinds: BTreeSet<&'static str>,
        query: StreamQuery,
        last_id: Option<i64>,
    ) -> Self {
        let changed = fleet.changed();
        let last_id = last_id.filter(|id| *id <= *changed.borrow());
        Self {
            fleet,
            kinds,
            query,
            changed,
            after: last_id.unwrap_or(i64::MIN),
            carried: HashMap::new(),
            skipped: 0,
        }
    }

    /// This version is dealt with, carried or not wanted.
    fn pass(&mut self, change: &Change) {
        let before = self.carried.insert((Arc::clone(&change.node), change.kind), change.version);
        self.skipped += before.map_or(0, |before| change.version.saturating_sub(before + 1));
    }
}

impl Feed for FleetFeed {
    async fn next(&mut self) -> Option<Message> {
        loop {
            self.changed.borrow_and_update();
            let wanted = |node: &str, kind: Kind| {
                self.kinds.contains(kind.name()) && self.query.node.as_deref().is_none_or(|only| only == node)
            };
            match self.fleet.next_change(self.after, wanted) {
                Err(after) => {
                    self.after = after;
                    self.changed.changed().await.ok()?;
                }
                Ok((change, sample)) => {
                    self.after = change.id;
                    self.pass(&change);
                    let (query, node) = (self.query.clone(), change.node.to_string());
                    // A pod map is megabytes where a node has thousands of processes.
                    let encode = move || query.encode(node, sample);
                    let Some(data) = tokio::task::spawn_blocking(encode).await.ok()? else { continue };
                    let skipped = std::mem::take(&mut self.skipped);
                    return Some(Message { id: change.id, kind: change.kind.name(), data, skipped });
                }
            }
        }
    }
}

impl StreamQuery {
    /// `None` if no pod of it is wanted.
    fn encode(&self, node: String, sample: Sample) -> Option<String> {
        match sample {
            Sample::Scheduler(scheduler) => json(node, &*scheduler),
            Sample::SchedulerExit(exit) => json(node, exit),
            Sample::SchedulerWarning(warning) => json(node, warning),
            Sample::SchedulerEvent(event) => json(node, event),
            Sample::Anomaly(event) => json(node, event),
            Sample::Event(said) => json(node, said),
            // Of no pods; those of GPUs are one of their labels.
            Sample::Gpu(gpus) => json(node, &*gpus),
            Sample::Database(database) => json(node, &*database),
            Sample::Workloads(workloads) => json(node, &*workloads),
            all if self.namespace.is_none() && self.pod.is_none() => match all {
                Sample::Pods(pods) => json(node, &*pods),
                Sample::Usage(usage) => json(node, &*usage),
                Sample::Runqueue(runqueue) => json(node, &*runqueue),
                _ => None,
            },
            Sample::Pods(all) => {
                let pods = self.only(&all.pods, |pod| (&pod.namespace, &pod.name))?;
                json(
                    node,
                    Pods { at_ns: all.at_ns, pods, host: all.host.clone(), skipped: all.skipped.clone() },
                )
            }
            Sample::Usage(all) => {
                let pods = self.only(&all.pods, |pod| (&pod.namespace, &pod.name))?;
                let (at_ns, fields) = (all.at_ns, all.fields.clone());
                json(node, NodeUsage { at_ns, fields, pods, left_out: all.left_out })
            }
            Sample::Runqueue(all) => {
                let pods = self.only(&all.pods, |pod| (&pod.namespace, &pod.name))?;
                let NodeRunqueue { at_ns, mono_ns, since_ns, left_out, .. } = *all;
                let fields = all.fields.clone();
                json(node, NodeRunqueue { at_ns, mono_ns, since_ns, fields, pods, left_out })
            }
        }
    }

    /// The pods that are wanted, if there are any.
    fn only<T: Clone>(
        &self,
        pods: &[T],
        names: impl Fn(&T) -> (&Option<String>, &Option<String>),
    ) -> Option<Vec<T>> {
        let wanted = pods.iter().filter(|pod| {
            let (namespace, name) = names(pod);
            (self.namespace.is_none() || self.namespace == *namespace)
                && (self.pod.is_none() || self.pod == *name)
        });
        let wanted: Vec<_> = wanted.cloned().collect();
        (!wanted.is_empty()).then_some(wanted)
    }
}

fn json(node: String, body: impl Serialize) -> Option<String> {
    serde_json::to_string(&FleetSample { node, body }).ok()
}
