//! `POST /api/v1/ingest` and `POST /api/v1/metrics` at the receiver, without their HTTP.
//!
//! A batch is checked whole, stored whole, and answered when it is on disk. A record that cannot be read
//! refuses its batch and is named, so that the node can leave it out.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::value::RawValue;
use tracing::warn;

use super::WallClock;
use super::fleet::{Fleet, Note, POSTED, kind};
use crate::api::batch::{
    Ack, Batch, MAX_BODY_BYTES, MAX_RECORD_BYTES, MAX_RECORDS, Refusal, Refused, VERSION,
};
use crate::api::bss;
use crate::api::record::{Body, Record};
use crate::store::{self, Incoming, NewBatch, Store};

/// A DNS name.
const MAX_NODE_CHARS: usize = 253;

/// A UUID is 36; room for another scheme.
const MAX_ID_CHARS: usize = 64;

/// Reasons to drop that a node may report.
const MAX_DROP_REASONS: usize = 32;

/// Senders of posted records with a stream of their own; the rest share one.
const MAX_SENDERS: usize = 256;

/// Records in one post.
const MAX_POSTED: usize = MAX_RECORDS;

/// A node that was told the queue is full; a commit under load takes some ms.
const BUSY_RETRY_S: u64 = 1;

/// A node that cannot be served before something changes here.
const FULL_RETRY_S: u64 = 60;

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// 400: the envelope is wrong.
    #[error("{0}")]
    Invalid(String),
    /// 400: a record is wrong.
    #[error("record {index}: {words}")]
    Record {
        /// Its index in the batch.
        index: usize,
        /// What is wrong with it.
        words: String,
    },
    /// 413: larger than is read.
    #[error("{what}: {size} is more than {limit}")]
    TooLarge {
        /// Of what there is too much.
        what: &'static str,
        /// How much.
        size: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// 429: come again.
    #[error("receiver is behind")]
    Busy {
        /// After so many seconds.
        retry_after_s: u64,
    },
    /// 503: the disk does not take it.
    #[error("{words}")]
    Storage {
        /// What happened.
        words: String,
        /// Come again after so many seconds.
        retry_after_s: u64,
    },
}

impl IngestError {
    /// The body for 400 and 413, by which a node tells a wrong record from a wrong envelope.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let refused = match self {
            Self::Record { index, .. } => Refused::Record(*index),
            _ => Refused::Envelope,
        };
        Refusal { success: false, error: self.to_string(), refused, version: VERSION }
    }
}

/// Metrics of the receiver's door.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    batches: Counter,
    refused_batches: Counter,
    posted_records: Counter,
    left_out_records: Counter,
}

impl Metrics {
    /// Registers them as `ingest_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("ingest_batches", "Batches stored", this.batches.clone());
        registry.register("ingest_refused_batches", "Batches not taken", this.refused_batches.clone());
        registry.register("ingest_posted_records", "BSS records posted here", this.posted_records.clone());
        registry.register(
            "ingest_left_out_records",
            "Records that cannot be read, of batches whose nodes could not be told",
            this.left_out_records.clone(),
        );
        this
    }
}

/// The receiver's door.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    fleet: Arc<Fleet>,
    senders: Mutex<BTreeSet<String>>,
    metrics: Metrics,
    clock: WallClock,
}

/// A batch that was read and checked.
struct Checked {
    batch: Batch,
    records: Vec<(Record, usize)>,
}

impl Ingest {
    /// A door to `store` and `fleet`.
    pub fn new(store: Store, fleet: Arc<Fleet>, metrics: Metrics, clock: WallClock) -> Self {
        let senders = Mutex::new(fleet.senders().into_iter().collect());
        Self { store, fleet, senders, metrics, clock }
    }

    /// The fleet behind it.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Takes the body of `POST /api/v1/ingest`; the answer means that it is on disk.
    ///
    /// # Errors
    /// [`IngestError`]; nothing is stored then.
    pub async fn ingest(&self, body: Vec<u8>) -> Result<Ack, IngestError> {
        let result = self.take(body).await;
        match &result {
            Ok(_) => self.metrics.batches.inc(),
            Err(_) => self.metrics.refused_batches.inc(),
        };
        result
    }

