//! A day's redb file. One transaction does all of a commit.
//!
//! ```text
//! meta    "totals"                -> Totals as JSON
//! series  number                  -> crc32 (4, LE, over the number and the rest) | SeriesRow as JSON
//! chunks  (number, first ms)      -> chunk ([`super::chunk`])
//! tails   commit                  -> tail ([`super::chunk`])
//! ```
//!
//! A sample comes into a tail first, as part of its commit; later it goes into its series' last chunk, until that fills a
//! page. A tail stays until all its samples are in chunks: after a crash some are in both, which is one sample.

use std::borrow::Cow;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::chunk::{self, MAX_BYTES, MAX_SAMPLES, Row};
use crate::disk::row::{self, json, parse};
use crate::domain::series::{Labels, Range, Sample};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const SERIES: TableDefinition<u32, &[u8]> = TableDefinition::new("series");
const CHUNKS: TableDefinition<(u32, i64), &[u8]> = TableDefinition::new("chunks");
const TAILS: TableDefinition<u64, &[u8]> = TableDefinition::new("tails");
const TOTALS: &str = "totals";

/// The format this build reads and writes.
const FORMAT: u32 = 1;

/// A chunk smaller than this takes more samples.
const OPEN_BYTES: usize = MAX_BYTES * 7 / 8;

/// A day's accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    format: u32,
    /// Samples that were accepted, those included that were there already.
    pub(super) accepted: u64,
    /// Samples in chunks, each time of a series once.
    pub(super) in_chunks: u64,
    next_tail: u64,
}

impl Default for Totals {
    fn default() -> Self {
        Self { format: FORMAT, accepted: 0, in_chunks: 0, next_tail: 1 }
    }
}

impl Totals {
    /// The number of the last tail.
    pub(super) const fn last_tail(&self) -> u64 {
        self.next_tail.saturating_sub(1)
    }
}

#[derive(Serialize, Deserialize)]
struct SeriesRow<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
    labels: Vec<(String, String)>,
}

/// What a file holds that memory needs.
pub(super) struct Loaded {
    pub(super) totals: Totals,
    /// By number: labels, who brought it, and when its last sample in a chunk is.
    pub(super) series: Vec<(Labels, String, i64)>,
    /// Samples of all tails, in the order of their commits.
    pub(super) rows: Vec<Row>,
    /// Tails that cannot be read.
    pub(super) damaged: u64,
}

/// What one transaction does.
pub(super) struct Commit<'a> {
    /// New series and who brought them, numbers ascending.
    pub(super) series: Vec<(u32, Labels, &'a str)>,
    /// New samples, ascending by series and time.
    pub(super) rows: &'a [Row],
    /// How many were accepted for them: a time that came twice is one row.
    pub(super) accepted: u64,
    /// Samples that go into chunks, ascending.
    pub(super) seal: &'a [(u32, Vec<Sample>)],
    /// Everything in tails up to this one is in chunks.
    pub(super) sealed_up_to: Option<u64>,
    /// Whether opening after a crash has to be quick at the cost of a second sync.
    pub(super) quick_repair: bool,
}

/// What it did.
pub(super) struct Committed {
    pub(super) totals: Totals,
    /// Chunks that could not be read, and were left out.
    pub(super) damaged: u64,
}

