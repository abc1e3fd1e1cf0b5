//! The store's redb file. One transaction changes all tables together.
//!
//! ```text
//! meta    "totals"             -> Totals as JSON
//! streams (node, spool id)     -> StreamRow as JSON
//! records id                   -> crc32 (4, LE, over id and the rest) | at_ns (8) | stream (8) | seq (8)
//!                                 | length of kind (1) | kind | record
//! latest  (node, kind, id)     -> record
//! ```

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::stream::Stream;
use super::{Config, Error, Incoming, MAX_NODES, MAX_STREAMS_PER_NODE, NewBatch, Record, Stored};
use crate::api::batch::Ack;
use crate::disk::row::{checksum, json, parse};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const STREAMS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("streams");
const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const LATEST: TableDefinition<(&str, &str, u64), &[u8]> = TableDefinition::new("latest");
const TOTALS: &str = "totals";

/// The format this build reads and writes.
const FORMAT: u32 = 1;

/// What a record costs beside its bytes: key, its share of a page.
const OVERHEAD_BYTES: u64 = 16;

/// The store's accounts: `stored = records + expired`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Version of the file's format.
    pub format: u32,
    /// The id the next record takes.
    pub next_id: u64,
    /// Records kept.
    pub records: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// Records expired by size.
    pub expired: u64,
    /// Nodes with a stream.
    pub nodes: u64,
    /// The number the next stream takes.
    pub next_stream: u64,
    /// Bytes of the latest records.
    pub latest_bytes: u64,
    /// Latest records left out because of their limit.
    pub latest_left_out: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            format: FORMAT,
            next_id: 1,
            records: 0,
            size_bytes: 0,
            expired: 0,
            nodes: 0,
            next_stream: 1,
            latest_bytes: 0,
            latest_left_out: 0,
        }
    }
}

/// A stream as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRow {
    /// The node.
    pub node: String,
    /// Its spool file.
    pub spool_id: String,
    /// Its number in this store.
    pub number: u64,
    /// When its last batch came, ns since the epoch.
    pub last_at_ns: i64,
    /// What the caller said with the last batch.
    pub note: String,
    /// What it delivered.
    pub stream: Stream,
}

/// One of the latest records of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// What it is.
    pub kind: String,
    /// The record.
    pub bytes: Vec<u8>,
}

/// The store after a transaction.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub totals: Totals,
    /// One for each batch, in order.
    pub answers: Vec<Result<Stored, Error>>,
    pub expired: u64,
}

/// Makes the tables of a fresh file and checks the accounts of an old one.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let records = transaction.open_table(RECORDS)?;
        transaction.open_table(STREAMS)?;
        transaction.open_table(LATEST)?;
        let mut meta = transaction.open_table(META)?;
        let known = meta.get(TOTALS)?.map(|row| parse::<Totals>(row.value())).transpose()?;
        match known {
            Some(totals) if totals.format != FORMAT => {
                return Err(redb::Error::Corrupted(format!("format {} is not known", totals.format)));
            }
            Some(totals) if totals.records != records.len()? => {
                return Err(redb::Error::Corrupted("its accounts do not add up".to_owned()));
            }
            Some(_) => {}
            None => {
                meta.insert(TOTALS, json(&Totals::default())?.as_slice())?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Stores all batches in one synced transaction; a batch beyond a limit is answered with an error alone.
pub(super) fn apply(
    database: &Database,
    batches: &[&NewBatch],
    config: &Config,
) -> Result<Outcome, redb::Error> {
    let mut transaction = database.begin_write()?;
    // Without it, opening after a crash grows with the file.
    transaction.set_quick_repair(true);
    let outcome = fill(&transaction, batches, config)?;
    transaction.commit()?;
    Ok(outcome)
}

fn fill(
    transaction: &WriteTransaction,
    batches: &[&NewBatch],
    config: &Config,
) -> Result<Outcome, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let totals = match meta.get(TOTALS)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no totals".to_owned())),
    };
    let mut tables = Tables {
        streams: transaction.open_table(STREAMS)?,
        records: transaction.open_table(RECORDS)?,
        latest: transaction.open_table(LATEST)?,
        totals,
        max_latest_bytes: config.max_latest_bytes,
    };
    let answers = batches.iter().map(|batch| tables.store(batch)).collect::<Result<_, _>>()?;
    let expired = tables.expire(config.max_size_bytes)?;
    let totals = tables.totals;
    meta.insert(TOTALS, json(&totals)?.as_slice())?;
    Ok(Outcome { totals, answers, expired })
}

