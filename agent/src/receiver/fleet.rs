//! What the receiver knows of each node: the latest of everything, answered from memory.
//!
//! Bounded by the store's limits on nodes; pod maps and figures of pods by their bytes; exits by number.

mod note;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tracing::warn;

use super::budget::{Budget, Latest};
use super::changes::{Change, Changes, Kind, Sample};
use super::pods::Figures;
use crate::api::anomalies::{Event, NodeAnomalies};
use crate::api::batch::MAX_RECORDS;
use crate::api::bss;
use crate::api::database::record::NodeDatabase;
use crate::api::events::Said;
use crate::api::gpu::NodeGpu;
use crate::api::nodes::{Node, NodeScheduler, NodeUsageSum, Nodes};
use crate::api::pods::{PodPids, Pods};
use crate::api::record::{Body, Record};
use crate::api::scheduler::event::{CounterChange, NodeHistory, StallWarning};
use crate::api::scheduler::{Exit, Scheduler};
use crate::api::time::rfc3339_seconds;
use crate::api::workloads::record::NodeWorkloads;
use crate::store::{self, Store, Stream, StreamRow};

pub(super) use note::Note;

/// Exits remembered of one node: a crash loop is seen, and no more is needed.
pub const MAX_EXITS: usize = 32;

/// Warnings remembered of one node: as many as exits, which they come before.
pub const MAX_WARNINGS: usize = 32;

/// Moves of the kernel's counters remembered of one node: all 21 of the newest kernel, three times over.
pub const MAX_EVENTS: usize = 64;

/// Beginnings and ends of anomalies remembered of one node.
pub const MAX_ANOMALIES: usize = 64;

/// One-shot events remembered of one node: a screen or ten for a person; Prometheus has them all.
pub const MAX_SAID: usize = 256;

/// Bytes of pod maps as JSON, of all nodes together: 2,500 nodes with 100 KiB each.
const MAX_PODS_BYTES: usize = 256 << 20;

/// Bytes as JSON of what pods use and how they wait, of all nodes together, the last two records of each: 300 nodes of
/// 200 pods. In memory they take three times that.
const MAX_FIGURES_BYTES: usize = 128 << 20;

/// Bytes as JSON of the records of GPUs, databases and workloads, of all nodes together: 3,000 nodes with eight GPUs and a
/// database each are half of it.
const MAX_READINGS_BYTES: usize = 32 << 20;

/// Before the name of a sender without a spool; no node's name holds a colon.
pub(super) const POSTED: &str = "posted:";

/// Kinds of records, as the store tags them, and how many of each it keeps for the view.
pub(super) fn kind(body: &Body) -> (&'static str, usize) {
    match body {
        Body::BssPosted(_) => ("bss_posted", 1),
        Body::Scheduler(_) => ("scheduler", 1),
        Body::SchedulerExit(_) => ("scheduler_exit", MAX_EXITS),
        Body::SchedulerWarning(_) => ("scheduler_warning", MAX_WARNINGS),
        Body::SchedulerEvent(_) => ("scheduler_event", MAX_EVENTS),
        Body::Anomaly(_) => ("anomaly", MAX_ANOMALIES),
        Body::Event(_) => ("event", MAX_SAID),
        Body::Pods(_) => ("pods", 1),
        // The last two, so that rates are known at once after a restart.
        Body::Usage(_) => ("usage", 2),
        Body::Runqueue(_) => ("runqueue", 2),
        Body::Gpu(_) => ("gpu", 1),
        Body::Database(_) => ("database", 1),
        Body::Workloads(_) => ("workloads", 1),
    }
}

/// A BSS record that somebody posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// When, ns since the epoch.
    pub at_ns: i64,
    /// The node it was posted to, or `posted:` and the sender.
    pub by: String,
    /// The record.
    pub record: bss::Record,
}

/// Happenings of a sort, oldest first, with their ids among the changes.
type Told<T> = VecDeque<(i64, T)>;

#[derive(Debug, Default)]
struct Known {
    spool_id: String,
    last_seen_ns: i64,
    note: Note,
    stream: Stream,
    scheduler: Option<Arc<Scheduler>>,
    exits: Told<Exit>,
    warnings: Told<StallWarning>,
    events: Told<CounterChange>,
    anomalies: Told<Event>,
    said: Told<Said>,
    pods: Latest<Pods>,
    gpus: Latest<NodeGpu>,
    database: Latest<NodeDatabase>,
    workloads: Latest<NodeWorkloads>,
    usage: Option<NodeUsageSum>,
    figures: Figures,
}

/// More ids than one batch takes behind its time of arrival: those of a client are no larger than this behind the last
/// batch's.
const MAX_BATCH_IDS: i64 = MAX_RECORDS as i64;

