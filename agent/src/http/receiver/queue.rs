//! The queue over HTTP, as the reference's broker speaks it.
//!
//! - `POST /produce?topic=T&partition=N` keeps a record; `&key=K` instead of `partition` keeps a key's records in
//!   order; `&id=ID` makes a retry harmless. 200 once it is on disk, 429 when groups are too far behind
//! - `POST /produce/batch?topic=T` keeps a batch, whole or not at all
//! - `GET /consume?topic=T&partition=N&group=G` a group's records as server-sent events ([`stream`]); with `&max=N`
//!   some of them as JSON, waiting up to `&wait_ms=` for the first. Without `partition` they come from all of them
//! - `POST /ack`, `/nak`, `/extend?topic=T&partition=N&group=G` done with; give back; keep longer
//! - `DELETE /consume?topic=T&group=G` forgets a group
//! - `GET /topics` topics and their partitions; `?verbose=true` with depth, lag and age
//!
//! Errors are plain text, as the reference's are.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::ReceiverState;
use crate::api::queue as wire;
use crate::http::ApiError;
use crate::http::error::Text;
use crate::http::logins::whole_seconds;
use crate::queue::{
    Error, GroupState, MAX_PARTITIONS, Message, NODES, PartitionState, Produce, Produced, Queue, TopicState,
};

pub mod consume;
pub mod produce;
pub mod settle;
mod stream;

/// Pulls under way at once: with an answer of 1 MiB each, as records and as JSON, 128 MiB.
const PULLS: usize = 64;

/// The queue, and room for those who consume.
#[derive(Clone, Debug)]
pub struct Door {
    queue: Queue,
    streams: Arc<Semaphore>,
    max_streams: usize,
    pulls: Arc<Semaphore>,
}

impl Door {
    /// To this queue, for so many streams at once.
    pub fn new(queue: Queue, max_streams: usize) -> Self {
        let (streams, pulls) = (Arc::new(Semaphore::new(max_streams)), Arc::new(Semaphore::new(PULLS)));
        Self { queue, streams, max_streams, pulls }
    }

    /// Who is refused for want of room is told when there will be some.
    pub(super) async fn keep(&self, batch: Produce) -> Result<Produced, ApiError> {
        let (topic, partition, records) = (batch.topic.clone(), batch.partition, batch.messages.len());
        self.queue.produce(batch).await.map_err(|error| match error {
            Error::Full(words) => {
                let wait = self.queue.room_within(&topic, partition, records);
                ApiError::QueueFull { words, retry_after_s: whole_seconds(wait).max(1) }
            }
            other => other.into(),
        })
    }
}

/// When a disk that took nothing is asked again.
const DISK_RETRY_S: u64 = 2;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(words) => Self::Invalid(words),
            Error::TooLarge { .. } => Self::Oversized(error.to_string()),
            Error::TooMany(words) => Self::Conflict(words),
            // Who produces is told how soon: see `produce`.
            Error::Full(words) => Self::QueueFull { words, retry_after_s: 1 },
            Error::Busy => Self::Busy { retry_after_s: 1 },
            Error::Unknown(words) => Self::NotInQueue(words),
            Error::Disk(why) => Self::Degraded { why, retry_after_s: DISK_RETRY_S },
            Error::Config(_) | Error::Open(_) | Error::Thread(_) | Error::Servers(_) | Error::Closed => {
                Self::NotReady("not ready: stopping".to_owned())
            }
        }
    }
}

/// The parameters of all these routes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    topic: String,
    partition: Option<String>,
    #[serde(default)]
    group: String,
    key: Option<String>,
    id: Option<String>,
    max: Option<String>,
    wait_ms: Option<String>,
    credit: Option<String>,
    verbose: Option<String>,
}

type Asked = Result<Query<Parameters>, QueryRejection>;

fn parameters(asked: Asked) -> Result<Parameters, ApiError> {
    let Query(query) = asked.map_err(|error| ApiError::Invalid(error.body_text()))?;
    if query.topic == NODES {
        return Err(ApiError::Forbidden(format!(
            "{NODES} holds nodes' batches: they come to /api/v1/ingest"
        )));
    }
    Ok(query)
}

impl Parameters {
    /// An empty one is none, as a client that fills in a form sends it.
    fn partition(&self) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.partition.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let index = text.parse().ok().filter(|index| digits && *index < MAX_PARTITIONS);
        let wrong = || ApiError::Query {
            name: "partition",
            why: format!("a number from 0 to {}", MAX_PARTITIONS - 1),
        };
        index.map(Some).ok_or_else(wrong)
    }
}

fn number<T: std::str::FromStr>(name: &'static str, text: Option<&str>) -> Result<Option<T>, ApiError> {
    let wrong = |_| ApiError::Query { name, why: "a number".to_owned() };
    text.map(|text| text.parse().map_err(wrong)).transpose()
}

fn shown(topic: &str, message: Message) -> wire::Message {
    let dead = message.origin.map(|origin| wire::DeadLetter {
        id: origin.id.to_string(),
        group: origin.group,
        deliveries: origin.deliveries,
    });
    wire::Message {
        id: message.id.to_string(),
        // Only text comes in over this wire.
        payload: String::from_utf8_lossy(&message.payload).into_owned(),
        created_at: crate::api::time::rfc3339(message.at_ns),
        topic: topic.to_owned(),
        partition: message.id.partition,
        deliveries: message.deliveries,
        dead,
    }
}

/// Topics and their partitions.
#[utoipa::path(get, path = "/topics", tag = "queue",
    params(("verbose" = Option<bool>, Query, description = "with depth, lag and age of each group, by topic")),
    responses((status = 200, description = "partitions by topic; with `verbose` a `Topic` by topic",
            body = BTreeMap<String, Vec<u32>>),
        (status = 503, body = str, content_type = "text/plain")))]
pub(super) async fn topics(State(receiver): State<ReceiverState>, asked: Asked) -> Result<Response, Text> {
    let verbose = parameters(asked)?.verbose.is_some_and(|value| !matches!(&*value, "0" | "false"));
    let topics = receiver.queue.queue.topics(verbose).await?;
    if !verbose {
        let of = |topic: TopicState| (topic.name, topic.partitions.iter().map(|one| one.index).collect());
        return Ok(Json(topics.into_iter().map(of).collect::<wire::Topics>()).into_response());
    }
    let now_ns = (receiver.common.clock)();
    let of = |topic: TopicState| (topic.name.clone(), verbose_topic(topic, now_ns));
    Ok(Json(topics.into_iter().map(of).collect::<wire::VerboseTopics>()).into_response())
}

fn verbose_topic(topic: TopicState, now_ns: i64) -> wire::Topic {
    let age_ms = |at_ns: i64| u64::try_from(now_ns.saturating_sub(at_ns) / 1_000_000).unwrap_or(0);
    let group = |group: GroupState| wire::Group {
        group: group.name,
        lag: group.lag,
        in_flight: group.in_flight,
        oldest_age_ms: group.oldest_at_ns.map(age_ms),
    };
    let partition = |partition: PartitionState| wire::Partition {
        partition: partition.index,
        records: partition.records,
        depth: partition.depth,
        groups: partition.groups.into_iter().map(group).collect(),
    };
    wire::Topic {
        max_partitions: topic.width,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}
