//! The envelope between a node and a receiver: `POST /api/v1/ingest`.
//!
//! A record's identity is (node, spool id, seq): the spool id is made with the spool file, so a fresh spool
//! never repeats the identities of a lost one; seq grows by one per record and survives restarts. The receiver
//! stores each identity at most once and answers up to which seq everything is stored; a seq that the node
//! skipped was dropped by the node, and counted there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Version of this envelope; a receiver refuses one it does not know with 400 and its own version.
pub const VERSION: u32 = 1;

/// Records in a batch: 1,000 rows of a second's samples are one request of a few hundred KiB.
pub const MAX_RECORDS: usize = 1_000;

/// One record, bytes: a pod map of 20,000 processes is about 4 MiB.
pub const MAX_RECORD_BYTES: usize = 4 << 20;

/// A batch as JSON, bytes: the largest record twice over, so that the envelope never decides.
pub const MAX_BODY_BYTES: usize = 2 * MAX_RECORD_BYTES;

/// Consecutive records of one node.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Batch {
    /// [`VERSION`].
    pub version: u32,
    /// The node's name.
    pub node: String,
    /// The kernel's boot id at the time of sending.
    pub boot_id: String,
    /// Identity of the spool file.
    pub spool_id: String,
    /// Sequence number of the first record; the others follow without a gap.
    pub first_seq: u64,
    /// The node's accounts at the time of sending.
    pub accounts: Accounts,
    /// The records, opaque to delivery.
    #[schema(value_type = Vec<Object>)]
    pub records: Vec<Box<RawValue>>,
    /// Records that each receiver confirmed, by its address: each is told its own count and no other's.
    #[serde(skip)]
    #[schema(ignore)]
    pub confirmed_by: BTreeMap<String, u64>,
}

impl Batch {
    /// The batch as JSON, as `receiver` is sent it.
    ///
    /// # Errors
    /// None in practice: a batch holds numbers, text and JSON.
    pub fn to_json(&self, receiver: &str) -> serde_json::Result<Vec<u8>> {
        /// [`Batch`], borrowed, with the accounts of one receiver.
        #[derive(Serialize)]
        struct Addressed<'a> {
            version: u32,
            node: &'a str,
            boot_id: &'a str,
            spool_id: &'a str,
            first_seq: u64,
            accounts: Accounts,
            records: &'a [Box<RawValue>],
        }
        let here = self.confirmed_by.get(receiver).copied().unwrap_or_default();
        serde_json::to_vec(&Addressed {
            version: self.version,
            node: &self.node,
            boot_id: &self.boot_id,
            spool_id: &self.spool_id,
            first_seq: self.first_seq,
            accounts: Accounts { acknowledged_here: Some(here), ..self.accounts.clone() },
            records: &self.records,
        })
    }
}

/// What became of every record: `produced = acknowledged + spooled + sum of dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accounts {
    /// Records made since the spool was created.
    pub produced: u64,
    /// Records a receiver acknowledged.
    pub acknowledged: u64,
    /// Records waiting in the spool.
    pub spooled: u64,
    /// Bytes waiting in the spool.
    pub spooled_bytes: u64,
    /// Records lost, by reason (`spool_full`, `disk_error`, `backpressure`, `refused`).
    pub dropped: BTreeMap<String, u64>,
    /// Wall time at which the oldest waiting record was spooled, ns since the epoch.
    pub oldest_at_ns: Option<i64>,
    /// In a batch: those of `acknowledged` that the receiver it goes to acknowledged; the others are at other receivers.
    /// A node that does not say has one receiver only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_here: Option<u64>,
}

/// The receiver's answer: everything up to and including `acked_seq` is on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ack {
    /// Last sequence number stored.
    pub acked_seq: u64,
    /// Records of this batch that were new.
    pub stored: u64,
    /// Records of this batch that were stored before.
    pub duplicates: u64,
}

/// The receiver's words when it does not take a batch (400, 413, 422).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// False.
    pub success: bool,
    /// What is wrong.
    pub error: String,
    /// Whether the batch as a whole or one of its records is refused: a node never drops records because a
    /// receiver does not understand its envelope.
    pub refused: Refused,
    /// The envelope version that the receiver speaks.
    pub version: u32,
}

/// What exactly a receiver refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Refused {
    /// The batch: version, names, limits. Sending it again in pieces is useless.
    Envelope,
    /// The record at this index of the batch.
    Record(usize),
}