#[derive(Debug)]
struct View {
    nodes: BTreeMap<String, Known>,
    posted: Option<Posted>,
    pods_budget: Budget,
    readings_budget: Budget,
    figures_budget: Budget,
    changes: Changes,
}

impl Default for View {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            posted: None,
            pods_budget: Budget::new(MAX_PODS_BYTES),
            readings_budget: Budget::new(MAX_READINGS_BYTES),
            figures_budget: Budget::new(MAX_FIGURES_BYTES),
            changes: Changes::default(),
        }
    }
}

impl View {
    /// Takes in a node's records, which came at this wall time.
    fn keep(&mut self, node: &str, at_ns: i64, records: Vec<(Record, usize)>) {
        let mut known = self.nodes.remove(node).unwrap_or_default();
        let name: Arc<str> = node.into();
        for (record, size) in records {
            let mut note = |kind| self.changes.note(&name, kind, at_ns);
            match record.body {
                Body::BssPosted(posted) => {
                    if self.posted.as_ref().is_none_or(|last| last.at_ns <= record.at_ns) {
                        self.posted =
                            Some(Posted { at_ns: record.at_ns, by: node.to_owned(), record: posted });
                    }
                }
                Body::Scheduler(scheduler) => {
                    known.scheduler = Some(Arc::new(*scheduler));
                    note(Kind::Scheduler);
                }
                Body::SchedulerExit(exit) => {
                    let one = (note(Kind::SchedulerExit), exit);
                    remember(&mut known.exits, one, MAX_EXITS, &mut self.changes);
                }
                Body::SchedulerWarning(warning) => {
                    let one = (note(Kind::SchedulerWarning), warning);
                    remember(&mut known.warnings, one, MAX_WARNINGS, &mut self.changes);
                }
                Body::SchedulerEvent(change) => {
                    let one = (note(Kind::SchedulerEvent), change);
                    remember(&mut known.events, one, MAX_EVENTS, &mut self.changes);
                }
                Body::Anomaly(event) => {
                    let one = (note(Kind::Anomaly), event);
                    remember(&mut known.anomalies, one, MAX_ANOMALIES, &mut self.changes);
                }
                // A node that was killed says again what it may not have sent.
                Body::Event(said) if known.said.iter().any(|(_, one)| one.is_same(&said)) => {}
                Body::Event(said) => {
                    let one = (note(Kind::Event), said);
                    remember(&mut known.said, one, MAX_SAID, &mut self.changes);
                }
                Body::Pods(pods) => {
                    note(Kind::Pods);
                    let fits = known.pods.replace(pods, size, &mut self.pods_budget);
                    warn_unless(fits, "pod maps", node, size);
                }
                Body::Usage(usage) => {
                    note(Kind::Usage);
                    known.usage = Some((&usage).into());
                    let fits = known.figures.usage.push(usage, size, &mut self.figures_budget);
                    warn_unless(fits, "usage records", node, size);
                }
                Body::Runqueue(runqueue) => {
                    note(Kind::Runqueue);
                    let fits = known.figures.runqueue.push(runqueue, size, &mut self.figures_budget);
                    warn_unless(fits, "run-queue records", node, size);
                }
                Body::Gpu(gpus) => {
                    note(Kind::Gpu);
                    let fits = known.gpus.replace(gpus, size, &mut self.readings_budget);
                    warn_unless(fits, "records of GPUs", node, size);
                }
                Body::Database(database) => {
                    note(Kind::Database);
                    let fits = known.database.replace(database, size, &mut self.readings_budget);
                    warn_unless(fits, "records of databases", node, size);
                }
                Body::Workloads(workloads) => {
                    note(Kind::Workloads);
                    let fits = known.workloads.replace(workloads, size, &mut self.readings_budget);
                    warn_unless(fits, "records of workloads", node, size);
                }
            }
        }
        self.nodes.insert(node.to_owned(), known);
    }
}

/// The fleet; shared by all handlers.
#[derive(Debug, Default)]
pub struct Fleet {
    view: RwLock<View>,
    /// Id of the last change.
    changed: watch::Sender<i64>,
}

impl Fleet {
    /// The fleet as the store remembers it; empty while its disk does not answer.
    ///
    /// # Errors
    /// [`store::Error::Closed`].
    pub async fn restore(store: &Store) -> Result<Self, store::Error> {
        match Self::read(store).await {
            Err(store::Error::Disk(words)) => {
                warn!("fleet begins empty, its store cannot be read: {words}");
                Ok(Self::default())
            }
            other => other,
        }
    }

