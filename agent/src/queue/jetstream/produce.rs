//! Records on their way in.
//!
//! One record is one publication. Several are an atomic batch: the servers keep all of them, one behind the other, or
//! none. An id is the `Nats-Msg-Id` of the first record, which also says how the batch lay in its partitions, so that a
//! retry is told the names that the first one got.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::HeaderMap;
use tokio::time::Instant;

use super::super::message::{MessageId, NewMessage, Produce, Produced};
use super::super::{Error, MAX_BATCH, name};
use super::api::{Fault, PATIENCE, Published, Stored, code};
use super::core::{Core, Topic, lock};
use super::names;

/// Records of one atomic batch: what servers take unless they are told otherwise.
pub(super) const MAX_ATOMIC: usize = 1_000;

/// What our headers need beside a payload, bytes: the runs of a batch over all partitions at most.
pub(super) const HEADER_BYTES: usize = 16 << 10;

/// `partition:records`, one for each run of records in the same partition.
const RUNS: &str = "Sextant-Runs";

/// Retries with an id that the servers did not answer in time: as long as a group of servers elects a leader.
const RETRY_FOR: Duration = Duration::from_secs(8);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A topic in which there was nothing to drop is not looked at again so soon.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a record that is named as a duplicate may take to be seen by every server.
const SEEN_WITHIN: usize = 20;
const SEEN_PAUSE: Duration = Duration::from_millis(50);

impl Core {
    /// Keeps a batch, or says why not.
    pub(super) async fn produce(&self, batch: Produce) -> Result<Produced, Error> {
        if let Some(words) = self.forbidden() {
            return Err(Error::Disk(words));
        }
        let known = self.known(&batch.topic).await?;
        let width = known.as_ref().map_or(self.config.partitions_per_topic, |topic| topic.width);
        self.check_sizes(&batch, width)?;
        let topic = match known {
            Some(topic) => topic,
            None => self.made(&batch.topic, width).await?,
        };
        let partitions = partitions(&batch, &topic);
        self.check_partitions(&partitions)?;
        let began = Instant::now();
        let kept = self.keep(&topic, &batch, &partitions).await;
        if kept.is_ok() {
            self.metrics.commit_duration.observe(began.elapsed().as_secs_f64());
        }
        kept
    }

    fn check_sizes(&self, batch: &Produce, width: u32) -> Result<(), Error> {
        if let Some(index) = batch.partition.filter(|index| *index >= width) {
            let topic = &batch.topic;
            let words = format!("partition {index}: {topic} has {width}, 0 to {}", width.saturating_sub(1));
            return Err(Error::Invalid(words));
        }
        let count = batch.messages.len();
        if count > MAX_ATOMIC {
            return Err(Error::TooLarge { what: "messages of a batch", size: count, limit: MAX_ATOMIC });
        }
        let limit = self.api.client.max_payload().saturating_sub(HEADER_BYTES);
        let size = batch.messages.iter().map(|message| message.payload.len()).max().unwrap_or(0);
        if size > limit {
            // The servers' `max_payload` says so.
            return Err(Error::TooLarge { what: "payload, in bytes,", size, limit });
        }
        // One that never fits makes nothing.
        let together =
            batch.partition.is_some() || batch.messages.iter().all(|message| message.key.is_none());
        if together { self.check_partitions(&vec![0; count]) } else { Ok(()) }
    }

