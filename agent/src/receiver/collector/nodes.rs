//! Nodes' records, in the order in which they were stored.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Metrics;
use super::cursor::Cursor;
use crate::api::record;
use crate::domain::series::SeriesSamples;
use crate::receiver::fleet::POSTED;
use crate::receiver::measured::measured;
use crate::series::{Error, Series};
use crate::store::{Record, Status, Store};

/// Records read at once, and their bytes: some hundred thousand samples.
const PAGE_RECORDS: usize = 500;
const PAGE_BYTES: usize = 8 << 20;

/// Between two notes of how far it went: after a crash a second's records are read again.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// After a failure of a disk.
const PAUSE: Duration = Duration::from_secs(1);

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
        self.begin(&status);
        while !stop.is_cancelled() {
            status.mark_unchanged();
            let read = tokio::select! {
                () = stop.cancelled() => break,
                read = self.page() => read,
            };
            match read {
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

    /// A store that began anew has lower numbers than the note.
    fn begin(&mut self, status: &watch::Receiver<Status>) {
        let next = status.borrow().totals.next_id;
        if self.done >= next {
            self.done = 0;
        }
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
        let ((by_node, unfit), streams) = converting.await.map_err(|cause| cause.to_string())?;
        self.streams = streams;
        for (node, series) in by_node {
            self.append(&node, series).await?;
        }
        self.metrics.left_out(Metrics::LABELS, unfit);
        self.metrics.records.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        self.done = end;
        Ok(count)
    }

    async fn append(&self, node: &str, series: Vec<SeriesSamples>) -> Result<(), String> {
        let samples: usize = series.iter().map(|series| series.samples.len()).sum();
        loop {
            match self.series.append(node, series.clone()).await {
                Ok(_) => {
                    self.metrics.samples.inc_by(u64::try_from(samples).unwrap_or(u64::MAX));
                    return Ok(());
                }
                Err(Error::Busy) => sleep(Duration::from_millis(20)).await,
                Err(cause) => return Err(cause.to_string()),
            }
        }
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

/// Samples by node, and values with labels that are none. A record that cannot be read was checked when it came: it is of a
/// version that is gone, and has nothing to say here.
fn convert(
    records: Vec<Record>,
    streams: &HashMap<u64, String>,
) -> (HashMap<String, Vec<SeriesSamples>>, u64) {
    let mut by_node: HashMap<String, Vec<SeriesSamples>> = HashMap::new();
    let mut unfit = 0;
    for stored in records {
        let node = streams.get(&stored.stream).map_or("", |node| node.strip_prefix(POSTED).unwrap_or(node));
        let Ok(record) = serde_json::from_slice::<record::Record>(&stored.bytes) else { continue };
        let (series, wrong) = measured(node, &record);
        unfit += wrong;
        by_node.entry(node.to_owned()).or_default().extend(series);
    }
    (by_node, unfit)
}