    /// As [`Ingest::ingest`], for a batch whose node is not there to be told: records that cannot be read are left out, and
    /// counted; the others are stored.
    ///
    /// # Errors
    /// [`IngestError`] but for [`IngestError::Record`]; some of it may be stored then, and is once more no harm.
    pub async fn ingest_readable(&self, body: Vec<u8>) -> Result<(), IngestError> {
        let mut parts = vec![body];
        while let Some(body) = parts.pop() {
            match self.ingest(body.clone()).await {
                Ok(_) => {}
                Err(IngestError::Record { index, words }) => {
                    warn!(index, "a record of a node's batch cannot be read, left out: {words}");
                    self.metrics.left_out_records.inc();
                    let around = tokio::task::spawn_blocking(move || around(&body, index));
                    let around = around.await.map_err(|cause| IngestError::Invalid(cause.to_string()))??;
                    parts.extend(around.into_iter().rev());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Stores records that were posted here; `sender` is the peer's address or the name its key has.
    ///
    /// # Errors
    /// [`IngestError`]; nothing is stored then.
    pub async fn post_bss(&self, sender: &str, records: Vec<bss::Record>) -> Result<(), IngestError> {
        limit("records", records.len(), MAX_POSTED)?;
        if records.is_empty() {
            return Ok(());
        }
        let at_ns = (self.clock)();
        let node = format!("{POSTED}{}", self.sender(sender));
        let count = records.len() as u64;
        let records: Vec<_> = records
            .into_iter()
            .map(|record| Record { at_ns, boot_id: String::new(), body: Body::BssPosted(record) })
            .collect();
        let incoming = records.iter().map(|record| {
            let bytes =
                serde_json::to_vec(record).map_err(|cause| IngestError::Invalid(cause.to_string()))?;
            let (kind, keep) = kind(&record.body);
            Ok(Incoming { kind, keep, bytes })
        });
        let incoming = incoming.collect::<Result<Vec<_>, IngestError>>()?;
        let (note, spool_id) = (Note { newest_at_ns: at_ns, ..Note::default() }, "posted");
        let batch = NewBatch {
            node: node.clone(),
            spool_id: spool_id.to_owned(),
            first_seq: None,
            at_ns,
            note: String::new(),
            records: incoming,
        };
        let stored = self.store.append_batch(batch).await.map_err(|cause| refuse(&cause))?;
        self.metrics.posted_records.inc_by(count);
        let records = records.into_iter().map(|record| (record, 0)).collect();
        self.fleet.update(&node, spool_id, at_ns, note, stored.stream, records);
        Ok(())
    }

    async fn take(&self, body: Vec<u8>) -> Result<Ack, IngestError> {
        limit("body bytes", body.len(), MAX_BODY_BYTES)?;
        // A batch of 8 MiB takes longer to read than a runtime thread should be held.
        let Checked { batch, records } = tokio::task::spawn_blocking(move || check(&body))
            .await
            .map_err(|cause| IngestError::Invalid(format!("batch cannot be read: {cause}")))??;
        let now_ns = (self.clock)();
        let mut accounts = batch.accounts;
        accounts.spooled = accounts.spooled.saturating_sub(records.len() as u64);
        let newest_at_ns = records.iter().map(|(record, _)| record.at_ns).max().unwrap_or(now_ns);
        let (first_seq, count) = (batch.first_seq, records.len() as u64);
        let note = Note { boot_id: batch.boot_id, accounts, first_seq, records: count, newest_at_ns };
        let incoming = records.iter().zip(batch.records).map(|((record, _), raw)| {
            let (kind, keep) = kind(&record.body);
            Incoming { kind, keep, bytes: Box::<str>::from(raw).into_string().into_bytes() }
        });
        let new = NewBatch {
            node: batch.node.clone(),
            spool_id: batch.spool_id.clone(),
            first_seq: Some(batch.first_seq),
            at_ns: now_ns,
            note: serde_json::to_string(&note).map_err(|cause| IngestError::Invalid(cause.to_string()))?,
            records: incoming.collect(),
        };
        let stored = self.store.append_batch(new).await.map_err(|cause| refuse(&cause))?;
        // What came before says nothing new, and may be older than what is known.
        let seqs = batch.first_seq..;
        let new = seqs.zip(records).filter(|(seq, _)| stored.new.iter().any(|range| range.contains(seq)));
        let records = new.map(|(_, record)| record).collect();
        self.fleet.update(&batch.node, &batch.spool_id, now_ns, note, stored.stream, records);
        Ok(stored.ack)
    }

    fn sender(&self, sender: &str) -> String {
        let sender: String =
            sender.chars().filter(|letter| !letter.is_control()).take(MAX_ID_CHARS).collect();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        if senders.contains(&sender) || (senders.len() < MAX_SENDERS && senders.insert(sender.clone())) {
            return sender;
        }
        "others".to_owned()
    }
}

fn refuse(cause: &store::Error) -> IngestError {
    match cause {
        store::Error::Busy => IngestError::Busy { retry_after_s: BUSY_RETRY_S },
        store::Error::TooManyNodes { .. } => {
            warn!("{cause}");
            IngestError::Busy { retry_after_s: FULL_RETRY_S }
        }
        _ => IngestError::Storage { words: cause.to_string(), retry_after_s: BUSY_RETRY_S },
    }
}

/// What is before a record of a batch and what is behind it, as batches.
fn around(body: &[u8], index: usize) -> Result<Vec<Vec<u8>>, IngestError> {
    let invalid = |cause: serde_json::Error| IngestError::Invalid(format!("no batch: {cause}"));
    let mut before: Batch = serde_json::from_slice(body).map_err(invalid)?;
    let behind = before.records.split_off(index.saturating_add(1).min(before.records.len()));
    before.records.truncate(index);
    let gone = before.records.len() as u64 + 1;
    // What was before it is stored by then.
    let mut accounts = before.accounts.clone();
    accounts.acknowledged = accounts.acknowledged.saturating_add(gone);
    accounts.spooled = accounts.spooled.saturating_sub(gone);
    let behind = Batch {
        version: before.version,
        node: before.node.clone(),
        boot_id: before.boot_id.clone(),
        spool_id: before.spool_id.clone(),
        first_seq: before.first_seq.saturating_add(gone),
        accounts,
        records: behind,
        confirmed_by: before.confirmed_by.clone(),
    };
    let parts = [before, behind].into_iter().filter(|batch| !batch.records.is_empty());
    parts.map(|batch| serde_json::to_vec(&batch).map_err(invalid)).collect()
}

fn check(body: &[u8]) -> Result<Checked, IngestError> {
    let batch: Batch =
        serde_json::from_slice(body).map_err(|cause| IngestError::Invalid(format!("no batch: {cause}")))?;
    if batch.version != VERSION {
        let words = format!("version {} is not known here, {VERSION} is", batch.version);
        return Err(IngestError::Invalid(words));
    }
    name("node", &batch.node, MAX_NODE_CHARS)?;
    name("spool_id", &batch.spool_id, MAX_ID_CHARS)?;
    name("boot_id", &batch.boot_id, MAX_ID_CHARS)?;
    limit("records", batch.records.len(), MAX_RECORDS)?;
    limit("reasons to drop", batch.accounts.dropped.len(), MAX_DROP_REASONS)?;
    for reason in batch.accounts.dropped.keys() {
        name("reason to drop", reason, MAX_ID_CHARS)?;
    }
    if batch.records.is_empty() {
        return Err(IngestError::Invalid("records is empty".to_owned()));
    }
    // One less than the end, so that the stream's next number is a number too.
    if batch.first_seq == 0 || batch.first_seq.checked_add(batch.records.len() as u64).is_none() {
        return Err(IngestError::Invalid(format!("first_seq {} cannot be", batch.first_seq)));
    }
    let records = batch.records.iter().enumerate().map(|(index, raw)| read(index, raw));
    Ok(Checked { records: records.collect::<Result<_, _>>()?, batch })
}

fn read(index: usize, raw: &RawValue) -> Result<(Record, usize), IngestError> {
    let text = raw.get();
    if text.len() > MAX_RECORD_BYTES {
        let words = format!("{} bytes are more than {MAX_RECORD_BYTES}", text.len());
        return Err(IngestError::Record { index, words });
    }
    match serde_json::from_str(text) {
        Ok(record) => Ok((record, text.len())),
        Err(cause) => Err(IngestError::Record { index, words: cause.to_string() }),
    }
}

/// Names become keys, labels and words in logs: letters, digits, `.`, `-`, `_`.
fn name(what: &'static str, text: &str, max_chars: usize) -> Result<(), IngestError> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    if text.is_empty() || text.len() > max_chars || !text.chars().all(plain) {
        let words = format!("{what} is not 1 to {max_chars} letters, digits, dots, dashes, underscores");
        return Err(IngestError::Invalid(words));
    }
    Ok(())
}

fn limit(what: &'static str, size: usize, limit: usize) -> Result<(), IngestError> {
    if size > limit { Err(IngestError::TooLarge { what, size, limit }) } else { Ok(()) }
}