/// Makes the tables of a fresh file, and checks that this build knows the format of an old one.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(SERIES)?;
        transaction.open_table(CHUNKS)?;
        transaction.open_table(TAILS)?;
        let mut meta = transaction.open_table(META)?;
        let known = meta.get(TOTALS)?.map(|row| parse::<Totals>(row.value())).transpose()?;
        match known {
            Some(totals) if totals.format != FORMAT => {
                return Err(redb::Error::Corrupted(format!("format {} is not known", totals.format)));
            }
            Some(_) => {}
            None => drop(meta.insert(TOTALS, json(&Totals::default())?.as_slice())?),
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Reads what memory needs.
pub(super) fn load(database: &Database) -> Result<Loaded, redb::Error> {
    let transaction = database.begin_read()?;
    let totals = match transaction.open_table(META)?.get(TOTALS)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no totals".to_owned())),
    };
    let (mut series, chunks) = (Vec::new(), transaction.open_table(CHUNKS)?);
    for (at, entry) in transaction.open_table(SERIES)?.iter()?.enumerate() {
        let (number, row) = entry?;
        let damaged = || redb::Error::Corrupted(format!("series {at} is damaged"));
        let row = row::checked(&number.value().to_le_bytes(), row.value()).ok_or_else(damaged)?;
        let row: SeriesRow<'_> = parse(row)?;
        let labels = Labels::from_pairs(row.labels).map_err(|_| damaged())?;
        // Chunks name series by number: one that is missing would shift all behind it.
        if usize::try_from(number.value()) != Ok(at) {
            return Err(damaged());
        }
        let of_series = (number.value(), i64::MIN)..=(number.value(), i64::MAX);
        let last = chunks.range(of_series)?.next_back().transpose()?;
        let last_ms = last.and_then(|(_, stored)| chunk::last_ms(stored.value())).unwrap_or(i64::MIN);
        series.push((labels, row.source.into_owned(), last_ms));
    }
    let (mut rows, mut damaged) = (Vec::new(), 0);
    for entry in transaction.open_table(TAILS)?.iter()? {
        let (key, tail) = entry?;
        match chunk::decode_tail(key.value(), tail.value()) {
            Some(tail) => rows.extend(tail),
            None => damaged += 1,
        }
    }
    Ok(Loaded { totals, series, rows, damaged })
}

/// Does it all, synced, or nothing.
pub(super) fn commit(database: &Database, commit: &Commit<'_>) -> Result<Committed, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(commit.quick_repair);
    let committed = fill(&transaction, commit)?;
    transaction.commit()?;
    Ok(committed)
}

fn fill(transaction: &WriteTransaction, commit: &Commit<'_>) -> Result<Committed, redb::Error> {
    let mut meta = transaction.open_table(META)?;
    let mut totals: Totals = match meta.get(TOTALS)? {
        Some(row) => parse(row.value())?,
        None => return Err(redb::Error::Corrupted("no totals".to_owned())),
    };
    let mut series = transaction.open_table(SERIES)?;
    for (number, labels, source) in &commit.series {
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let row = SeriesRow { source: Cow::Borrowed(source), labels };
        series.insert(number, row::sealed(&number.to_le_bytes(), &json(&row)?).as_slice())?;
    }
    let mut tails = transaction.open_table(TAILS)?;
    if !commit.rows.is_empty() {
        let tail = chunk::encode_tail(totals.next_tail, commit.rows).map_err(|cause| packing(&cause))?;
        tails.insert(totals.next_tail, tail.as_slice())?;
        totals.next_tail += 1;
        totals.accepted += commit.accepted;
    }
    let mut chunks = transaction.open_table(CHUNKS)?;
    let mut damaged = 0;
    for (number, samples) in commit.seal {
        let sealed = seal(&mut chunks, *number, samples)?;
        totals.in_chunks = totals.in_chunks.saturating_add_signed(sealed.gained);
        damaged += sealed.damaged;
    }
    if let Some(last) = commit.sealed_up_to {
        tails.retain_in(..=last, |_, _| false)?;
    }
    meta.insert(TOTALS, json(&totals)?.as_slice())?;
    Ok(Committed { totals, damaged })
}

struct Sealed {
    gained: i64,
    damaged: u64,
}

