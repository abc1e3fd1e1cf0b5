//! What has to be looked after without anybody asking: whether the servers are there and sync, how much they keep, and
//! what of it can go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::Error;
use super::super::metrics::PartitionLabels;
use super::super::state::{GroupState, PartitionState, TopicState};
use super::api::{ConsumerInfo, StreamInfo, code};
use super::core::{Core, Topic};
use super::desk::Command;
use super::durability::{self, Verdict};
use super::{JetStream, names};

/// Figures are at most so old.
const EVERY: Duration = Duration::from_secs(2);

/// Servers are restarted with other settings seldom.
const ASK_EVERY: Duration = Duration::from_secs(60);

impl JetStream {
    /// Looks after the queue until the token is cancelled; deadlines are the servers' to keep.
    pub async fn keep_time(&self, stop: CancellationToken) {
        let keeping = async {
            let (mut asked, mut shown) = (Instant::now(), BTreeSet::new());
            loop {
                if asked.elapsed() >= ASK_EVERY {
                    asked = Instant::now();
                    self.ask_again().await;
                }
                let kept = if self.core.guest { Ok(()) } else { self.keep(&mut shown).await };
                self.show(kept.err().map(|error| error.to_string()));
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = keeping => {}
        }
    }

    async fn ask_again(&self) {
        match durability::ask(&self.core.config.jetstream).await {
            Verdict::Safe => self.core.forbid(None),
            Verdict::Unsafe(words) => {
                tracing::error!("nothing is produced any more: {words}");
                self.core.forbid(Some(words));
            }
            // What was true a minute ago is most likely still true: a server that is down syncs nothing wrongly.
            Verdict::Unknown(words) => tracing::warn!("cannot tell whether the servers still sync: {words}"),
        }
    }

    /// Says how the servers are, once per change.
    fn show(&self, failed: Option<String>) {
        let degraded = failed.or_else(|| self.core.forbidden());
        self.core.metrics.healthy.set(i64::from(degraded.is_none()));
        self.core.status.send_if_modified(|status| {
            match (&status.degraded, &degraded) {
                (None, Some(words)) => tracing::warn!("queue is degraded: {words}"),
                (Some(_), None) => tracing::info!("queue takes records again"),
                _ => {}
            }
            let changed = status.degraded != degraded;
            status.degraded = degraded;
            changed
        });
    }

    async fn keep(&self, shown: &mut BTreeSet<(String, u32)>) -> Result<(), Error> {
        let core = &self.core;
        let (mut bytes, mut now) = (0, BTreeSet::new());
        for stream in core.api.streams(&core.names.all()).await? {
            let Some(name) = core.names.topic(&stream.config.name) else { continue };
            bytes += stream.state.bytes;
            let Some(topic) = core.known(&name).await? else { continue };
            let consumers = core.consumers(&topic).await?;
            for (group, partition, consumer) in &consumers {
                if let Some(desk) = self.desks.find(&name, group) {
                    let floor =
                        Command::Floor { partition: *partition, floor: consumer.ack_floor.stream_seq };
                    let _busy = desk.try_send(floor);
                }
            }
            for partition in core.partitions(&topic, &consumers, false).await? {
                let labels = PartitionLabels { topic: name.clone(), partition: partition.index };
                let depth = i64::try_from(partition.depth).unwrap_or(i64::MAX);
                core.metrics.depth.get_or_create(&labels).set(depth);
                now.insert((name.clone(), partition.index));
            }
            let most = core.config.retention_bytes.min(core.config.max_size_bytes / 2);
            let keep = if stream.state.bytes > most { 0 } else { core.config.retention_records };
            core.drop_acknowledged(&topic, keep).await?;
        }
        for (topic, partition) in shown.difference(&now) {
            core.metrics.depth.remove(&PartitionLabels { topic: topic.clone(), partition: *partition });
        }
        *shown = now;
        core.metrics.size_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        core.metrics.file_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        core.status.send_if_modified(|status| {
            (status.size_bytes, status.file_bytes) = (bytes, bytes);
            false
        });
        Ok(())
    }
}

impl Core {
    /// Every topic, by name.
    pub(super) async fn states(&self, ages: bool) -> Result<Vec<TopicState>, Error> {
        let mut states = BTreeMap::new();
        for StreamInfo { config, .. } in self.api.streams(&self.names.all()).await? {
            let Some(name) = self.names.topic(&config.name) else { continue };
            let Some(topic) = self.known(&name).await? else { continue };
            let consumers = if ages { self.consumers(&topic).await? } else { Vec::new() };
            let partitions = match self.partitions(&topic, &consumers, ages).await {
                Ok(partitions) => partitions,
                Err(_) if self.known(&name).await?.is_none() => continue,
                Err(error) => return Err(error),
            };
            states.insert(name.clone(), TopicState { name, width: topic.width, partitions });
        }
        Ok(states.into_values().collect())
    }

    /// The partitions of a topic: all of them are there from its making on.
    async fn partitions(
        &self,
        topic: &Topic,
        consumers: &[(String, u32, ConsumerInfo)],
        ages: bool,
    ) -> Result<Vec<PartitionState>, Error> {
        let info = match self.api.stream(&topic.stream).await {
            Err(fault) if fault.is(code::NO_STREAM) => {
                self.forget_topic(&topic.name);
                return Err(fault.into());
            }
            other => other?,
        };
        let counts: BTreeMap<u32, u64> = info
            .state
            .subjects
            .iter()
            .filter_map(|(subject, count)| Some((names::partition(subject)?, *count)))
            .collect();
        let mut partitions = Vec::new();
        for index in 0..topic.width {
            let records = counts.get(&index).copied().unwrap_or(0);
            let mut groups = Vec::new();
            let mut depth = None;
            for (group, _, consumer) in consumers.iter().filter(|(_, partition, _)| *partition == index) {
                let lag = consumer.lag();
                depth = depth.max(Some(lag));
                if ages {
                    let oldest_at_ns = self.oldest(topic, index, consumer).await?;
                    let in_flight = consumer.num_ack_pending;
                    groups.push(GroupState { name: group.clone(), lag, in_flight, oldest_at_ns });
                }
            }
            groups.sort_by(|one, other| one.name.cmp(&other.name));
            partitions.push(PartitionState { index, records, depth: depth.unwrap_or(records), groups });
        }
        Ok(partitions)
    }

    /// When the first record was kept that the group has still to acknowledge.
    async fn oldest(
        &self,
        topic: &Topic,
        partition: u32,
        consumer: &ConsumerInfo,
    ) -> Result<Option<i64>, Error> {
        if consumer.lag() == 0 {
            return Ok(None);
        }
        let subject = self.names.subject(&topic.name, partition);
        match self.api.next(&topic.stream, &subject, consumer.ack_floor.stream_seq + 1).await {
            Ok(stored) => Ok(Some(stored.at_ns)),
            Err(fault) if fault.is(code::NO_MESSAGE) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }
}
