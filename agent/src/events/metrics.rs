//! What the events say of themselves in numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Handles; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) accepted: Counter,
    pub(super) duplicates: Counter,
    refused: Family<Reason, Counter>,
    samples: Family<Kind, Counter>,
    scrapes: Family<Kind, Counter>,
    expired: Family<Delivered, Counter>,
    pub(super) uncounted: Gauge,
    pub(super) held: Gauge,
    pub(super) size_bytes: Gauge,
    pub(super) file_bytes: Gauge,
    pub(super) commits: Counter,
    pub(super) disk_errors: Counter,
    pub(super) damaged_files: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivered {
    delivered: &'static str,
}

impl Metrics {
    /// Registers under the prefix that the registry carries.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("events_accepted", "Events taken, on disk", this.accepted.clone());
        let help = "Events that were there before, by their id";
        registry.register("events_duplicates", help, this.duplicates.clone());
        let help = "Events refused, by reason; their senders were told";
        registry.register("events_refused", help, this.refused.clone());
        let help = "Samples of events sent to scrapers: first, or again";
        registry.register("events_samples", help, this.samples.clone());
        let help = "Requests for events: fresh connections, those that confirm the body before, those that prove nothing, \
                    connections that ended without confirming, looks of people, scrapers too many; where scrapers are \
                    asked what they stored also those whose last answer is not there and those that cannot be asked";
        registry.register("events_scrapes", help, this.scrapes.clone());
        let help = "Events past the window, by whether some scraper had read them";
        registry.register("events_expired", help, this.expired.clone());
        let help = "Events of series beyond those that are counted";
        registry.register("events_uncounted", help, this.uncounted.clone());
        registry.register("events_held", "Events of the window", this.held.clone());
        let help = "Memory for the events of the window";
        registry.register_with_unit("events_held_size", help, Unit::Bytes, this.size_bytes.clone());
        let help = "The journal of events on disk";
        registry.register_with_unit("events_file_size", help, Unit::Bytes, this.file_bytes.clone());
        registry.register("events_commits", "Transactions of the journal, each synced", this.commits.clone());
        let help = "Transactions of the journal that the disk did not take";
        registry.register("events_disk_errors", help, this.disk_errors.clone());
        let help = "Journals that were damaged and set aside";
        registry.register("events_damaged_files", help, this.damaged_files.clone());
        this
    }

    pub(super) fn refused(&self, reason: &'static str, count: usize) {
        self.refused.get_or_create(&Reason { reason }).inc_by(count as u64);
    }

    pub(super) fn sent(&self, first: u64, again: u64) {
        for (kind, count) in [("first", first), ("again", again)] {
            self.samples.get_or_create(&Kind { kind }).inc_by(count);
        }
    }

    pub(super) fn scrape(&self, kind: &'static str) {
        self.scrapes.get_or_create(&Kind { kind }).inc();
    }

    pub(super) fn expired(&self, delivered: bool, count: u64) {
        let delivered = if delivered { "yes" } else { "no" };
        self.expired.get_or_create(&Delivered { delivered }).inc_by(count);
    }
}
