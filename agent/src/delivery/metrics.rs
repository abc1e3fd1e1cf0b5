//! Metrics of the spool and the forwarder.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::WallClock;
use super::spool::{DropReason, Ledger, Spool, Status};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of the spool.
#[derive(Clone, Debug, Default)]
pub struct SpoolMetrics {
    records: Gauge,
    size_bytes: Gauge,
    file_bytes: Gauge,
    dropped_records: Family<ReasonLabel, Counter>,
    /// Records synced.
    pub(super) appended_records: Counter,
    /// Synced transactions.
    pub(super) commits: Counter,
    /// Failures of the disk.
    pub(super) disk_errors: Counter,
    /// Files found damaged.
    pub(super) damaged_files: Counter,
}

impl SpoolMetrics {
    /// Registers them as `spool_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("spool_records", "Records waiting for a receiver", this.records.clone());
        registry.register("spool_size_bytes", "Bytes waiting for a receiver", this.size_bytes.clone());
        registry.register("spool_file_bytes", "Bytes of the spool's file", this.file_bytes.clone());
        registry.register("spool_dropped_records", "Records lost, by reason", this.dropped_records.clone());
        registry.register("spool_appended_records", "Records accepted", this.appended_records.clone());
        registry.register("spool_commits", "Synced transactions", this.commits.clone());
        registry.register("spool_disk_errors", "Failures of the disk", this.disk_errors.clone());
        registry.register(
            "spool_damaged_files",
            "Files found damaged and set aside",
            this.damaged_files.clone(),
        );
        this
    }

    pub(super) fn dropped(&self, reason: DropReason, count: u64) {
        if count > 0 {
            self.dropped_records.get_or_create(&ReasonLabel { reason: reason.name() }).inc_by(count);
        }
    }

    pub(super) fn show(&self, ledger: &Ledger, file_bytes: u64) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.records.set(gauge(ledger.spooled));
        self.size_bytes.set(gauge(ledger.spooled_bytes));
        self.file_bytes.set(gauge(file_bytes));
    }
}

/// Metrics of the forwarder.
#[derive(Clone, Debug, Default)]
pub struct ForwardMetrics {
    /// Records a receiver confirmed.
    pub(super) forwarded_records: Counter,
    /// Batches a receiver took.
    pub(super) forwarded_batches: Counter,
    /// Attempts that failed and are repeated.
    pub(super) forward_retries: Counter,
    /// Answers that contradict what was sent.
    pub(super) forward_lies: Counter,
}

impl ForwardMetrics {
    /// Registers them as `forward...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "forwarded_records",
            "Records a receiver confirmed",
            this.forwarded_records.clone(),
        );
        registry.register("forwarded_batches", "Batches a receiver took", this.forwarded_batches.clone());
        registry.register(
            "forward_retries",
            "Attempts that failed and are repeated",
            this.forward_retries.clone(),
        );
        registry.register(
            "forward_contradictions",
            "Answers that contradict what was sent",
            this.forward_lies.clone(),
        );
        this
    }
}

/// Age of the oldest unsent record, computed at each scrape: it grows while nothing else happens.
pub fn register_age(registry: &mut Registry, spool: &Spool, clock: WallClock) {
    registry.register_collector(Box::new(Age { status: spool.status(), clock }));
}

#[derive(Debug)]
struct Age {
    status: watch::Receiver<Status>,
    clock: WallClock,
}

impl Collector for Age {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let oldest_at_ns = self.status.borrow().oldest_at_ns;
        let age_ns = oldest_at_ns.map_or(0, |at_ns| (self.clock)().saturating_sub(at_ns).max(0));
        #[expect(clippy::cast_precision_loss, reason = "an age in seconds needs no 53 bits")]
        let gauge = ConstGauge::new(age_ns as f64 / 1e9);
        let metric = encoder.encode_descriptor(
            "oldest_unsent_seconds",
            "Age of the oldest record waiting for a receiver",
            None,
            gauge.metric_type(),
        )?;
        gauge.encode(metric)
    }
}
