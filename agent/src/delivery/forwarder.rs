//! Sends the spool to a receiver, in order, one batch at a time, until the receiver confirms it.
//!
//! - a batch is sent again with the same boundaries until it is answered;
//! - only what the receiver confirmed is deleted, and a confirmation that contradicts the batch counts for
//!   nothing;
//! - a record that the receiver refuses is found by halving and dropped, counted; while no record passes in
//!   between, each further drop waits longer, so that a receiver which refuses everything does not empty the
//!   spool; a batch refused for its envelope drops nothing.
//!
//! One batch at a time is right here. A node makes tens of records a second and a batch takes a thousand, so a line of
//! 50 ms carries 14,000 of them a second (`cargo xtask bench delivery`), hundreds of times what is made. With several
//! under way a refused record could no longer be found by halving, what a receiver stored and never answered for could
//! lie before what it answered for, and a receiver that stumbles would get the same records several times over. What
//! adapts is the batch: it is what waits, up to its limit, so that a slow receiver gets fewer and larger ones.

mod metrics;
mod probe;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use self::metrics::ForwardMetrics;
use self::probe::Probe;
use super::WallClock;
use super::pace::Pace;
use super::spool::{self, Page, PageLimits, Seq, Spool};
use super::status::Link;
use super::transport::ring::READY_WITHIN;
use super::transport::{SendError, Transport};
use crate::api::batch::{Ack, Batch, MAX_RECORDS, Refused, VERSION};
use crate::queue::jetstream::Settings;
use crate::tls;

/// Settings of the forwarder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `http://host:port` or `https://host:port` of each receiver, at most 16; without one nothing is kept. Of
    /// several one is this node's home, chosen by its name, and the others take over while that takes nothing.
    /// `receiver = "URL"` is a list of one.
    #[serde(alias = "receiver", deserialize_with = "one_or_many")]
    pub receivers: Vec<String>,
    /// Records in a batch, at most 1,000.
    pub batch_records: usize,
    /// Bytes of records in a batch; one larger record is sent alone.
    pub batch_bytes: usize,
    /// Pack batches: JSON of many samples shrinks to a tenth, for some ms of CPU a MiB.
    pub gzip: bool,
    /// Until a connection stands.
    pub connect_timeout_ms: u64,
    /// Until a batch is answered.
    pub timeout_ms: u64,
    /// After the first failure.
    pub retry_min_ms: u64,
    /// After many.
    pub retry_max_ms: u64,
    /// To empty the spool when the node stops; less than a pod's 30 s to terminate.
    pub grace_ms: u64,
    /// File of the key that is sent along, one line, where the receiver asks for one: scope `ingest`. Read again when it
    /// changes.
    pub key_file: PathBuf,
    /// `[forward.tls]`: for a receiver at `https://`.
    pub tls: tls::Client,
    /// `[forward.jetstream]`: into the queue that receivers share on NATS servers, in place of `receivers`. Its settings
    /// are those of `[queue.jetstream]`.
    pub jetstream: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receivers: Vec::new(),
            batch_records: MAX_RECORDS,
            // A tenth of a second on 100 Mbit/s.
            batch_bytes: 1 << 20,
            gzip: true,
            connect_timeout_ms: 3_000,
            timeout_ms: 10_000,
            retry_min_ms: 200,
            retry_max_ms: 30_000,
            grace_ms: 5_000,
            key_file: PathBuf::new(),
            tls: tls::Client::default(),
            jetstream: Settings::default(),
        }
    }
}

/// Who sends.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The node's name.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: String,
}

/// The one reader of a spool.
#[derive(Debug)]
pub struct Forwarder<T> {
    spool: Spool,
    transport: T,
    sender: Sender,
    limits: PageLimits,
    timeout: Duration,
    grace: Duration,
    pace: Pace,
    probe: Probe,
    resend: Option<Resend>,
    link: watch::Sender<Link>,
    metrics: ForwardMetrics,
    clock: WallClock,
}

/// The end of a batch that was sent and not answered.
#[derive(Clone, Debug)]
struct Resend {
    spool_id: String,
    last: Seq,
}

/// What one step came to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The spool is shorter.
    Progress,
    /// Nothing waits.
    Idle,
    /// Nothing was confirmed; try again after this.
    Failed(Duration),
}

