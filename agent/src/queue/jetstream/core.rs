//! What all parts of the engine share: the connection, the names, and the topics that are known to exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::super::metrics::Metrics;
use super::super::state::Status;
use super::super::{Config, Error, MAX_GROUPS, MAX_PARTITIONS, MAX_TOPICS, MessageId, name};
use super::api::{Api, ConsumerInfo, Fault, StreamInfo, code};
use super::names::{self, Names};

/// Batches of one topic under way at once. Servers take 50 from all receivers together.
const BATCHES: usize = 20;

/// Consumers that are made or deleted at the same time.
const AT_ONCE: usize = 8;

/// Where a stream says what its topic is.
const EPOCH: &str = "sextant-epoch";
const PARTITIONS: &str = "sextant-partitions";

/// A topic that is there.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) stream: String,
    /// Partitions, from its making on.
    pub(super) width: u32,
    /// Drawn when it was made: ids of one that was deleted name nothing in its successor.
    pub(super) epoch: u32,
    turn: AtomicU32,
    pub(super) batches: Semaphore,
    /// Groups that have their consumers.
    joined: Mutex<BTreeSet<String>>,
    /// Before which sequence nothing is left, by partition.
    pub(super) purged: Mutex<HashMap<u32, u64>>,
    /// When it was last looked for room.
    pub(super) looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Topic {
    fn new(name: &str, info: &StreamInfo) -> Option<Self> {
        let said = |key: &str| info.config.metadata.get(key);
        let width = said(PARTITIONS)?.parse().ok().filter(|width| (1..=MAX_PARTITIONS).contains(width))?;
        Some(Self {
            name: name.to_owned(),
            stream: info.config.name.clone(),
            width,
            epoch: u32::from_str_radix(said(EPOCH)?, 16).ok()?,
            turn: AtomicU32::new(0),
            batches: Semaphore::new(BATCHES),
            joined: Mutex::default(),
            purged: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        })
    }

    /// The partition of the next batch that names none.
    pub(super) fn take_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.width
    }

    pub(super) fn id(&self, partition: u32, sequence: u64) -> MessageId {
        MessageId { epoch: self.epoch, partition, offset: sequence }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) api: Api,
    pub(super) names: Names,
    pub(super) config: Config,
    pub(super) metrics: Metrics,
    /// Topics are others' to make and to change.
    pub(super) guest: bool,
    pub(super) status: Arc<watch::Sender<Status>>,
    /// How often it was connected.
    pub(super) connections: watch::Receiver<u64>,
    /// Why nothing may be produced.
    refuse: Mutex<Option<String>>,
    topics: Mutex<BTreeMap<String, Arc<Topic>>>,
}

