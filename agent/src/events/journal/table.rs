//! The journal's redb file. One transaction changes all tables together.
//!
//! ```text
//! meta     name    -> number: format, next_seq, accepted, uncounted, forwarded
//! events   seq     -> ts_ms (8, LE) | bits of the value (8, LE) | length of the id (2, LE) | id | series
//! history  seq     -> the same, of events past the window
//! counts   series  -> events past the window
//! scrapers key     -> progress
//! verified name    -> server, numbers and events of the last answers, progress: `verified::state` has the format
//! ```
//!
//! `accepted`, `uncounted` and `counts` are sums of what is past the window: what is in it counts itself. Opening verifies
//! every page's checksum, and the repair after a crash walks a file that the window bounds: so commits are redb's
//! one-phase ones, which cost one sync.

use redb::{
    Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::history::{Query, Told};
use super::{Row, Table};
use crate::events::Config;
use crate::events::progress::Progress;
use crate::events::window::{Event, Seq, Totals, Window};

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const EVENTS: TableDefinition<Seq, &[u8]> = TableDefinition::new("events");
const HISTORY: TableDefinition<Seq, &[u8]> = TableDefinition::new("history");
const COUNTS: TableDefinition<&str, u64> = TableDefinition::new("counts");
const SCRAPERS: TableDefinition<&str, &[u8]> = TableDefinition::new("scrapers");
const VERIFIED: TableDefinition<&str, &[u8]> = TableDefinition::new("verified");

/// The format this build reads and writes.
const FORMAT: u64 = 1;

/// Rows of the history that one question looks at: some 50 ms.
const MAX_LOOKED_AT: usize = 100_000;

/// Everything one transaction does.
#[derive(Debug, Default)]
pub(in crate::events) struct Change<'a> {
    /// Rows from here on are of transactions that failed: they were never acknowledged.
    pub(in crate::events) void_from: Seq,
    /// Events from `first` on.
    pub(in crate::events) first: Seq,
    pub(in crate::events) events: Vec<&'a Event>,
    /// Those before go from the window into the history, with what is counted of them.
    pub(in crate::events) expired: Vec<(Seq, &'a Event, bool)>,
    /// How many the history keeps.
    pub(in crate::events) max_history: u64,
    /// Of scrapers; a later one of the same key counts.
    pub(in crate::events) rows: Vec<&'a Row>,
    pub(in crate::events) forwarded: Option<Seq>,
    /// For a fresh file in the place of a damaged one: what the process knows.
    pub(in crate::events) totals: Option<(&'a Totals, &'a Window)>,
}

/// What a file had.
pub(in crate::events) struct Loaded {
    pub(in crate::events) window: Window,
    pub(in crate::events) scrapers: Vec<(String, Progress)>,
    pub(in crate::events) verified: Vec<Row>,
}

/// Makes the tables of a fresh file and checks the format of an old one.
pub(in crate::events) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let format = meta.get("format")?.map(|row| row.value());
        match format {
            Some(FORMAT) => {}
            Some(other) => return Err(corrupted(format!("format {other} is not known"))),
            None => _ = meta.insert("format", FORMAT)?,
        }
        transaction.open_table(EVENTS)?;
        transaction.open_table(HISTORY)?;
        transaction.open_table(COUNTS)?;
        transaction.open_table(SCRAPERS)?;
        transaction.open_table(VERIFIED)?;
    }
    transaction.commit()?;
    Ok(())
}

/// What is in the file.
pub(in crate::events) fn load(database: &Database, config: &Config) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = transaction.open_table(META)?;
    let number = |name: &str| meta.get(name).map(|row| row.map_or(0, |row| row.value()));
    let mut totals =
        Totals { accepted: number("accepted")?, uncounted: number("uncounted")?, ..Totals::default() };
    for row in transaction.open_table(COUNTS)?.iter()? {
        let (series, count) = row?;
        if totals.series.len() < config.max_counted_series {
            totals.series.insert(series.value().into(), count.value());
        } else {
            totals.uncounted = totals.uncounted.saturating_add(count.value());
        }
    }
    let events = transaction.open_table(EVENTS)?;
    let first = match events.first()? {
        Some((seq, _)) => seq.value(),
        None => number("next_seq")?.max(1),
    };
    let mut window = Window::new(first, totals, config.max_counted_series);
    window.forwarded = number("forwarded")?.clamp(first, Seq::MAX);
    for row in events.iter()? {
        let (seq, stored) = row?;
        let event = decode(stored.value()).filter(|_| seq.value() == window.end());
        window.push(event.ok_or_else(|| corrupted(format!("event {} makes no sense", seq.value())))?);
    }
    let mut scrapers = Vec::new();
    for row in transaction.open_table(SCRAPERS)?.iter()? {
        let (key, progress) = row?;
        let progress = Progress::from_bytes(progress.value());
        scrapers.push((key.value().to_owned(), progress.ok_or_else(|| corrupted("a scraper".to_owned()))?));
    }
    let mut verified = Vec::new();
    for row in transaction.open_table(VERIFIED)?.iter()? {
        let (key, bytes) = row?;
        let (key, bytes) = (key.value().to_owned(), bytes.value().to_vec());
        verified.push(Row { table: Table::Verified, key, bytes });
    }
    Ok(Loaded { window, scrapers, verified })
}

