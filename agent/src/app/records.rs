//! What the node says to its receiver: readings, exits, pods and posted records, serialised and spooled.
//!
//! - the scheduler: every [`Pace::scheduler`], and at once when its state or epoch changes;
//! - an event of the scheduler (its end, a warning, what the kernel counted), the beginning and the end of an anomaly: at
//!   once;
//! - pods: when they changed, at most every [`Pace::pods`], because a map of thousands of processes is large;
//! - usage and waits for CPUs: with the first collection after [`Pace::usage`]; their counters grow, so that nothing
//!   between two is missed;
//! - GPUs: with every reading that has one, since their figures are of a moment; a database that was configured likewise;
//! - workloads: when one began, reported or is over;
//! - a posted record: at once, beside the others, so that posts share an fsync; its sender hears of success only
//!   after it.

mod workloads;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::said;
use crate::api::database::record::NodeDatabase;
use crate::api::gpu::NodeGpu;
use crate::api::record::{Body, Record};
use crate::api::runqueue::record::NodeRunqueue;
use crate::api::usage::record::NodeUsage;
use crate::delivery::spool::{self, Spool};
use crate::domain::database::History;
use crate::domain::event::{AnomalyEvent, SchedulerEvent};
use crate::domain::gpu::GpuMap;
use crate::domain::pod::PodMap;
use crate::domain::runqueue::{RunqueuePair, RunqueueReading};
use crate::domain::scheduler::SchedulerReading;
use crate::domain::usage::UsageMap;
use crate::events::Events;
use crate::http::door::{self, AcceptError, Post};

pub(super) use workloads::Workloads;

/// How often the node speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two scheduler records.
    pub(super) scheduler: Duration,
    /// Between two pod maps.
    pub(super) pods: Duration,
    /// Between two usage maps, and between two of the run queues.
    pub(super) usage: Duration,
}

/// Posts that wait for their fsync at once: as many as the door holds; more would only wait in another place.
const POSTS_AT_ONCE: usize = door::CAPACITY;

/// Where records come from.
pub(super) struct Inputs {
    pub(super) scheduler: watch::Receiver<Arc<SchedulerReading>>,
    pub(super) pods: watch::Receiver<Arc<PodMap>>,
    pub(super) usage: watch::Receiver<Arc<UsageMap>>,
    pub(super) runqueues: watch::Receiver<Arc<RunqueuePair>>,
    pub(super) gpus: watch::Receiver<Arc<GpuMap>>,
    pub(super) database: watch::Receiver<Arc<History>>,
    pub(super) workloads: Workloads,
    pub(super) events: mpsc::Receiver<SchedulerEvent>,
    pub(super) anomalies: mpsc::Receiver<AnomalyEvent>,
    pub(super) posts: mpsc::Receiver<Post>,
}

/// Where they go.
pub(super) struct Writer {
    /// None without a receiver: nothing would ever empty it.
    pub(super) spool: Option<Spool>,
    /// Where what happens is said once.
    pub(super) events: Events,
    pub(super) boot_id: String,
    pub(super) clock: fn() -> i64,
}