/// No lock is held while something can panic; if it was, what it guards is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(super) fn new(
        api: Api,
        connections: watch::Receiver<u64>,
        config: Config,
        metrics: Metrics,
        guest: bool,
    ) -> Self {
        let names = Names::new(&config.jetstream.prefix);
        let status = Arc::new(watch::Sender::new(Status::default()));
        Self {
            api,
            names,
            config,
            metrics,
            guest,
            status,
            connections,
            refuse: Mutex::default(),
            topics: Mutex::default(),
        }
    }

    /// The topic, if it is there.
    pub(super) async fn known(&self, topic: &str) -> Result<Option<Arc<Topic>>, Error> {
        if let Some(known) = lock(&self.topics).get(topic) {
            return Ok(Some(Arc::clone(known)));
        }
        let stream = self.names.stream(topic);
        match self.api.stream(&stream).await {
            Ok(info) => self.adopt(topic, &info).await.map(Some),
            Err(fault) if fault.is(code::NO_STREAM) => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The topic, made if it is not there.
    pub(super) async fn made(&self, topic: &str, width: u32) -> Result<Arc<Topic>, Error> {
        if let Some(known) = self.known(topic).await? {
            return Ok(known);
        }
        if self.guest {
            return Err(Error::Disk(format!(
                "there is no topic {topic}: a receiver that takes from it makes it"
            )));
        }
        if lock(&self.topics).len() >= MAX_TOPICS {
            let words = format!("there are {MAX_TOPICS} topics, and {topic} is none of them");
            return Err(Error::TooMany(words));
        }
        let epoch = uuid::Uuid::new_v4().as_fields().0;
        let config = self.stream_config(topic, &format!("{epoch:08x}"), width);
        match self.api.create_stream(&self.names.stream(topic), &config).await {
            Ok(info) => self.adopt(topic, &info).await,
            // Another receiver was faster.
            Err(fault) if fault.is(code::NAME_TAKEN) => {
                let words = || Error::Disk(format!("{topic} was made by somebody else, and is not there"));
                self.known(topic).await?.ok_or_else(words)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// A stream that is there, with the settings of today.
    async fn adopt(&self, topic: &str, info: &StreamInfo) -> Result<Arc<Topic>, Error> {
        let strange = || Error::Disk(format!("the stream {} was not made by a receiver", info.config.name));
        let adopted = Arc::new(Topic::new(topic, info).ok_or_else(strange)?);
        let wanted = self.stream_config(topic, &format!("{:08x}", adopted.epoch), adopted.width);
        let differs =
            |(key, value): (&String, &Value)| info.config.rest.get(key).is_some_and(|is| is != value);
        if !self.guest && wanted.as_object().is_some_and(|wanted| wanted.iter().any(differs)) {
            self.api.update_stream(&adopted.stream, &wanted).await?;
        }
        let mut topics = lock(&self.topics);
        Ok(Arc::clone(topics.entry(topic.to_owned()).or_insert(adopted)))
    }

    fn stream_config(&self, topic: &str, epoch: &str, width: u32) -> Value {
        let config = &self.config;
        let ns = |ms: u64| ms.saturating_mul(1_000_000).min(i64::MAX.unsigned_abs());
        let age_ms = config.retention_age_ms;
        // Servers want it no longer than records are kept.
        let window_ms = if age_ms == 0 { config.dedup_window_ms } else { config.dedup_window_ms.min(age_ms) };
        // Dead letters are not refused: what nobody can take would stay where it is.
        let (most, each) =
            if name::is_dead(topic) { (json!(-1), false) } else { (json!(config.queue_size), true) };
        json!({
            "name": self.names.stream(topic),
            "subjects": [self.names.subjects(topic)],
            "retention": "limits",
            "storage": "file",
            "num_replicas": config.jetstream.replicas,
            "discard": "new",
            "max_msgs_per_subject": most,
            "discard_new_per_subject": each,
            "max_bytes": config.max_size_bytes.min(i64::MAX.unsigned_abs()),
            "max_age": ns(age_ms),
            "duplicate_window": ns(window_ms),
            "allow_direct": true,
            "allow_atomic": true,
            "metadata": { EPOCH: epoch, PARTITIONS: width.to_string() },
        })
    }

    /// It is not there any more, or not as it was.
    pub(super) fn forget_topic(&self, topic: &str) {
        lock(&self.topics).remove(topic);
    }

    /// Makes the group's consumers, if they are not there.
    pub(super) async fn join(&self, topic: &Topic, group: &str) -> Result<(), Error> {
        if lock(&topic.joined).contains(group) {
            return Ok(());
        }
        let there: BTreeSet<_> = self.groups(topic).await?.into_iter().collect();
        if !there.contains(group) && there.len() >= MAX_GROUPS {
            return Err(Error::TooMany(format!("{} has {MAX_GROUPS} groups, and no more", topic.name)));
        }
        let making = stream::iter(0..topic.width).map(|partition| async move {
            let name = names::consumer(group, partition);
            let config = self.consumer_config(topic, &name, partition);
            self.api.create_consumer(&topic.stream, &name, &config).await
        });
        let made: Vec<Result<(), Fault>> = making.buffer_unordered(AT_ONCE).collect().await;
        if let Some(fault) = made.into_iter().find_map(Result::err) {
            if fault.is(code::NO_STREAM) {
                self.forget_topic(&topic.name);
            }
            return Err(match fault {
                Fault::Refused { code: code::TOO_MANY_CONSUMERS, words } => Error::TooMany(words),
                other => other.into(),
            });
        }
        lock(&topic.joined).insert(group.to_owned());
        Ok(())
    }

    fn consumer_config(&self, topic: &Topic, name: &str, partition: u32) -> Value {
        json!({
            "name": name,
            "durable_name": name,
            "filter_subject": self.names.subject(&topic.name, partition),
            "deliver_policy": "all",
            "replay_policy": "instant",
            "ack_policy": "explicit",
            "ack_wait": self.config.visibility_timeout_ms.saturating_mul(1_000_000),
            // Records that nobody can take are ours to bury: a server would only stop to deliver them.
            "max_deliver": -1,
            "max_ack_pending": self.config.max_in_flight,
        })
    }

    /// The group has its consumers.
    pub(super) async fn has_group(&self, topic: &Topic, group: &str) -> Result<bool, Error> {
        if lock(&topic.joined).contains(group) {
            return Ok(true);
        }
        match self.api.consumer(&topic.stream, &names::consumer(group, 0)).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.is(code::NO_CONSUMER) || fault.is(code::NO_STREAM) => Ok(false),
            Err(fault) => Err(fault.into()),
        }
    }

    /// The group's consumers are not there any more.
    pub(super) fn forget_joined(&self, topic: &Topic, group: &str) {
        lock(&topic.joined).remove(group);
    }

    /// Deletes a group's consumers; false if there were none.
    pub(super) async fn delete_group(&self, topic: &Topic, group: &str) -> Result<bool, Error> {
        self.forget_joined(topic, group);
        // What it held back may be room now.
        *topic.looked.lock().await = None;
        let deleting = stream::iter(0..topic.width).map(|partition| async move {
            self.api.delete_consumer(&topic.stream, &names::consumer(group, partition)).await
        });
        let deleted: Vec<Result<(), Fault>> = deleting.buffer_unordered(AT_ONCE).collect().await;
        let mut any = false;
        for result in deleted {
            match result {
                Ok(()) => any = true,
                Err(fault) if fault.is(code::NO_CONSUMER) || fault.is(code::NO_STREAM) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Ok(any)
    }

    async fn groups(&self, topic: &Topic) -> Result<Vec<String>, Error> {
        let consumers = self.consumers(topic).await?;
        Ok(consumers.into_iter().map(|(group, ..)| group).collect())
    }

    /// The consumers of a topic by group and partition.
    pub(super) async fn consumers(&self, topic: &Topic) -> Result<Vec<(String, u32, ConsumerInfo)>, Error> {
        let consumers = self.api.consumers(&topic.stream).await?;
        let of =
            |info: ConsumerInfo| names::group(&info.name).map(|(group, partition)| (group, partition, info));
        Ok(consumers.into_iter().filter_map(of).collect())
    }

    /// Why nothing may be produced, if something forbids it.
    pub(super) fn forbidden(&self) -> Option<String> {
        lock(&self.refuse).clone()
    }

    pub(super) fn forbid(&self, words: Option<String>) {
        *lock(&self.refuse) = words;
    }
}
