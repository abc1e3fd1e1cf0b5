//! The spool's redb file. One transaction changes records and ledger together.
//!
//! ```text
//! meta    "ledger" -> Ledger as JSON
//! records seq      -> crc32 (4, LE, over seq and the rest) | at_ns (8, LE) | record
//! ```

use std::ops::Range;

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use uuid::Uuid;

use super::ledger::{DropReason, Ledger};
use super::{Page, PageLimits, Seq};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const RECORDS: TableDefinition<Seq, &[u8]> = TableDefinition::new("records");
const LEDGER: &str = "ledger";

const HEADER_BYTES: usize = 12;

/// What a record costs beside its bytes: header, key, its share of a page. Bounds the number of empty records.
const OVERHEAD_BYTES: u64 = 32;

/// Everything one transaction does.
#[derive(Debug, Default)]
pub(super) struct Change<'a> {
    /// Requests to keep records, in order.
    pub appends: Vec<&'a [Vec<u8>]>,
    /// Delete up to here, confirmed; of this spool id only: numbers of another file mean nothing here.
    pub acknowledge: Vec<Confirmed>,
    /// Delete these, likewise.
    pub lose: Vec<(String, Seq, DropReason)>,
    /// Records that were refused before they came here.
    pub never_kept: Vec<(DropReason, u64)>,
    /// Last record in flight: not dropped by the limit.
    pub in_flight: Seq,
}

/// What a receiver has: everything up to and including `up_to` of the file `spool_id`.
#[derive(Clone, Debug)]
pub(super) struct Confirmed {
    pub spool_id: String,
    pub up_to: Seq,
    pub receiver: String,
}

/// The file after a transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub ledger: Ledger,
    pub oldest_at_ns: Option<i64>,
    /// Numbers of each request of [`Change::appends`].
    pub seqs: Vec<Range<Seq>>,
    /// Records dropped by the limit.
    pub dropped_full: u64,
}

/// Bytes a record counts for.
pub(super) fn cost(stored: &[u8]) -> u64 {
    (stored.len().saturating_sub(HEADER_BYTES)) as u64 + OVERHEAD_BYTES
}

/// Makes the tables of a fresh file and checks the accounts of an old one.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let records = transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        let known = meta.get(LEDGER)?.map(|row| parse(row.value())).transpose()?;
        match known {
            Some(ledger) if ledger.format != Ledger::FORMAT => {
                return Err(redb::Error::Corrupted(format!("format {} is not known", ledger.format)));
            }
            Some(ledger) if !ledger.adds_up() || ledger.spooled != records.len()? => {
                return Err(redb::Error::Corrupted("its accounts do not add up".to_owned()));
            }
            Some(_) => {}
            None => {
                let fresh = Ledger { spool_id: Uuid::new_v4().to_string(), ..Ledger::default() };
                meta.insert(LEDGER, json(&fresh)?.as_slice())?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Does all of `change` in one synced transaction.
pub(super) fn apply(
    database: &Database,
    change: &Change<'_>,
    max_size_bytes: u64,
    now_ns: i64,
) -> Result<Outcome, redb::Error> {
    let mut transaction = database.begin_write()?;
    // Costs a little on each commit; without it, opening after a crash grows with the file.
    transaction.set_quick_repair(true);
    let outcome = fill(&transaction, change, max_size_bytes, now_ns)?;
    transaction.commit()?;
    Ok(outcome)
}

fn fill(
    transaction: &WriteTransaction,
    change: &Change<'_>,
    max_size_bytes: u64,
    now_ns: i64,
) -> Result<Outcome, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let mut records = transaction.open_table(RECORDS)?;
    let mut ledger = match meta.get(LEDGER)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no ledger".to_owned())),
    };
    let here = ledger.spool_id.clone();
    for confirmed in change.acknowledge.iter().filter(|confirmed| confirmed.spool_id == here) {
        let (mut count, mut bytes) = (0, 0);
        records.retain_in(..=confirmed.up_to, |_, stored| {
            count += 1;
            bytes += cost(stored);
            false
        })?;
        ledger.confirm(count, bytes, &confirmed.receiver);
    }
    for &(_, seq, reason) in change.lose.iter().filter(|(spool_id, ..)| *spool_id == here) {
        if let Some(stored) = records.remove(seq)? {
            ledger.lose(reason, 1, cost(stored.value()));
        }
    }
    for &(reason, count) in &change.never_kept {
        ledger.never_kept(reason, count);
    }
    let mut seqs = Vec::with_capacity(change.appends.len());
    let mut stored = Vec::new();
    for request in &change.appends {
        let start = ledger.next_seq;
        for record in *request {
            encode(ledger.next_seq, now_ns, record, &mut stored);
            let seq = ledger.keep(cost(&stored));
            records.insert(seq, stored.as_slice())?;
        }
        seqs.push(start..ledger.next_seq);
    }
    let dropped_full = if ledger.spooled_bytes > max_size_bytes {
        let (mut count, mut bytes) = (0, 0);
        let mut oldest = records.extract_from_if(change.in_flight.saturating_add(1).., |_, _| true)?;
        while ledger.spooled_bytes - bytes > max_size_bytes {
            let Some(entry) = oldest.next() else { break };
            bytes += cost(entry?.1.value());
            count += 1;
        }
        drop(oldest);
        ledger.lose(DropReason::SpoolFull, count, bytes);
        count
    } else {
        0
    };
    meta.insert(LEDGER, json(&ledger)?.as_slice())?;
    let oldest_at_ns = records.first()?.and_then(|(_, stored)| at_ns(stored.value()));
    Ok(Outcome { ledger, oldest_at_ns, seqs, dropped_full })
}

