//! What a spool tells of itself in numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::ledger::{DropReason, Ledger};

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