    async fn read(store: &Store) -> Result<Self, store::Error> {
        let fleet = Self::default();
        let mut newest = BTreeMap::<String, StreamRow>::new();
        for row in store.streams().await? {
            if newest.get(&row.node).is_none_or(|known| known.last_at_ns <= row.last_at_ns) {
                newest.insert(row.node.clone(), row);
            }
        }
        let mut restored = Vec::new();
        let last_at_ns = newest.values().map(|row| row.last_at_ns).max().unwrap_or_default();
        for (node, row) in newest {
            let note = serde_json::from_str(&row.note).unwrap_or_default();
            let latest = store.latest(&node).await?;
            // At the node's own times, since those of arrival are not kept; those of one kind in the order in which they
            // came, whatever the node's clock did.
            let mut came_at_ns = HashMap::new();
            for latest in &latest {
                let record: Record = match serde_json::from_slice(&latest.bytes) {
                    Ok(record) => record,
                    Err(cause) => {
                        warn!(node, kind = latest.kind, "stored record is unreadable: {cause}");
                        continue;
                    }
                };
                let at_ns = came_at_ns.entry(latest.kind.as_str()).or_insert(i64::MIN);
                *at_ns = record.at_ns.max(*at_ns);
                restored.push((*at_ns, node.clone(), (record, latest.bytes.len())));
            }
            fleet.update(&node, &row.spool_id, row.last_at_ns, note, row.stream, Vec::new());
        }
        restored.sort_by_key(|(at_ns, ..)| *at_ns);
        let mut view = fleet.view.write().unwrap_or_else(PoisonError::into_inner);
        for (at_ns, node, record) in restored {
            view.keep(&node, at_ns.min(last_at_ns), vec![record]);
        }
        view.changes.skip_to(last_at_ns.saturating_add(MAX_BATCH_IDS));
        drop(view);
        Ok(fleet)
    }

    /// Takes in a stored batch: each record with its bytes' number.
    pub(super) fn update(
        &self,
        node: &str,
        spool_id: &str,
        now_ns: i64,
        note: Note,
        stream: Stream,
        records: Vec<(Record, usize)>,
    ) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        let known = view.nodes.entry(node.to_owned()).or_default();
        // A batch that was long on its way must not bring old accounts back.
        let age = |note: &Note| (note.accounts.produced, note.first_seq);
        if known.spool_id != spool_id || age(&known.note) <= age(&note) {
            known.note = note;
        }
        known.spool_id = spool_id.to_owned();
        known.last_seen_ns = now_ns;
        known.stream = stream;
        view.keep(node, now_ns, records);
        self.changed.send_replace(view.changes.last_id());
    }

    /// The id of the last change, now and whenever there is another.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<i64> {
        self.changed.subscribe()
    }

    /// The first change after an id that is `wanted` and its value, or else the last id that was looked at. Values that
    /// found no room here are passed over.
    ///
    /// # Errors
    /// The id.
    pub fn next_change(
        &self,
        after: i64,
        wanted: impl Fn(&str, Kind) -> bool,
    ) -> Result<(Change, Sample), i64> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let sample = |change: &Change| {
            let known = view.nodes.get(&*change.node)?;
            Some(match change.kind {
                Kind::Scheduler => Sample::Scheduler(known.scheduler.clone()?),
                Kind::SchedulerExit => Sample::SchedulerExit(told(&known.exits, change.id)?),
                Kind::SchedulerWarning => Sample::SchedulerWarning(told(&known.warnings, change.id)?),
                Kind::SchedulerEvent => Sample::SchedulerEvent(told(&known.events, change.id)?),
                Kind::Anomaly => Sample::Anomaly(told(&known.anomalies, change.id)?),
                Kind::Event => Sample::Event(told(&known.said, change.id)?),
                Kind::Pods => Sample::Pods(Arc::clone(known.pods.get()?)),
                Kind::Usage => Sample::Usage(Arc::clone(known.figures.usage.now()?)),
                Kind::Runqueue => Sample::Runqueue(Arc::clone(known.figures.runqueue.now()?)),
                Kind::Gpu => Sample::Gpu(Arc::clone(known.gpus.get()?)),
                Kind::Database => Sample::Database(Arc::clone(known.database.get()?)),
                Kind::Workloads => Sample::Workloads(Arc::clone(known.workloads.get()?)),
            })
        };
        let changes = view.changes.after(after).filter(|change| wanted(&change.node, change.kind));
        let mut found = changes.filter_map(|change| Some((change.clone(), sample(change)?)));
        found.next().ok_or_else(|| view.changes.last_id().max(after))
    }

    /// Every node that has a spool.
    #[must_use]
    pub fn nodes(&self, now_ns: i64) -> Nodes {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let nodes = view.nodes.iter().filter(|(name, _)| !name.contains(':'));
        Nodes { at_ns: now_ns, nodes: nodes.map(|(name, known)| known.wire(name, now_ns)).collect() }
    }

    /// The latest record that was posted, to a node or here.
    #[must_use]
    pub fn latest_posted(&self) -> Option<Posted> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).posted.clone()
    }

    /// The processes of every pod of every node, node by node.
    #[must_use]
    pub fn pod_pids(&self) -> Vec<(String, Vec<PodPids>)> {
        self.pods().into_iter().map(|(node, pods)| (node, pods.pids())).collect()
    }

    /// The pods of every node that sent them.
    #[must_use]
    pub fn pods(&self) -> Vec<(String, Arc<Pods>)> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let pods =
            view.nodes.iter().filter_map(|(name, known)| Some((name.clone(), Arc::clone(known.pods.get()?))));
        pods.collect()
    }

    /// What is known of the pods of every node, or of one.
    #[must_use]
    pub fn figures(&self, node: Option<&str>) -> Vec<(String, Figures)> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = view.nodes.iter().filter(|(name, _)| node.is_none_or(|node| *name == node));
        wanted.map(|(name, known)| (name.clone(), known.figures.clone())).collect()
    }

    /// Everybody who posted here, as [`Posted::by`] names them.
    pub(super) fn senders(&self) -> Vec<String> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        view.nodes.keys().filter_map(|name| name.strip_prefix(POSTED)).map(str::to_owned).collect()
    }

    /// The scheduler of one node, and what happened to it lately.
    #[must_use]
    pub fn scheduler(&self, node: &str) -> Option<NodeHistory> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let known = view.nodes.get(node).filter(|_| !node.contains(':'))?;
        Some(NodeHistory {
            node: node.to_owned(),
            scheduler: known.scheduler.as_deref().cloned(),
            exits: values(&known.exits),
            warnings: values(&known.warnings),
            events: values(&known.events),
        })
    }

    /// One-shot events that nodes said lately, or one of them, each with its node.
    #[must_use]
    pub fn said(&self, node: Option<&str>) -> Vec<(String, Said)> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = view.nodes.iter().filter(|(name, _)| node.is_none_or(|node| *name == node));
        let said =
            wanted.flat_map(|(name, known)| known.said.iter().map(|(_, one)| (name.clone(), one.clone())));
        said.collect()
    }

    /// The anomalies that began and ended on one node lately.
    #[must_use]
    pub fn anomalies(&self, node: &str) -> Option<NodeAnomalies> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let known = view.nodes.get(node).filter(|_| !node.contains(':'))?;
        Some(NodeAnomalies { node: node.to_owned(), events: values(&known.anomalies) })
    }
}

