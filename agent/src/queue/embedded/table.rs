//! The queue's redb file. One transaction changes all tables together.
//!
//! ```text
//! meta       "queue"                 -> Meta as JSON
//! topics     name                    -> TopicRow as JSON
//! partitions (topic, index)          -> number, tail, head, when the first chunk's last came (least: none)
//! flights    (topic, index, group)   -> number, cursor
//! pending    (flight, offset)        -> when due, ns since the epoch (least: now); ns until then when it was
//!                                       written; deliveries
//! chunks     (partition, first)      -> records, see `chunk`
//! ids_0, ids_1 (topic, id)           -> runs of partition (4) | first offset (8) | records (4), little-endian
//! ```

use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use super::flight::Flight;
use super::ledger::{FlightPlace, Ledger, Partition, RememberedIds, Topic};
use super::{Config, Now};
use crate::disk::row::{json, parse};

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
pub(super) const PARTITIONS: TableDefinition<(&str, u32), (u32, u64, u64, i64)> =
    TableDefinition::new("partitions");
pub(super) const FLIGHTS: TableDefinition<(&str, u32, &str), (u32, u64)> = TableDefinition::new("flights");
pub(super) const PENDING: TableDefinition<(u32, u64), (i64, u64, u32)> = TableDefinition::new("pending");
pub(super) const CHUNKS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("chunks");
pub(super) const IDS: [TableDefinition<(&str, &str), &[u8]>; 2] =
    [TableDefinition::new("ids_0"), TableDefinition::new("ids_1")];

const QUEUE: &str = "queue";

/// The format this build reads and writes.
const FORMAT: u32 = 1;

/// Stands for "none" where a time would be.
pub(super) const NO_TIME: i64 = i64::MIN;

/// The file's own figures.
#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    epoch: u32,
    next_partition: u32,
    next_flight: u32,
    size_bytes: u64,
    ids_current: usize,
    ids_since_ns: i64,
    ids_bytes: [u64; 2],
}

#[derive(Serialize, Deserialize)]
struct TopicRow {
    width: u32,
    groups: std::collections::BTreeSet<String>,
}

/// Makes the tables of a fresh file and checks the format of an old one.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    if let Ok(table) = database.begin_read()?.open_table(META)
        && let Some(row) = table.get(QUEUE)?
    {
        let meta = parse::<Meta>(row.value())?;
        if meta.format != FORMAT {
            return Err(redb::Error::Corrupted(format!("format {} is not known", meta.format)));
        }
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        transaction.open_table(TOPICS)?;
        transaction.open_table(PARTITIONS)?;
        transaction.open_table(FLIGHTS)?;
        transaction.open_table(PENDING)?;
        transaction.open_table(CHUNKS)?;
        transaction.open_table(IDS[0])?;
        transaction.open_table(IDS[1])?;
        let mut meta = transaction.open_table(META)?;
        let epoch = uuid::Uuid::new_v4().as_fields().0;
        write_meta(&mut meta, &Ledger { epoch, ..Ledger::default() })?;
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn write_meta(
    meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
    ledger: &Ledger,
) -> Result<(), redb::Error> {
    let row = Meta {
        format: FORMAT,
        epoch: ledger.epoch,
        next_partition: ledger.next_partition,
        next_flight: ledger.next_flight,
        size_bytes: ledger.size_bytes,
        ids_current: ledger.ids.current,
        ids_since_ns: ledger.ids.since_ns,
        ids_bytes: ledger.ids.bytes,
    };
    meta.insert(QUEUE, json(&row)?.as_slice())?;
    Ok(())
}

pub(super) fn topic_row(topic: &Topic) -> Result<Vec<u8>, redb::Error> {
    json(&TopicRow { width: topic.width, groups: topic.groups.clone() })
}

/// What the file says, without looking at a single record.
pub(super) fn load(database: &Database, now: Now) -> Result<Ledger, redb::Error> {
    let transaction = database.begin_read()?;
    let meta: Meta = match transaction.open_table(META)?.get(QUEUE)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no figures".to_owned())),
    };
    let ids = RememberedIds {
        current: meta.ids_current % IDS.len(),
        since_ns: meta.ids_since_ns,
        bytes: meta.ids_bytes,
    };
    let mut ledger = Ledger {
        epoch: meta.epoch,
        size_bytes: meta.size_bytes,
        next_partition: meta.next_partition,
        next_flight: meta.next_flight,
        ids,
        ..Ledger::default()
    };
    for entry in transaction.open_table(TOPICS)?.iter()? {
        let (name, row) = entry?;
        let TopicRow { width, groups } = parse(row.value())?;
        let topic = Topic { width, groups, ..Topic::default() };
        ledger.topics.insert(name.value().to_owned(), topic);
    }
    for entry in transaction.open_table(PARTITIONS)?.iter()? {
        let (key, row) = entry?;
        let ((topic, index), (number, tail, head, tail_at_ns)) = (key.value(), row.value());
        let known = ledger.topics.get_mut(topic).filter(|_| tail <= head && number < meta.next_partition);
        let topic = known.ok_or_else(|| senseless("partition"))?;
        let tail_at_ns = (tail_at_ns != NO_TIME).then_some(tail_at_ns);
        let partition = Partition { number, tail, head, tail_at_ns, ..Partition::default() };
        topic.partitions.insert(index, partition);
    }
    for entry in transaction.open_table(FLIGHTS)?.iter()? {
        let (key, row) = entry?;
        let ((topic, index, group), (number, cursor)) = (key.value(), row.value());
        let known = ledger.partition_mut(topic, index).filter(|partition| cursor <= partition.head);
        let partition = known.ok_or_else(|| senseless("flight"))?;
        let cursor = cursor.max(partition.tail);
        partition.flights.insert(group.to_owned(), Flight::new(number, cursor));
        let place = FlightPlace { topic: topic.to_owned(), partition: index, group: group.to_owned() };
        if ledger.places.insert(number, place).is_some() {
            return Err(senseless("flight"));
        }
    }
    let pending = transaction.open_table(PENDING)?;
    for entry in pending.iter()? {
        let (key, row) = entry?;
        let ((number, offset), (due_ns, left_ns, deliveries)) = (key.value(), row.value());
        let place = ledger.places.get(&number).cloned().ok_or_else(|| senseless("pending"))?;
        let flight = ledger.flight_mut(&place.topic, place.partition, &place.group);
        let (flight, due) = flight.ok_or_else(|| senseless("pending"))?;
        if offset >= flight.cursor {
            return Err(senseless("pending"));
        }
        let at = (due_ns != NO_TIME).then(|| now.mono + left(due_ns, left_ns, now));
        flight.restore(due, offset, deliveries, at);
    }
    Ok(ledger)
}

/// Whatever was done to the clock meanwhile: no longer than when it was written.
fn left(due_ns: i64, left_ns: u64, now: Now) -> Duration {
    let left = u64::try_from(due_ns.saturating_sub(now.wall_ns)).unwrap_or(0);
    Duration::from_nanos(left.min(left_ns)).min(Config::MAX_EXTENSION)
}

fn senseless(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("a row of {what} makes no sense"))
}