struct Tables<'t> {
    streams: Table<'t, (&'static str, &'static str), &'static [u8]>,
    records: Table<'t, u64, &'static [u8]>,
    latest: Table<'t, (&'static str, &'static str, u64), &'static [u8]>,
    totals: Totals,
    max_latest_bytes: u64,
}

impl Tables<'_> {
    fn store(&mut self, batch: &NewBatch) -> Result<Result<Stored, Error>, redb::Error> {
        let key = (batch.node.as_str(), batch.spool_id.as_str());
        let known = self.streams.get(key)?.map(|row| parse::<StreamRow>(row.value())).transpose()?;
        let mut row = match known {
            Some(row) => row,
            None => match self.new_stream(batch)? {
                Some(row) => row,
                None => return Ok(Err(Error::TooManyNodes { node: batch.node.clone() })),
            },
        };
        let (first, count) = (batch.first_seq.unwrap_or(row.stream.next_seq), batch.records.len() as u64);
        let new = row.stream.admit(first, count);
        let mut stored = 0;
        for seq in new.iter().cloned().flatten() {
            let Some(record) = usize::try_from(seq - first).ok().and_then(|index| batch.records.get(index))
            else {
                continue;
            };
            self.keep(batch, row.number, seq, record)?;
            stored += 1;
        }
        row.last_at_ns = batch.at_ns;
        row.note.clone_from(&batch.note);
        self.streams.insert(key, json(&row)?.as_slice())?;
        let acked_seq = (first + count).saturating_sub(1);
        let ack = Ack { acked_seq, stored, duplicates: count - stored };
        Ok(Ok(Stored { ack, new, stream: row.stream }))
    }

    /// A stream seen for the first time; `None` if its node is one too many.
    fn new_stream(&mut self, batch: &NewBatch) -> Result<Option<StreamRow>, redb::Error> {
        let mut siblings = Vec::new();
        for entry in self.streams.range((batch.node.as_str(), "")..)? {
            let (key, row) = entry?;
            if key.value().0 != batch.node {
                break;
            }
            siblings.push(parse::<StreamRow>(row.value())?);
        }
        if siblings.is_empty() {
            if self.totals.nodes >= MAX_NODES {
                return Ok(None);
            }
            self.totals.nodes += 1;
        }
        if siblings.len() >= MAX_STREAMS_PER_NODE
            && let Some(oldest) = siblings.iter().min_by_key(|row| row.last_at_ns)
        {
            self.streams.remove((oldest.node.as_str(), oldest.spool_id.as_str()))?;
        }
        let number = self.totals.next_stream;
        self.totals.next_stream += 1;
        Ok(Some(StreamRow {
            node: batch.node.clone(),
            spool_id: batch.spool_id.clone(),
            number,
            last_at_ns: batch.at_ns,
            note: String::new(),
            stream: Stream::default(),
        }))
    }

    fn keep(
        &mut self,
        batch: &NewBatch,
        stream: u64,
        seq: u64,
        record: &Incoming,
    ) -> Result<(), redb::Error> {
        let id = self.totals.next_id;
        let stored = encode(id, batch.at_ns, stream, seq, record);
        self.records.insert(id, stored.as_slice())?;
        self.totals.next_id += 1;
        self.totals.records += 1;
        self.totals.size_bytes += cost(&stored);
        self.keep_latest(&batch.node, id, record)
    }

    fn keep_latest(&mut self, node: &str, id: u64, record: &Incoming) -> Result<(), redb::Error> {
        let mut ids = Vec::new();
        for entry in self.latest.range((node, record.kind, 0)..=(node, record.kind, u64::MAX))? {
            ids.push(entry?.0.value().2);
        }
        let excess = (ids.len() + 1).saturating_sub(record.keep);
        for old in ids.into_iter().take(excess) {
            if let Some(bytes) = self.latest.remove((node, record.kind, old))? {
                self.totals.latest_bytes =
                    self.totals.latest_bytes.saturating_sub(bytes.value().len() as u64);
            }
        }
        let size = record.bytes.len() as u64;
        if record.keep == 0 {
        } else if self.totals.latest_bytes + size > self.max_latest_bytes {
            self.totals.latest_left_out += 1;
        } else {
            self.latest.insert((node, record.kind, id), record.bytes.as_slice())?;
            self.totals.latest_bytes += size;
        }
        Ok(())
    }

    fn expire(&mut self, max_size_bytes: u64) -> Result<u64, redb::Error> {
        let mut expired = 0;
        while self.totals.size_bytes > max_size_bytes {
            let Some((_, stored)) = self.records.pop_first()? else { break };
            self.totals.size_bytes = self.totals.size_bytes.saturating_sub(cost(stored.value()));
            expired += 1;
        }
        self.totals.records = self.totals.records.saturating_sub(expired);
        self.totals.expired += expired;
        Ok(expired)
    }
}