/// The oldest makes room.
fn remember<T>(last: &mut Told<T>, one: (i64, T), most: usize, changes: &mut Changes) {
    last.push_back(one);
    if last.len() > most
        && let Some((id, _)) = last.pop_front()
    {
        changes.forget(id);
    }
}

fn values<T: Clone>(told: &Told<T>) -> Vec<T> {
    told.iter().map(|(_, value)| value.clone()).collect()
}

fn told<T: Clone>(told: &Told<T>, id: i64) -> Option<T> {
    told.iter().find(|(found, _)| *found == id).map(|(_, value)| value.clone())
}

fn warn_unless(fits: bool, what: &str, node: &str, size_bytes: usize) {
    if !fits {
        warn!(node, size_bytes, "{what} of the fleet are at their limit, one is left out");
    }
}

impl Known {
    fn wire(&self, name: &str, now_ns: i64) -> Node {
        let accounts = &self.note.accounts;
        let dropped = accounts.dropped.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let (elsewhere, spooled) = (self.note.elsewhere(&self.stream), self.note.spooled(&self.stream));
        let found = [elsewhere, spooled, dropped].into_iter().fold(self.stream.stored, u64::saturating_add);
        let lag_ns = now_ns.saturating_sub(self.note.newest_at_ns).max(0);
        Node {
            node: name.to_owned(),
            boot_id: self.note.boot_id.clone(),
            spool_id: self.spool_id.clone(),
            last_seen: rfc3339_seconds(self.last_seen_ns),
            #[expect(clippy::cast_precision_loss, reason = "an age in seconds needs no 53 bits")]
            lag_seconds: lag_ns as f64 / 1e9,
            produced: accounts.produced,
            stored: self.stream.stored,
            elsewhere,
            spooled,
            dropped: accounts.dropped.clone(),
            adds_up: accounts.produced == found,
            duplicates: self.stream.duplicates,
            missing: self.stream.missing(),
            scheduler: self.scheduler.as_deref().map(NodeScheduler::from),
            last_exit: self.exits.back().map(|(_, exit)| exit.clone()),
            pods: self.pods.get().map(|pods| pods.pods.len()),
            usage: self.usage,
        }
    }
}