impl<T: Transport> Forwarder<T> {
    /// A forwarder of `spool`; nothing is sent before [`Forwarder::run`].
    pub fn new(
        spool: Spool,
        transport: T,
        config: &Config,
        sender: Sender,
        metrics: ForwardMetrics,
        clock: WallClock,
    ) -> Self {
        let (receiver, others) = (transport.target(), transport.others());
        let link = watch::Sender::new(Link { receiver, others, ..Link::default() });
        Self {
            spool,
            transport,
            sender,
            limits: PageLimits {
                until: None,
                max_records: config.batch_records.clamp(1, MAX_RECORDS),
                max_bytes: config.batch_bytes,
            },
            timeout: patience(config),
            grace: Duration::from_millis(config.grace_ms),
            pace: Pace::new(
                Duration::from_millis(config.retry_min_ms),
                Duration::from_millis(config.retry_max_ms),
            ),
            probe: Probe::default(),
            resend: None,
            link,
            metrics,
            clock,
        }
    }

    /// How the receiver is reached, and every change of it.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Sends until `cancel`, then tries for the grace period to empty the spool, stopping at the first failure.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.spool.status();
        while !cancel.is_cancelled() {
            changes.mark_unchanged();
            let step = tokio::select! {
                () = cancel.cancelled() => break,
                step = self.step() => step,
            };
            let wait = async {
                match step {
                    Step::Progress => {}
                    Step::Idle => {
                        // An error means that the spool is closed, and then `cancel` is near.
                        if changes.changed().await.is_err() {
                            time::sleep(self.timeout).await;
                        }
                    }
                    Step::Failed(pause) => time::sleep(pause).await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => break,
                () = wait => {}
            }
        }
        let emptied = time::timeout(self.grace, async { while self.step().await == Step::Progress {} }).await;
        let left = self.spool.accounts().spooled;
        info!(records = left, in_time = emptied.is_ok(), "forwarder stopped");
    }

    async fn step(&mut self) -> Step {
        let page = match self.next_page().await {
            Ok(page) if page.records.is_empty() => return Step::Idle,
            Ok(page) => page,
            Err(cause) => return self.failed(cause.to_string(), None),
        };
        let (first, last) = (page.first_seq, page.first_seq + page.records.len() as u64 - 1);
        let batch = match self.batch(&page) {
            Ok(batch) => batch,
            Err(seq) => {
                warn!(seq, "spooled record is no JSON, dropped");
                return self.drop_record(&page.spool_id, seq).await;
            }
        };
        self.resend = Some(Resend { spool_id: page.spool_id.clone(), last });
        let sent = match time::timeout(self.timeout, self.transport.send(&batch)).await {
            Ok(sent) => sent,
            Err(_) => Err(SendError::Unavailable { words: format!("no answer within {:?}", self.timeout) }),
        };
        match sent {
            Ok(ack) => self.answered(&page.spool_id, first, last, ack).await,
            Err(SendError::Refused { refused: Some(Refused::Envelope), words }) => {
                self.failed(format!("receiver refuses the batch: {words}"), None)
            }
            Err(SendError::Refused { words, .. }) => {
                self.resend = None;
                if !self.probe.refused(first, last) {
                    // It is smaller now; the same receiver may take the first half.
                    return Step::Progress;
                }
                warn!(seq = first, "receiver refuses a record, dropped: {words}");
                match self.drop_record(&page.spool_id, first).await {
                    Step::Progress => self.failed(format!("receiver refused record {first}: {words}"), None),
                    other => other,
                }
            }
            Err(SendError::Busy { retry_after, words }) => {
                self.failed(format!("receiver is busy: {words}"), retry_after)
            }
            Err(cause @ SendError::Unavailable { .. }) => self.failed(cause.to_string(), None),
        }
    }

    /// The batch to send: the unanswered one again, or a part of a refused one, or what comes next.
    async fn next_page(&self) -> Result<Page, spool::Error> {
        let until = self.probe.until().or(self.resend.as_ref().map(|resend| resend.last));
        let page = self.spool.read_page(0, PageLimits { until, ..self.limits }).await?;
        let stale = self.resend.as_ref().is_some_and(|resend| resend.spool_id != page.spool_id);
        if until.is_some() && (stale || page.records.is_empty()) {
            // The batch is gone, or its numbers belong to another file.
            return self.spool.read_page(0, self.limits).await;
        }
        Ok(page)
    }

