//! What the store of series tells of itself in numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Appended, Refused, remote};

/// Label of what is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Metrics of the store of series.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    stored: Counter,
    refused: Family<ReasonLabel, Counter>,
    pub(super) commits: Counter,
    pub(super) file_bytes: Gauge,
    pub(super) damaged_chunks: Counter,
    pub(super) damaged_files: Counter,
    pub(super) disk_errors: Counter,
    pub(super) expired_days: Counter,
    pub(super) remote: remote::Metrics,
}

impl Metrics {
    /// Registers them as `series_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self { remote: remote::Metrics::register(registry), ..Self::default() };
        let help = "Samples stored, those included that were there already";
        registry.register("series_stored_samples", help, this.stored.clone());
        let help = "Samples that are not stored, by reason";
        registry.register("series_refused_samples", help, this.refused.clone());
        registry.register("series_commits", "Synced transactions", this.commits.clone());
        registry.register("series_file_bytes", "Bytes of all days' files", this.file_bytes.clone());
        let help = "Chunks of samples that could not be read, and were left out";
        registry.register("series_damaged_chunks", help, this.damaged_chunks.clone());
        let help = "Days' files found damaged and set aside";
        registry.register("series_damaged_files", help, this.damaged_files.clone());
        registry.register("series_disk_errors", "Failures of the disk", this.disk_errors.clone());
        let help = "Days removed for their age or for the limit on bytes";
        registry.register("series_expired_days", help, this.expired_days.clone());
        for refused in Refused::ALL {
            this.refused.get_or_create(&ReasonLabel { reason: refused.name() }).inc_by(0);
        }
        this
    }

    pub(super) fn appended(&self, appended: &Appended) {
        self.stored.inc_by(appended.stored);
        for (refused, count) in &appended.refused {
            self.refused.get_or_create(&ReasonLabel { reason: refused.name() }).inc_by(*count);
        }
    }
}
