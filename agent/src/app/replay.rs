//! `sextant replay`: samples from a file into a receiver's queue, as the reference stack's streamer puts them there.
//!
//! The file is read twice: once for its rows and their times, then to send them. What is sent goes in batches, each under
//! an id of its own and one after the other, so that rows keep their order and a batch that is sent again is not kept
//! again, as long as the queue remembers its id (`dedup_window_ms`). `rows = sent + quarantined + blank + unsent` at every end.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep_until};

use self::account::Account;
use self::pace::{Pace, Span};
use self::post::{Batch, Poster};
use self::progress::Progress;
use self::quarantine::Quarantine;
use super::{signals, wall_ns};
use crate::api::telemetry::{Queued, TelemetryRecord};
use crate::api::time::rfc3339;
use crate::cli::replay::ReplayArgs;
use crate::sources::gpu::csv::{Item, Reader, Row};

mod account;
mod pace;
mod post;
mod progress;
mod quarantine;

/// Reads from the file at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Runs it, and prints the accounts.
///
/// # Errors
/// A file that cannot be read or is none of this kind, a receiver that will never take it.
pub async fn run(args: &ReplayArgs, key: Option<String>) -> Result<ExitCode> {
    let span = survey(&args.file).with_context(|| args.file.display().to_string())?;
    ensure!(span.lines > 0, "{}: no row", args.file.display());
    let quarantine = args.quarantine.clone().unwrap_or_else(|| beside(&args.file));
    let mut replay = Replay {
        poster: Poster::new(args, key)?,
        account: Account::default(),
        quarantine: Quarantine::new(quarantine),
        progress: Progress::new((!args.again).then_some(span.lines)),
        batch: Batch::default(),
        pace: Pace::new(args.rate, args.keep_time, span, Instant::now(), wall_ns()),
        read: 0,
    };
    let started = Instant::now();
    let mut stop = signals::Signals::install();
    let ended = tokio::select! {
        ended = replay.passes(args) => Some(ended),
        _ = stop.next() => None,
    };
    let Replay { mut account, quarantine, progress, read, .. } = replay;
    let quarantine = quarantine.close();
    progress.finish();
    account.close(read, started.elapsed(), quarantine.as_ref().ok().cloned().flatten());
    let text = if args.json { account.json()? } else { account.text() };
    std::io::stdout().write_all(text.as_bytes())?;
    quarantine?;
    match ended {
        Some(Err(error)) => Err(error),
        Some(Ok(())) if account.sent() == 0 => bail!("no row of {} could be sent", args.file.display()),
        // Nothing else ends a loop.
        None if !args.again => bail!("stopped before the end of {}", args.file.display()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

struct Replay {
    poster: Poster,
    account: Account,
    quarantine: Quarantine,
    progress: Progress,
    batch: Batch,
    pace: Pace,
    /// Rows read so far.
    read: u64,
}

impl Replay {
    async fn passes(&mut self, args: &ReplayArgs) -> Result<()> {
        for pass in 1_u64.. {
            self.account.passes = pass;
            let mut reader = open(&args.file)?;
            while let Some(item) = reader.next_item()? {
                self.read += 1;
                match item {
                    Item::Bad(bad) => {
                        self.account.quarantined(bad.reason);
                        // The same rows again are the same rows.
                        if pass == 1 {
                            self.quarantine.write(&bad)?;
                        }
                    }
                    Item::Blank(blank) => self.account.blank(blank),
                    Item::Row(row) => self.row(&row).await?,
                }
            }
            self.flush().await?;
            if !args.again {
                break;
            }
            ensure!(self.account.sent() > 0, "no row of {} could be sent", args.file.display());
            self.pace.next_pass(Instant::now(), wall_ns());
        }
        Ok(())
    }

    async fn row(&mut self, row: &Row) -> Result<()> {
        let due = self.pace.due(row.at_ns);
        if due > Instant::now() {
            self.flush().await?;
            self.progress.show(&self.account);
            sleep_until(due).await;
        }
        self.batch.push(row.device.queue_key(), &payload(row, self.pace.stamp(row.at_ns))?);
        if self.batch.is_full() {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        if self.batch.rows == 0 {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.poster.post(&batch, &mut self.account, &self.progress).await?;
        self.progress.show(&self.account);
        Ok(())
    }
}

/// What the reference's streamer puts into a payload.
fn payload(row: &Row, at_ns: i64) -> Result<String> {
    let device = &row.device;
    let record = TelemetryRecord {
        device_id: device.device.clone(),
        metric: row.metric.clone(),
        value: row.value,
        time: rfc3339(at_ns),
        gpu_id: device.gpu.clone(),
        uuid: device.uuid.clone(),
        model_name: device.model_name.clone(),
        hostname: device.hostname.clone(),
        container: row.worker.container.clone(),
        pod: row.worker.pod.clone(),
        namespace: row.worker.namespace.clone(),
        labels_raw: row.labels_raw.clone(),
    };
    Ok(serde_json::to_string(&Queued::from(&record))?)
}

fn open(file: &Path) -> Result<Reader<BufReader<File>>> {
    let opened = File::open(file).context("cannot open it")?;
    // It is read twice, and more often with --loop.
    ensure!(opened.metadata()?.is_file(), "is no regular file");
    Ok(Reader::new(BufReader::with_capacity(BUFFER_BYTES, opened))?)
}

/// The file's rows and their times.
fn survey(file: &Path) -> Result<Span> {
    let mut reader = open(file)?;
    if !reader.unknown_columns().is_empty() {
        progress::say(&format!("columns of no use: {}", reader.unknown_columns().join(", ")));
    }
    let mut span = Span::default();
    while let Some(item) = reader.next_item()? {
        span.lines += 1;
        if let Item::Row(row) = item {
            span.add(row.at_ns);
        }
    }
    Ok(span)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".quarantine.csv");
    name.into()
}

#[cfg(test)]
mod tests;