    fn batch(&self, page: &Page) -> Result<Batch, Seq> {
        let records = (page.first_seq..)
            .zip(&page.records)
            .map(|(seq, record)| json(record).ok_or(seq))
            .collect::<Result<_, _>>()?;
        Ok(Batch {
            version: VERSION,
            node: self.sender.node.clone(),
            boot_id: self.sender.boot_id.clone(),
            spool_id: page.spool_id.clone(),
            first_seq: page.first_seq,
            accounts: self.spool.accounts(),
            records,
            // Nobody but this forwarder changes it.
            confirmed_by: self.spool.status().borrow().ledger.confirmed_by.clone(),
        })
    }

    async fn answered(&mut self, spool_id: &str, first: Seq, last: Seq, ack: Ack) -> Step {
        let taken = match taken(first, last, ack) {
            Ok(0) => return self.failed("receiver stored nothing of the batch".to_owned(), None),
            Ok(taken) => taken,
            Err(words) => {
                self.metrics.forward_lies.inc();
                return self.failed(words, None);
            }
        };
        let receiver = self.transport.target();
        if let Err(cause) = self.spool.acknowledge(spool_id, ack.acked_seq, &receiver).await {
            return self.failed(cause.to_string(), None);
        }
        self.resend = None;
        self.probe.accepted(ack.acked_seq);
        self.pace.reset();
        self.metrics.forwarded_batches.inc();
        self.metrics.forwarded_records.inc_by(taken);
        let now_ns = (self.clock)();
        self.link.send_modify(|link| {
            if link.failures > 0 {
                info!(receiver = link.receiver, attempts = link.failures, "receiver takes records again");
            }
            (link.receiver, link.others) = (self.transport.target(), self.transport.others());
            link.failures = 0;
            link.last_success_at_ns = Some(now_ns);
        });
        Step::Progress
    }

    async fn drop_record(&mut self, spool_id: &str, seq: Seq) -> Step {
        self.probe = Probe::default();
        self.resend = None;
        match self.spool.refuse(spool_id, seq).await {
            Ok(()) => Step::Progress,
            Err(cause) => self.failed(cause.to_string(), None),
        }
    }

    fn failed(&mut self, words: String, retry_after: Option<Duration>) -> Step {
        self.metrics.forward_retries.inc();
        let pause = self.pace.next(retry_after);
        let now_ns = (self.clock)();
        self.link.send_modify(|link| {
            (link.receiver, link.others) = (self.transport.target(), self.transport.others());
            link.failures += 1;
            // One line when it begins and one for each new reason: a dead receiver does not flood the log.
            if link.failures == 1 || link.last_error.as_deref() != Some(&words) {
                warn!(receiver = link.receiver, attempts = link.failures, "cannot forward: {words}");
            }
            link.last_error = Some(words);
            link.last_error_at_ns = Some(now_ns);
        });
        Step::Failed(pause)
    }
}

/// Several receivers are asked one after another, each of which may first be asked whether it is ready.
fn patience(config: &Config) -> Duration {
    let receivers = u32::try_from(config.receivers.len().max(1)).unwrap_or(u32::MAX);
    let asked = READY_WITHIN.saturating_mul(receivers - 1);
    Duration::from_millis(config.timeout_ms).saturating_mul(receivers).saturating_add(asked)
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a URL or a list of URLs")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(from)? {
        Either::One(url) => vec![url],
        Either::Many(urls) => urls,
    })
}

fn json(record: &[u8]) -> Option<Box<RawValue>> {
    RawValue::from_string(str::from_utf8(record).ok()?.to_owned()).ok()
}

/// Records that a confirmation is worth.
fn taken(first: Seq, last: Seq, ack: Ack) -> Result<u64, String> {
    if ack.acked_seq > last {
        return Err(format!("receiver confirms {} but only {last} was sent", ack.acked_seq));
    }
    let taken = (ack.acked_seq + 1).saturating_sub(first);
    if taken > 0 && ack.stored.checked_add(ack.duplicates) != Some(taken) {
        let Ack { acked_seq, stored, duplicates } = ack;
        return Err(format!(
            "receiver confirms {first} to {acked_seq} with {stored} stored and {duplicates} duplicate"
        ));
    }
    Ok(taken)
}