/// Merges samples into the chunks they overlap, and into the one before them as long as that is open.
fn seal(
    chunks: &mut Table<'_, (u32, i64), &[u8]>,
    number: u32,
    samples: &[Sample],
) -> Result<Sealed, redb::Error> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Ok(Sealed { gained: 0, damaged: 0 });
    };
    let mut touched = Vec::new();
    let mut old = Vec::new();
    let (mut damaged, mut lost) = (0, 0_i64);
    let mut take = |first_ms: i64, stored: &[u8]| {
        touched.push(first_ms);
        match chunk::decode(number, first_ms, stored) {
            Some(known) => old.extend(known),
            None => {
                damaged += 1;
                lost += i64::try_from(chunk::count(stored).unwrap_or(0).min(MAX_SAMPLES)).unwrap_or(0);
            }
        }
    };
    if let Some(before) = chunks.range((number, i64::MIN)..(number, first.at_ms))?.next_back() {
        let (key, stored) = before?;
        let stored = stored.value();
        let overlaps = chunk::last_ms(stored).is_none_or(|last_ms| last_ms >= first.at_ms);
        let open = stored.len() < OPEN_BYTES && chunk::count(stored).is_none_or(|count| count < MAX_SAMPLES);
        if overlaps || open {
            take(key.value().1, stored);
        }
    }
    for entry in chunks.range((number, first.at_ms)..=(number, last.at_ms))? {
        let (key, stored) = entry?;
        take(key.value().1, stored.value());
    }
    for first_ms in touched {
        chunks.remove((number, first_ms))?;
    }
    let gained = i64::try_from(old.len()).unwrap_or(0);
    let merged = merge(old, samples);
    let gained = i64::try_from(merged.len()).unwrap_or(i64::MAX) - gained - lost;
    let mut rest = merged.as_slice();
    while let Some(start) = rest.first() {
        let (bytes, count) = fitting(number, rest).map_err(|cause| packing(&cause))?;
        chunks.insert((number, start.at_ms), bytes.as_slice())?;
        rest = rest.get(count..).unwrap_or_default();
    }
    Ok(Sealed { gained, damaged })
}

/// The first of the samples as a chunk that fits its page, and how many they are.
fn fitting(number: u32, samples: &[Sample]) -> Result<(Vec<u8>, usize), pco::errors::PcoError> {
    let mut count = samples.len().min(MAX_SAMPLES);
    loop {
        let bytes = chunk::encode(number, samples.get(..count).unwrap_or_default())?;
        // A few samples are small whatever they are.
        if bytes.len() <= MAX_BYTES || count <= 128 {
            return Ok((bytes, count));
        }
        // A little less than what would just fit if all were alike.
        count = (count * (MAX_BYTES - MAX_BYTES / 32) / bytes.len()).clamp(128, count - 1);
    }
}

/// Both, ascending; of one time, the new.
fn merge(old: Vec<Sample>, new: &[Sample]) -> Vec<Sample> {
    if old.last().zip(new.first()).is_none_or(|(old, new)| old.at_ms < new.at_ms) {
        let mut old = old;
        old.extend_from_slice(new);
        return old;
    }
    let mut all = Vec::with_capacity(old.len() + new.len());
    let (mut old, mut new) = (old.into_iter().peekable(), new.iter().copied().peekable());
    loop {
        let next = match (old.peek(), new.peek()) {
            (Some(one), Some(other)) if one.at_ms < other.at_ms => old.next(),
            (Some(one), Some(other)) => {
                if one.at_ms == other.at_ms {
                    old.next();
                }
                new.next()
            }
            (Some(_), None) => old.next(),
            (None, _) => new.next(),
        };
        match next {
            Some(sample) => all.push(sample),
            None => return all,
        }
    }
}

/// A series' chunks within a range, each decoded in turn; one that is damaged is left out, and counted.
pub(super) fn read(
    transaction: &ReadTransaction,
    number: u32,
    range: Range,
    mut take: impl FnMut(Vec<Sample>),
) -> Result<u64, redb::Error> {
    let chunks = transaction.open_table(CHUNKS)?;
    let mut damaged = 0;
    let mut see = |first_ms, stored: &[u8]| {
        if chunk::last_ms(stored).is_some_and(|last_ms| last_ms < range.from_ms) {
            return;
        }
        match chunk::decode(number, first_ms, stored) {
            Some(samples) => take(samples),
            None => damaged += 1,
        }
    };
    if let Some(before) = chunks.range((number, i64::MIN)..(number, range.from_ms))?.next_back() {
        let (key, stored) = before?;
        see(key.value().1, stored.value());
    }
    for entry in chunks.range((number, range.from_ms)..=(number, range.to_ms))? {
        let (key, stored) = entry?;
        see(key.value().1, stored.value());
    }
    Ok(damaged)
}

fn packing(cause: &pco::errors::PcoError) -> redb::Error {
    redb::Error::Io(std::io::Error::other(format!("cannot pack samples: {cause}")))
}
