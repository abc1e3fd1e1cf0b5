//! What consumers say of records.
//!
//! A delivery is acknowledged by the subject that came with it, which the group's desk knows. One that went out through
//! another receiver, or before this one was started, has a subject of our making: servers find the record by its
//! sequence. Whether it was still the group's to settle they do not tell; between what is acknowledged without a gap and
//! what was delivered it is believed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::metrics::GroupLabels;
use super::super::{Error, MessageId, Settle, Verdict, name};
use super::api::{ConsumerInfo, code};
use super::core::{Core, Topic};
use super::desk::{self, Command};
use super::flight::{Change, Look};
use super::names;

/// Verdicts under way at once.
const AT_ONCE: usize = 64;

/// A delivery that can be settled.
struct Settling {
    ack: String,
    deliveries: u32,
    /// When it was delivered, if that was here.
    since: Option<Instant>,
    /// It is in somebody's hands.
    held: bool,
}

impl Core {
    /// One word for each id, in their order.
    pub(super) async fn settle(
        &self,
        topic: &Arc<Topic>,
        desk: &mpsc::Sender<Command>,
        settle: &Settle,
    ) -> Result<Vec<bool>, Error> {
        let looks = desk::ask(desk, |reply| Command::Look { ids: settle.ids.clone(), reply }).await?;
        let consumers = self.unseen(topic, settle, &looks).await?;
        let mut once = HashSet::new();
        let jobs: Vec<(MessageId, Option<Settling>)> = settle
            .ids
            .iter()
            .zip(looks)
            .map(|(id, look)| {
                let ours = settle.partition.is_none_or(|index| index == id.partition) && once.insert(*id);
                (*id, if ours { self.settling(topic, *id, look, &consumers) } else { None })
            })
            .collect();
        let settling = jobs.into_iter().map(|(id, job)| async move {
            match job {
                Some(job) => self.settle_one(topic, settle, id, job).await,
                None => Ok(None),
            }
        });
        let done: Vec<Result<Option<Change>, Error>> =
            stream::iter(settling).buffered(AT_ONCE).collect().await;
        // What was done is remembered, whatever became of the rest.
        let changes = settle.ids.iter().zip(&done);
        let changes: Vec<_> = changes.filter_map(|(id, done)| Some((*id, (*done.as_ref().ok()?)?))).collect();
        let acked = changes.iter().filter(|(_, change)| *change == Change::Acked).count() as u64;
        if acked > 0 {
            // There may be room now.
            *topic.looked.lock().await = None;
        }
        if acked > 0 && matches!(settle.verdict, Verdict::Ack) {
            let labels = GroupLabels { topic: topic.name.clone(), group: settle.group.clone() };
            self.metrics.consumed.get_or_create(&labels).inc_by(acked);
        }
        let _closed = desk.send(Command::Changed { changes }).await;
        done.into_iter().map(|done| done.map(|change| change.is_some())).collect()
    }

    /// The consumers of those partitions of which the desk does not know every record.
    async fn unseen(
        &self,
        topic: &Topic,
        settle: &Settle,
        looks: &[Look],
    ) -> Result<HashMap<u32, ConsumerInfo>, Error> {
        let unseen = settle.ids.iter().zip(looks).filter(|(_, look)| matches!(look, Look::Unseen));
        let partitions: HashSet<u32> = unseen.map(|(id, _)| id.partition).collect();
        let mut consumers = HashMap::new();
        for partition in partitions {
            let name = names::consumer(&settle.group, partition);
            match self.api.consumer(&topic.stream, &name).await {
                Ok(info) => _ = consumers.insert(partition, info),
                Err(fault) if fault.is(code::NO_CONSUMER) || fault.is(code::NO_STREAM) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(consumers)
    }

    fn settling(
        &self,
        topic: &Topic,
        id: MessageId,
        look: Look,
        consumers: &HashMap<u32, ConsumerInfo>,
    ) -> Option<Settling> {
        match look {
            Look::Foreign => None,
            Look::Here { ack, deliveries, since, held } => {
                Some(Settling { ack, deliveries, since: Some(since), held })
            }
            Look::Unseen => {
                let info = consumers.get(&id.partition)?;
                let delivered = (info.ack_floor.stream_seq + 1)..=info.delivered.stream_seq;
                let ack = || self.names.ack(&topic.name, &info.name, id.offset, info.delivered.consumer_seq);
                delivered.contains(&id.offset).then(|| Settling {
                    ack: ack(),
                    deliveries: 1,
                    since: None,
                    held: true,
                })
            }
        }
    }

    async fn settle_one(
        &self,
        topic: &Topic,
        settle: &Settle,
        id: MessageId,
        job: Settling,
    ) -> Result<Option<Change>, Error> {
        let now = Instant::now();
        match settle.verdict {
            Verdict::Ack => {
                self.api.settle(job.ack, "+ACK".to_owned()).await?;
                if let Some(since) = job.since {
                    self.metrics.processing.observe(now.saturating_duration_since(since).as_secs_f64());
                }
                Ok(Some(Change::Acked))
            }
            Verdict::Nak(_)
                if job.deliveries >= self.config.max_deliveries && !name::is_dead(&topic.name) =>
            {
                let change = self.bury_stored(topic, &settle.group, &job.ack, id, job.deliveries).await;
                Ok(Some(change))
            }
            Verdict::Nak(delay) => {
                self.metrics.given_back.inc();
                self.api.settle(job.ack, later(delay)).await?;
                Ok(Some(Change::Given(now + delay)))
            }
            Verdict::Extend(_) if !job.held => Ok(None),
            Verdict::Extend(time) => {
                // A refusal with a delay is the only word that sets a time: until then the record is nobody else's, and
                // can be acknowledged.
                let time = time.unwrap_or(self.config.visibility_timeout());
                self.api.settle(job.ack, later(time)).await?;
                Ok(Some(Change::Kept(now + time)))
            }
        }
    }
}

fn later(delay: Duration) -> String {
    if delay.is_zero() { "-NAK".to_owned() } else { format!("-NAK {{\"delay\":{}}}", delay.as_nanos()) }
}