/// The file's accounts.
pub(super) fn totals(database: &Database) -> Result<Totals, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    match meta.get(TOTALS)? {
        Some(row) => parse(row.value()),
        None => Err(redb::Error::Corrupted("no totals".to_owned())),
    }
}

/// All streams.
pub(super) fn streams(database: &Database) -> Result<Vec<StreamRow>, redb::Error> {
    let streams = database.begin_read()?.open_table(STREAMS)?;
    streams.iter()?.map(|entry| parse(entry?.1.value())).collect()
}

/// The latest records of `node`.
pub(super) fn latest(database: &Database, node: &str) -> Result<Vec<Latest>, redb::Error> {
    let table = database.begin_read()?.open_table(LATEST)?;
    let mut latest = Vec::new();
    for entry in table.range((node, "", 0)..)? {
        let (key, bytes) = entry?;
        let (owner, kind, _) = key.value();
        if owner != node {
            break;
        }
        latest.push(Latest { kind: kind.to_owned(), bytes: bytes.value().to_vec() });
    }
    Ok(latest)
}

/// Records beyond `after`; one whose checksum is wrong is left out.
pub(super) fn read(
    database: &Database,
    after: u64,
    max_records: usize,
    max_bytes: usize,
) -> Result<Vec<Record>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    for entry in table.range(after.saturating_add(1)..)? {
        let (id, stored) = entry?;
        bytes += stored.value().len();
        if records.len() >= max_records || (bytes > max_bytes && !records.is_empty()) {
            break;
        }
        records.extend(decode(id.value(), stored.value()));
    }
    Ok(records)
}

fn cost(stored: &[u8]) -> u64 {
    stored.len() as u64 + OVERHEAD_BYTES
}

fn encode(id: u64, at_ns: i64, stream: u64, seq: u64, record: &Incoming) -> Vec<u8> {
    // A kind is a word of ours; a longer one would be cut, not mistaken for the record.
    let kind = &record.kind.as_bytes()[..record.kind.len().min(usize::from(u8::MAX))];
    let mut stored = Vec::with_capacity(32 + kind.len() + record.bytes.len());
    stored.extend_from_slice(&[0; 4]);
    stored.extend_from_slice(&at_ns.to_le_bytes());
    stored.extend_from_slice(&stream.to_le_bytes());
    stored.extend_from_slice(&seq.to_le_bytes());
    stored.push(u8::try_from(kind.len()).unwrap_or(u8::MAX));
    stored.extend_from_slice(kind);
    stored.extend_from_slice(&record.bytes);
    let checksum = checksum(&id.to_le_bytes(), &stored[4..]);
    stored[..4].copy_from_slice(&checksum.to_le_bytes());
    stored
}

fn decode(id: u64, stored: &[u8]) -> Option<Record> {
    let (expected, rest) = stored.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*expected) != checksum(&id.to_le_bytes(), rest) {
        return None;
    }
    let (at_ns, rest) = rest.split_first_chunk::<8>()?;
    let (stream, rest) = rest.split_first_chunk::<8>()?;
    let (seq, rest) = rest.split_first_chunk::<8>()?;
    let (&kind_len, rest) = rest.split_first()?;
    let (kind, bytes) = rest.split_at_checked(usize::from(kind_len))?;
    Some(Record {
        id,
        stream: u64::from_le_bytes(*stream),
        seq: u64::from_le_bytes(*seq),
        at_ns: i64::from_le_bytes(*at_ns),
        kind: str::from_utf8(kind).ok()?.to_owned(),
        bytes: bytes.to_vec(),
    })
}