/// Runs until cancelled; then what is still waiting and one last reading of each source go to the spool.
pub(super) async fn run(mut inputs: Inputs, writer: Writer, pace: Pace, cancel: CancellationToken) {
    let writer = Arc::new(writer);
    let mut posts = JoinSet::new();
    let mut pods_due = interval(pace.pods);
    pods_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told::default();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(event) = inputs.events.recv() => writer.scheduler_event(event).await,
            Some(event) = inputs.anomalies.recv() => writer.anomaly(event).await,
            Some(post) = inputs.posts.recv(), if posts.len() < POSTS_AT_ONCE => {
                let writer = Arc::clone(&writer);
                posts.spawn(async move { writer.posted(post).await });
            }
            Some(_) = posts.join_next() => {}
            Ok(()) = inputs.scheduler.changed() => {
                let reading = inputs.scheduler.borrow_and_update().clone();
                said::scheduler_enabled(&writer.events, &reading, &writer.boot_id, &mut told.enabled).await;
                if told.is_news(&reading, pace.scheduler) {
                    writer.scheduler(&reading).await;
                }
            }
            _ = pods_due.tick() => {
                if inputs.pods.has_changed().unwrap_or(false) {
                    let pods = inputs.pods.borrow_and_update().clone();
                    if told.generation.replace(pods.generation) != Some(pods.generation) {
                        writer.record(Body::Pods((&*pods).into())).await;
                    }
                }
            }
            Ok(()) = inputs.usage.changed() => {
                let usage = inputs.usage.borrow_and_update().clone();
                if is_due(told.usage_at, pace.usage) {
                    let record = NodeUsage::new(&inputs.pods.borrow(), &usage);
                    // A node without pods has nothing to say, and says the first thing at once.
                    if !record.pods.is_empty() {
                        told.usage_at = Some(Instant::now());
                        writer.record(Body::Usage(record)).await;
                    }
                }
            }
            Ok(()) = inputs.gpus.changed() => {
                let gpus = Arc::clone(&inputs.gpus.borrow_and_update());
                if !gpus.devices.is_empty() {
                    writer.record(Body::Gpu(NodeGpu::from(&*gpus))).await;
                }
            }
            Ok(()) = inputs.database.changed() => {
                let history = Arc::clone(&inputs.database.borrow_and_update());
                if let Some(reading) = NodeDatabase::new(&history) {
                    writer.record(Body::Database(reading)).await;
                }
            }
            Some(()) = inputs.workloads.changed() => writer.workloads(&mut inputs.workloads).await,
            Ok(()) = inputs.runqueues.changed() => {
                let now = Arc::clone(&inputs.runqueues.borrow_and_update().now);
                if is_due(told.runqueue.as_ref().map(|(_, at)| *at), pace.usage) {
                    let pods = Arc::clone(&inputs.pods.borrow());
                    writer.runqueue(&mut told, now, &pods).await;
                }
            }
        }
    }
    while let Ok(event) = inputs.events.try_recv() {
        writer.scheduler_event(event).await;
    }
    while let Ok(event) = inputs.anomalies.try_recv() {
        writer.anomaly(event).await;
    }
    writer.workloads(&mut inputs.workloads).await;
    while let Ok(post) = inputs.posts.try_recv() {
        writer.posted(post).await;
    }
    while posts.join_next().await.is_some() {}
    // Its counters end with this process: what came after the last record would be lost.
    let runqueues = Arc::clone(&inputs.runqueues.borrow().now);
    let told_already = told.runqueue.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, &runqueues));
    if runqueues.at_ns != 0 && !told_already {
        let pods = Arc::clone(&inputs.pods.borrow());
        writer.runqueue(&mut told, runqueues, &pods).await;
    }
    let reading = inputs.scheduler.borrow().clone();
    writer.scheduler(&reading).await;
}

fn event_body(event: SchedulerEvent) -> Body {
    match event {
        SchedulerEvent::Ended(exit) => Body::SchedulerExit((&exit).into()),
        SchedulerEvent::Warned(warning) => Body::SchedulerWarning((&warning).into()),
        SchedulerEvent::Counted(change) => Body::SchedulerEvent(change.into()),
    }
}

/// What the receiver was last told.
#[derive(Default)]
struct Told {
    scheduler_at: Option<Instant>,
    /// The life of a scheduler whose beginning was said.
    enabled: Option<u64>,
    life: Option<(String, Option<u64>, Option<u32>)>,
    generation: Option<u64>,
    usage_at: Option<Instant>,
    runqueue: Option<(Arc<RunqueueReading>, Instant)>,
}

fn is_due(last: Option<Instant>, pace: Duration) -> bool {
    last.is_none_or(|at| at.elapsed() >= pace)
}

