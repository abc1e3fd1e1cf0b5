//! The queue's wire: the reference broker's shapes (`POST /produce`, `GET /consume`, `POST /ack`, `GET /topics`), and
//! what it has no shape for.
//!
//! A payload is a string on this wire. Ids are opaque words; times are RFC 3339 in UTC.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /produce`. Any other body, JSON without a string `payload` included, is the payload itself, without
/// the blanks around it.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewMessage<'a> {
    /// What to keep.
    #[serde(borrow)]
    pub payload: Cow<'a, str>,
    /// In a batch: records with the same key go to the same partition, unless the request names one.
    #[serde(borrow, default)]
    pub key: Option<Cow<'a, str>>,
}

/// Body of `POST /produce/batch`: kept as a whole or not at all.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewBatch<'a> {
    /// In order, at least one.
    #[serde(borrow)]
    pub messages: Vec<NewMessage<'a>>,
}

/// Answer of `POST /produce`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Produced {
    /// The record's name.
    pub id: String,
}

/// Answer of `POST /produce/batch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProducedBatch {
    /// One for each record, in order.
    pub ids: Vec<String>,
    /// It was kept before, under its id: these are the records' names since then.
    pub duplicate: bool,
}

/// A delivered record: `data` of an event, or one of [`Messages`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = QueueMessage)]
pub struct Message {
    /// Its name, for `POST /ack`.
    pub id: String,
    /// As it was produced.
    pub payload: String,
    /// When it was produced.
    pub created_at: String,
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// How often it was delivered to this group, this time included; left out the first time.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub deliveries: u32,
    /// Where a dead letter comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<DeadLetter>,
}

const fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_once(deliveries: &u32) -> bool {
    *deliveries == 1
}

/// Where a dead letter comes from: the topic is the dead-letter topic's name without its ending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Its name there.
    pub id: String,
    /// The group that did not acknowledge it.
    pub group: String,
    /// How often it was delivered to it.
    pub deliveries: u32,
}

/// Answer of `GET /consume` with `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Messages {
    /// The oldest first; empty when nothing waits.
    pub messages: Vec<Message>,
}

/// Body of `POST /ack`, `/nak` and `/extend`: one id or several.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Settle {
    /// One record: the answer is `ok`, or 400.
    #[serde(default)]
    pub id: Option<String>,
    /// Several: the answer is [`Settled`].
    #[serde(default)]
    pub ids: Option<Vec<String>>,
    /// `/nak`: time before they are delivered again, ms; at once if it is not given.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// `/extend`: time from now in which they are to be acknowledged, ms; the visibility timeout if it is not given.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

/// What became of several records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// How many were the group's to settle.
    pub settled: usize,
    /// The others: unknown, settled before, or another group's.
    pub failed: Vec<String>,
}

/// Answer of `GET /topics`: the partitions that are there, by topic.
pub type Topics = BTreeMap<String, Vec<u32>>;

/// Answer of `GET /topics?verbose=true`, by topic.
pub type VerboseTopics = BTreeMap<String, Topic>;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Topic {
    /// Partitions that it may have.
    pub max_partitions: u32,
    /// Those that are there.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Partition {
    /// Its index.
    pub partition: u32,
    /// Records kept, acknowledged ones for groups to come included.
    pub records: u64,
    /// Records that the slowest group has still to acknowledge; while there is no group, all. At `queue_size` the
    /// partition is full.
    pub depth: u64,
    /// Its groups.
    pub groups: Vec<Group>,
}

/// What a group has of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name.
    pub group: String,
    /// Records that it has still to acknowledge.
    pub lag: u64,
    /// Of those, delivered and not due again.
    pub in_flight: u64,
    /// Age of the oldest of them, ms; null if there is none.
    pub oldest_age_ms: Option<u64>,
}