/// The file as it is.
pub(super) fn look(database: &Database) -> Result<Outcome, redb::Error> {
    let transaction = database.begin_read()?;
    let ledger = match transaction.open_table(META)?.get(LEDGER)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no ledger".to_owned())),
    };
    let records = transaction.open_table(RECORDS)?;
    let oldest_at_ns = records.first()?.and_then(|(_, stored)| at_ns(stored.value()));
    Ok(Outcome { ledger, oldest_at_ns, seqs: Vec::new(), dropped_full: 0 })
}

/// Reads a page; the second value is a damaged record right behind `after` or behind the page.
pub(super) fn read(
    database: &Database,
    after: Seq,
    limits: PageLimits,
) -> Result<(Page, Option<Seq>), redb::Error> {
    let transaction = database.begin_read()?;
    let ledger = match transaction.open_table(META)?.get(LEDGER)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no ledger".to_owned())),
    };
    let records = transaction.open_table(RECORDS)?;
    let mut page = Page { spool_id: ledger.spool_id, ..Page::default() };
    let mut bytes = 0;
    for entry in records.range(after.saturating_add(1)..=limits.until.unwrap_or(Seq::MAX))? {
        let (seq, stored) = entry?;
        let seq = seq.value();
        if page.records.is_empty() {
            page.first_seq = seq;
        } else if seq != page.first_seq + page.records.len() as u64
            || page.records.len() >= limits.max_records
        {
            break;
        }
        let Some(record) = decode(seq, stored.value()) else {
            return Ok((page, Some(seq)));
        };
        bytes += record.len();
        if bytes > limits.max_bytes && !page.records.is_empty() {
            break;
        }
        page.records.push(record.to_vec());
    }
    Ok((page, None))
}

fn encode(seq: Seq, now_ns: i64, record: &[u8], stored: &mut Vec<u8>) {
    stored.clear();
    stored.extend_from_slice(&[0; 4]);
    stored.extend_from_slice(&now_ns.to_le_bytes());
    stored.extend_from_slice(record);
    let checksum = checksum(seq, &stored[4..]);
    stored[..4].copy_from_slice(&checksum.to_le_bytes());
}

fn decode(seq: Seq, stored: &[u8]) -> Option<&[u8]> {
    let (expected, rest) = stored.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*expected) == checksum(seq, rest)).then_some(rest.get(8..)?)
}

fn at_ns(stored: &[u8]) -> Option<i64> {
    stored.get(4..12)?.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
}

fn checksum(seq: Seq, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

fn parse(row: &[u8]) -> Result<Ledger, redb::Error> {
    serde_json::from_slice(row).map_err(|error| redb::Error::Corrupted(format!("ledger: {error}")))
}

fn json(ledger: &Ledger) -> Result<Vec<u8>, redb::Error> {
    serde_json::to_vec(ledger).map_err(|error| redb::Error::Corrupted(format!("ledger: {error}")))
}
