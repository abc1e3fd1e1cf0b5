//! Nodes' records, in the order in which they were stored.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::cursor::Cursor;
use super::{Metrics, PAUSE};
use crate::api::record;
use crate::domain::series::SeriesSamples;
use crate::receiver::fleet::POSTED;
use crate::receiver::measured::measured;
use crate::series::{Brought, Series};
use crate::store::{Record, Status, Store};

/// Records read at once, and their bytes: enough to share a commit's sync. With their labels their samples take several
/// times that in memory, and once more while they are handed over.
const PAGE_RECORDS: usize = 128;
const PAGE_BYTES: usize = 256 << 10;

/// Between two notes of how far it went: after a crash a second's records are read again.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct Nodes {
    store: Store,
    series: Series,
    metrics: Metrics,
    cursor: Cursor,
    done: u64,
    noted: (u64, Instant),
    /// Which node a stream is of.
    streams: HashMap<u64, String>,
}

impl Nodes {
    /// Goes on where the note in `directory` says.
    pub fn new(store: Store, series: Series, metrics: Metrics, directory: &Path) -> Self {
        let cursor = Cursor::new(directory);
        let done = cursor.load();
        let noted = (done, Instant::now());
        Self { store, series, metrics, cursor, done, noted, streams: HashMap::new() }
    }

    /// Reads what is there and what comes, until the token is cancelled; then notes how far it went.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut status = self.store.status();
        while !stop.is_cancelled() {
            status.mark_unchanged();
            let read = tokio::select! {
                () = stop.cancelled() => break,
                read = self.page() => read,
            };
            match read {
                Ok(0) if self.began_anew(&status) => {}
                Ok(0) => {
                    self.note(Duration::ZERO);
                    tokio::select! {
                        () = stop.cancelled() => break,
                        changed = status.changed() => if changed.is_err() { break },
                    }
                }
                Ok(_) => self.note(NOTE_EVERY),
                Err(words) => {
                    warn!("nodes' records do not become series: {words}");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(PAUSE) => {}
                    }
                }
            }
        }
        self.note(Duration::ZERO);
    }

    /// A store that began anew, for damage, has lower numbers than what was read: it is read from its beginning, and its
    /// streams are others.
    fn began_anew(&mut self, status: &watch::Receiver<Status>) -> bool {
        let anew = self.done >= status.borrow().totals.next_id;
        if anew {
            warn!(
                read_to = self.done,
                "the store of nodes' records began anew: it is read from its beginning"
            );
            self.done = 0;
            self.streams.clear();
        }
        anew
    }

    /// Reads a page; how many records it had.
    async fn page(&mut self) -> Result<usize, String> {
        let read = self.store.read(self.done, PAGE_RECORDS, PAGE_BYTES).await;
        let records = read.map_err(|cause| cause.to_string())?;
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(0) };
        if self.done > 0 {
            self.metrics.skipped.inc_by(first.id.saturating_sub(self.done + 1));
        }
        let (end, count) = (last.id, records.len());
        self.know(&records).await?;
        let streams = std::mem::take(&mut self.streams);
        // Megabytes of JSON take tens of milliseconds.
        let converting = tokio::task::spawn_blocking(move || (convert(records, &streams), streams));
        let ((brought, unfit), streams) = converting.await.map_err(|cause| cause.to_string())?;
        self.streams = streams;
        let samples = super::store(&self.series, brought).await.ok_or("the store of series is closed")?;
        self.metrics.samples.inc_by(samples);
        self.metrics.left_out(Metrics::LABELS, unfit);
        self.metrics.records.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        self.done = end;
        Ok(count)
    }

    /// Asks which nodes the streams are of, if there is a new one.
    async fn know(&mut self, records: &[Record]) -> Result<(), String> {
        if records.iter().all(|record| self.streams.contains_key(&record.stream)) {
            return Ok(());
        }
        let rows = self.store.streams().await.map_err(|cause| cause.to_string())?;
        self.streams = rows.into_iter().map(|row| (row.number, row.node)).collect();
        Ok(())
    }

    fn note(&mut self, every: Duration) {
        let (noted, at) = self.noted;
        if noted == self.done || at.elapsed() < every {
            return;
        }
        // A few bytes; a disk that does not take them says so elsewhere.
        match self.cursor.store(self.done) {
            Ok(()) => self.noted = (self.done, Instant::now()),
            Err(cause) => warn!(%cause, "cannot note how far nodes' records were read"),
        }
    }
}

/// What each node brought, and how many values have labels that are none. A record that cannot be read was checked when it
/// came: it is of a version that is gone, and has nothing to say here.
fn convert(records: Vec<Record>, streams: &HashMap<u64, String>) -> (Vec<Brought>, u64) {
    let mut nodes: BTreeMap<&str, Vec<SeriesSamples>> = BTreeMap::new();
    let mut unfit = 0;
    for stored in records {
        let node = streams.get(&stored.stream).map_or("", |node| node.strip_prefix(POSTED).unwrap_or(node));
        let Ok(record) = serde_json::from_slice::<record::Record>(&stored.bytes) else { continue };
        let (series, wrong) = measured(node, &record);
        unfit += wrong;
        nodes.entry(node).or_default().extend(series);
    }
    let brought = nodes.into_iter().map(|(node, series)| Brought { source: node.into(), series });
    (brought.collect(), unfit)
}