    fn check_partitions(&self, partitions: &[u32]) -> Result<(), Error> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for partition in partitions {
            *counts.entry(*partition).or_default() += 1;
        }
        let limit = usize::try_from(self.config.queue_size).unwrap_or(usize::MAX);
        match counts.into_values().find(|count| *count > limit) {
            Some(size) => Err(Error::TooLarge { what: "messages for one partition", size, limit }),
            None => Ok(()),
        }
    }

    /// Tries as often as it makes sense.
    async fn keep(&self, topic: &Topic, batch: &Produce, partitions: &[u32]) -> Result<Produced, Error> {
        let until = Instant::now() + RETRY_FOR;
        let mut looked = false;
        loop {
            let fault = match self.publish(topic, batch, partitions).await {
                Ok(published) if published.duplicate => {
                    return self.duplicate(topic, published.seq, partitions).await;
                }
                Ok(published) => return Ok(self.kept(topic, &published, partitions)),
                Err(fault) => fault,
            };
            match fault {
                Fault::Refused { code: code::FULL | code::NO_STORAGE | code::NO_RESOURCES, words } => {
                    if looked || !self.make_room(topic).await? {
                        self.metrics.full.inc();
                        return Err(Error::Full(self.full(topic, &words)));
                    }
                    looked = true;
                }
                Fault::Refused { code: code::BATCH_DUPLICATE, .. } => {
                    if let Some(first) = self.first_of(topic, batch).await? {
                        return self.duplicate(topic, first, partitions).await;
                    }
                }
                Fault::Refused { code: code::BATCH_TOO_LARGE, .. } => {
                    let size = batch.messages.len();
                    return Err(Error::TooLarge {
                        what: "messages of a batch",
                        size,
                        limit: MAX_ATOMIC.min(MAX_BATCH),
                    });
                }
                Fault::Refused { code: code::BATCH_TOO_MANY, .. } => {
                    self.metrics.busy.inc();
                    return Err(Error::Busy);
                }
                // Without an id a second try could keep it twice; where nobody listened there was no first one.
                Fault::Nobody | Fault::Silent(_)
                    if (batch.id.is_some() || matches!(fault, Fault::Nobody)) && Instant::now() < until =>
                {
                    self.metrics.disk_errors.inc();
                    if matches!(fault, Fault::Nobody) && self.is_gone(topic).await {
                        return Err(Error::Disk(format!("the topic {} was deleted", topic.name)));
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                other => {
                    self.metrics.disk_errors.inc();
                    return Err(other.into());
                }
            }
        }
    }

    async fn publish(&self, topic: &Topic, batch: &Produce, partitions: &[u32]) -> Result<Published, Fault> {
        // What can be tried again is not waited for as long.
        let patience = if batch.id.is_some() { PATIENCE / 2 } else { PATIENCE };
        let mut first = HeaderMap::new();
        if let Some(id) = &batch.id {
            first.insert("Nats-Msg-Id", header(id).as_str());
            if partitions.len() > 1 {
                first.insert(RUNS, runs(partitions).as_str());
            }
        }
        let subject = |partition: u32| self.names.subject(&topic.name, partition);
        if let ([message], [partition]) = (&batch.messages[..], partitions) {
            return self.api.publish(subject(*partition), first, message.payload.clone(), patience).await;
        }
        let _turn = topic.batches.acquire().await;
        let name = uuid::Uuid::new_v4().simple().to_string();
        let last = batch.messages.len();
        for (number, (message, partition)) in (1..).zip(batch.messages.iter().zip(partitions)) {
            let mut headers = std::mem::take(&mut first);
            headers.insert("Nats-Batch-Id", name.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string().as_str());
            let payload = message.payload.clone();
            if number == last {
                headers.insert("Nats-Batch-Commit", "1");
                return self.api.publish(subject(*partition), headers, payload, patience).await;
            }
            // What is wrong with it is said of the whole batch at its end.
            let sent =
                self.api.client.publish_with_headers(subject(*partition), headers, payload.into()).await;
            sent.map_err(|error| Fault::Silent(error.to_string()))?;
        }
        Err(Fault::Silent("a batch of nothing".to_owned()))
    }

    fn kept(&self, topic: &Topic, published: &Published, partitions: &[u32]) -> Produced {
        let count = partitions.len() as u64;
        let labels = super::super::metrics::TopicLabel { topic: topic.name.clone() };
        self.metrics.produced.get_or_create(&labels).inc_by(count);
        // The answer names the last one.
        let first = published.seq.saturating_sub(count.saturating_sub(1));
        Produced { ids: following(topic, first, partitions), duplicate: false }
    }

    /// The names that the records of a batch got when it came first; its first record is `first`.
    async fn duplicate(&self, topic: &Topic, first: u64, partitions: &[u32]) -> Result<Produced, Error> {
        self.metrics.duplicates.inc();
        let mut stored = self.api.get(&topic.stream, first).await;
        for _ in 0..SEEN_WITHIN {
            // A server that is not the leader may not have it yet.
            if !stored.as_ref().is_err_and(|fault| fault.is(code::NO_MESSAGE)) {
                break;
            }
            tokio::time::sleep(SEEN_PAUSE).await;
            stored = self.api.get(&topic.stream, first).await;
        }
        let then = match stored {
            Ok(stored) => lay(&stored).unwrap_or_else(|| partitions.to_vec()),
            // Every group is done with it, and it was dropped: what came again says how it lay.
            Err(fault) if fault.is(code::NO_MESSAGE) => partitions.to_vec(),
            Err(fault) => return Err(fault.into()),
        };
        Ok(Produced { ids: following(topic, first, &then), duplicate: true })
    }

    /// The first record of the batch that came before with this id. The servers say of a batch only that there is one:
    /// a record with the same id is told which. In case the id has just been forgotten, that one is taken back.
    async fn first_of(&self, topic: &Topic, batch: &Produce) -> Result<Option<u64>, Error> {
        let Some(id) = &batch.id else { return Ok(None) };
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", header(id).as_str());
        let told = self.api.publish(self.names.probe(&topic.name), headers, Vec::new(), PATIENCE).await?;
        if told.duplicate {
            return Ok(Some(told.seq));
        }
        self.api.delete_message(&topic.stream, told.seq).await?;
        Err(Error::Disk("the id was forgotten just now: try again".to_owned()))
    }

    /// Drops what every group has acknowledged; false if there was nothing.
    async fn make_room(&self, topic: &Topic) -> Result<bool, Error> {
        let mut looked = topic.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Ok(false);
        }
        let dropped = self.drop_acknowledged(topic, 0).await?;
        *looked = (dropped == 0).then(Instant::now);
        Ok(dropped > 0)
    }

    /// Drops what every group has acknowledged, but for some records of each partition; how many those were.
    pub(super) async fn drop_acknowledged(&self, topic: &Topic, keep: u64) -> Result<u64, Error> {
        let mut floors: HashMap<u32, u64> = HashMap::new();
        for (_, partition, consumer) in self.consumers(topic).await? {
            let floor = floors.entry(partition).or_insert(u64::MAX);
            *floor = (*floor).min(consumer.ack_floor.stream_seq);
        }
        // Sequences are the topic's: its partitions share them.
        let keep = keep.saturating_mul(topic.width.into());
        let mut dropped = 0;
        for (partition, floor) in floors {
            let before = floor.saturating_add(1).saturating_sub(keep);
            // Servers write down each purge, also of nothing.
            if before > lock(&topic.purged).get(&partition).copied().unwrap_or(1) {
                let subject = self.names.subject(&topic.name, partition);
                dropped += self.api.purge(&topic.stream, &subject, before).await?;
                lock(&topic.purged).insert(partition, before);
            }
        }
        Ok(dropped)
    }

    fn full(&self, topic: &Topic, words: &str) -> String {
        let limit = self.config.queue_size;
        format!(
            "{} is full: {limit} of {limit} records of a partition wait to be acknowledged, or its bytes are used ({words})",
            topic.name
        )
    }

    async fn is_gone(&self, topic: &Topic) -> bool {
        let gone = self.api.stream(&topic.stream).await.is_err_and(|fault| fault.is(code::NO_STREAM));
        if gone {
            self.forget_topic(&topic.name);
        }
        gone
    }
}