/// Does all of `change` in one synced transaction.
pub(in crate::events) fn apply(database: &Database, change: &Change<'_>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    fill(&transaction, change)?;
    transaction.commit()?;
    Ok(())
}

fn fill(transaction: &WriteTransaction, change: &Change<'_>) -> Result<(), redb::Error> {
    let mut stored = Vec::new();
    {
        let mut events = transaction.open_table(EVENTS)?;
        if change.void_from > 0 {
            events.retain_in(change.void_from.., |_, _| false)?;
        }
        for (seq, event) in (change.first..).zip(&change.events) {
            encode(event, &mut stored);
            events.insert(seq, stored.as_slice())?;
        }
        for (seq, ..) in &change.expired {
            events.remove(seq)?;
        }
    }
    for row in &change.rows {
        let table = match row.table {
            Table::Scrapers => SCRAPERS,
            Table::Verified => VERIFIED,
        };
        transaction.open_table(table)?.insert(&*row.key, &*row.bytes)?;
    }
    if let Some(seq) = change.forwarded {
        transaction.open_table(META)?.insert("forwarded", seq)?;
    }
    if let Some((totals, window)) = change.totals {
        restate(transaction, totals, window)?;
    }
    if let Some((last, ..)) = change.expired.last() {
        expire(transaction, change, last + 1)?;
    }
    Ok(())
}

/// Into the history, and into the sums.
fn expire(transaction: &WriteTransaction, change: &Change<'_>, next: Seq) -> Result<(), redb::Error> {
    let mut history = transaction.open_table(HISTORY)?;
    let mut counts = transaction.open_table(COUNTS)?;
    let (mut stored, mut uncounted) = (Vec::new(), 0);
    for (seq, event, is_counted) in &change.expired {
        if change.max_history > 0 {
            encode(event, &mut stored);
            history.insert(seq, stored.as_slice())?;
        }
        if *is_counted {
            let before = counts.get(&*event.series)?.map_or(0, |row| row.value());
            counts.insert(&*event.series, before + 1)?;
        } else {
            uncounted += 1;
        }
    }
    while history.len()? > change.max_history {
        history.pop_first()?;
    }
    let mut meta = transaction.open_table(META)?;
    for (name, more) in [("accepted", change.expired.len() as u64), ("uncounted", uncounted)] {
        let before = meta.get(name)?.map_or(0, |row| row.value());
        meta.insert(name, before + more)?;
    }
    meta.insert("next_seq", next)?;
    Ok(())
}

/// The sums of what is past the window, from those of all.
fn restate(transaction: &WriteTransaction, totals: &Totals, window: &Window) -> Result<(), redb::Error> {
    let mut past = totals.clone();
    for (_, event) in window.range(0, Seq::MAX) {
        past.accepted = past.accepted.saturating_sub(1);
        match past.series.get_mut(&event.series) {
            Some(count) => *count = count.saturating_sub(1),
            None => past.uncounted = past.uncounted.saturating_sub(1),
        }
    }
    let mut meta = transaction.open_table(META)?;
    // Where the window is empty nothing else says where it goes on.
    let numbers = [
        ("next_seq", window.first()),
        ("accepted", past.accepted),
        ("uncounted", past.uncounted),
        ("forwarded", window.forwarded),
    ];
    for (name, number) in numbers {
        meta.insert(name, number)?;
    }
    let mut counts = transaction.open_table(COUNTS)?;
    for (series, count) in past.series.iter().filter(|(_, count)| **count > 0) {
        counts.insert(&**series, *count)?;
    }
    Ok(())
}

/// Events past the window, newest first.
pub(in crate::events) fn history(database: &Database, query: &Query) -> Result<Vec<Told>, redb::Error> {
    let transaction = database.begin_read()?;
    let mut found = Vec::new();
    for row in transaction.open_table(HISTORY)?.iter()?.rev().take(MAX_LOOKED_AT) {
        let (seq, stored) = row?;
        let event = decode(stored.value());
        let event = event.ok_or_else(|| corrupted(format!("event {} makes no sense", seq.value())))?;
        if found.len() >= query.limit {
            break;
        }
        found.extend(query.matches(&event));
    }
    Ok(found)
}

fn encode(event: &Event, out: &mut Vec<u8>) {
    let id = event.id.as_deref().unwrap_or_default();
    out.clear();
    out.extend_from_slice(&event.ts_ms.to_le_bytes());
    out.extend_from_slice(&event.value.to_bits().to_le_bytes());
    // An id's length is checked when it comes.
    out.extend_from_slice(&u16::try_from(id.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(event.series.as_bytes());
}

fn decode(stored: &[u8]) -> Option<Event> {
    let (ts_ms, rest) = stored.split_first_chunk::<8>()?;
    let (value, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (id, series) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some(Event {
        ts_ms: i64::from_le_bytes(*ts_ms),
        value: f64::from_bits(u64::from_le_bytes(*value)),
        series: text(series)?.into(),
        id: if id.is_empty() { None } else { Some(text(id)?.into()) },
    })
}

fn corrupted(words: String) -> redb::Error {
    redb::Error::Corrupted(words)
}