impl Told {
    /// Remembers a reading; true when it is worth a record.
    fn is_news(&mut self, reading: &SchedulerReading, pace: Duration) -> bool {
        let life = (
            reading.state.name().to_owned(),
            reading.enable_seq,
            reading.epoch.map(|epoch| epoch.struct_ops_map_id),
        );
        let due = is_due(self.scheduler_at, pace);
        let changed = self.life.as_ref() != Some(&life);
        if due || changed {
            self.scheduler_at = Some(Instant::now());
            self.life = Some(life);
        }
        due || changed
    }
}

impl Writer {
    async fn scheduler(&self, reading: &SchedulerReading) {
        self.record(Body::Scheduler(Box::new(reading.into()))).await;
    }

    /// Said first: the record waits for the spool, and the kernel does not.
    async fn scheduler_event(&self, event: SchedulerEvent) {
        said::scheduler(&self.events, &event).await;
        self.record(event_body(event)).await;
    }

    async fn anomaly(&self, event: AnomalyEvent) {
        said::anomaly(&self.events, &event).await;
        self.record(Body::Anomaly(event.into())).await;
    }

    async fn workloads(&self, workloads: &mut Workloads) {
        if let Some(news) = workloads.news((self.clock)()) {
            self.record(Body::Workloads(news)).await;
        }
    }

    /// A node whose pods have not run yet has nothing to say, and says the first thing at once.
    async fn runqueue(&self, told: &mut Told, now: Arc<RunqueueReading>, pods: &PodMap) {
        let before = told.runqueue.as_ref().map(|(reading, _)| Arc::clone(reading));
        let before = before.filter(|before| before.since_ns == now.since_ns);
        let record = NodeRunqueue::new(pods, &RunqueuePair { before, now: Arc::clone(&now) });
        if !record.pods.is_empty() {
            told.runqueue = Some((now, Instant::now()));
            self.record(Body::Runqueue(record)).await;
        }
    }

    /// Spools one of our own records. A failure is counted by the spool, which also says it in `/status`.
    async fn record(&self, body: Body) {
        if let Some(spool) = &self.spool
            && let Err(error) = spool.append(self.encode(body)).await
        {
            tracing::debug!(%error, "record dropped");
        }
    }

    async fn posted(&self, post: Post) {
        let result = match &self.spool {
            None => Ok(()),
            Some(spool) => {
                let records =
                    post.records.iter().map(|record| self.encode(Body::BssPosted(*record))).collect();
                spool.append_many(records).await.map(drop).map_err(refusal)
            }
        };
        // A sender that went away needs no answer.
        let _ = post.reply.send(result);
    }

    fn encode(&self, body: Body) -> Vec<u8> {
        let record = Record { at_ns: (self.clock)(), boot_id: self.boot_id.clone(), body };
        serde_json::to_vec(&record).expect("wire types have string keys and no failing serializer")
    }
}

fn refusal(error: spool::Error) -> AcceptError {
    match error {
        spool::Error::Backpressure => AcceptError::Busy,
        other => AcceptError::Degraded(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scheduler::{Epoch, State};

    #[tokio::test(start_paused = true)]
    async fn a_change_of_life_is_told_at_once_and_the_rest_at_its_pace() {
        let mut told = Told::default();
        let pace = Duration::from_secs(5);
        let mut reading =
            SchedulerReading { state: State::Enabled, enable_seq: Some(1), ..Default::default() };
        assert!(told.is_news(&reading, pace), "the first");
        assert!(!told.is_news(&reading, pace), "nothing new");
        reading.epoch = Some(Epoch { enable_seq: 1, struct_ops_map_id: 9 });
        assert!(told.is_news(&reading, pace), "its maps were found");
        reading.state = State::Disabled;
        assert!(told.is_news(&reading, pace), "it ended");
        tokio::time::advance(pace).await;
        assert!(told.is_news(&reading, pace), "due");
    }
}