/// Where each record goes. With an id all that is drawn follows from it, so that a retry goes the same way.
fn partitions(batch: &Produce, topic: &Topic) -> Vec<u32> {
    let turn = match (&batch.partition, &batch.id) {
        (Some(partition), _) => *partition,
        (None, Some(id)) => name::partition_of(id.as_bytes(), topic.width),
        (None, None) => topic.take_turn(),
    };
    let of = |message: &NewMessage| match (batch.partition, &message.key) {
        (None, Some(key)) => name::partition_of(key.as_bytes(), topic.width),
        _ => turn,
    };
    batch.messages.iter().map(of).collect()
}

fn following(topic: &Topic, first: u64, partitions: &[u32]) -> Vec<MessageId> {
    (first..).zip(partitions).map(|(sequence, partition)| topic.id(*partition, sequence)).collect()
}

/// A header is one line of visible letters, an id is any text: it stands there in hexadecimal where it has to.
fn header(id: &str) -> String {
    if id.bytes().all(|byte| byte.is_ascii_graphic()) && !id.starts_with("0x") {
        return id.to_owned();
    }
    id.bytes().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn runs(partitions: &[u32]) -> String {
    let runs = partitions.chunk_by(|one, next| one == next);
    runs.map(|run| format!("{}:{}", run[0], run.len())).collect::<Vec<_>>().join(",")
}

/// How a batch lay in its partitions, by its first record.
fn lay(first: &Stored) -> Option<Vec<u32>> {
    let Some(runs) = first.headers.get(RUNS) else { return Some(vec![names::partition(&first.subject)?]) };
    let mut partitions = Vec::new();
    for run in runs.as_str().split(',') {
        let (partition, count) = run.split_once(':')?;
        // Somebody else's header never makes more than a batch can have.
        let count = count.parse::<usize>().ok().filter(|count| *count <= MAX_ATOMIC - partitions.len())?;
        partitions.extend(std::iter::repeat_n(partition.parse::<u32>().ok()?, count));
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(subject: &str, runs: Option<&str>) -> Stored {
        let mut headers = HeaderMap::new();
        if let Some(runs) = runs {
            headers.insert(RUNS, runs);
        }
        Stored { subject: subject.to_owned(), at_ns: 0, headers, payload: Vec::new() }
    }

    #[test]
    fn how_a_batch_lay_is_read_as_it_is_written() {
        let partitions = [0, 0, 3, 1, 1, 1, 0];
        let written = runs(&partitions);
        assert_eq!(written, "0:2,3:1,1:3,0:1");
        assert_eq!(lay(&stored("sx.t.0", Some(&written))), Some(partitions.to_vec()));
        assert_eq!(lay(&stored("sx.t.7", None)), Some(vec![7]));
        for wrong in ["", "1", "1:", "a:1", "0:1001", "0:600,1:600", "0:-1"] {
            assert_eq!(lay(&stored("sx.t.0", Some(wrong))), None, "{wrong}");
        }
        assert_eq!(lay(&stored("sx.t.probe", None)), None);
    }

    #[test]
    fn any_id_fits_into_a_header_and_none_takes_anothers_place() {
        assert_eq!(header("batch-1"), "batch-1");
        assert_eq!(header("a b"), "0x612062");
        assert_eq!(header("é\r\n"), "0xc3a90d0a");
        assert_ne!(header("0x612062"), header("a b"));
    }
}
