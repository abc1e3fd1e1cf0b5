//! Metrics of the usage source itself; what pods use is exposed from the latest map.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Tally;
use super::files::PARTS;
use super::group::WHYS;

/// The closed sets of parts and reasons.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lack {
    part: &'static str,
    reason: &'static str,
}

/// Metrics of the usage source.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    groups: Gauge,
    left_out: Gauge,
    open_files: Gauge,
    reads: Counter,
    gone: Counter,
    lacks: Family<Lack, Gauge>,
}

impl Metrics {
    /// Registers every metric; the registry's prefix makes `usage_groups` into `sextant_usage_groups`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("usage_groups", "Cgroups that the last collection read", this.groups.clone());
        registry.register(
            "usage_groups_left_out",
            "Cgroups beyond the limit that the last collection did not read",
            this.left_out.clone(),
        );
        registry.register("usage_open_files", "Descriptors kept open", this.open_files.clone());
        registry.register("usage_file_reads", "Files of cgroups read", this.reads.clone());
        registry.register(
            "usage_groups_gone",
            "Cgroups that were gone when they were to be read",
            this.gone.clone(),
        );
        registry.register(
            "usage_lacks",
            "Cgroups of the last collection without a part of their usage",
            this.lacks.clone(),
        );
        this
    }

    /// After a collection.
    pub(super) fn collected(&self, tally: &Tally, open_files: usize) {
        self.groups.set(gauge(tally.groups));
        self.left_out.set(gauge(tally.left_out));
        self.open_files.set(gauge(open_files));
        self.reads.inc_by(tally.reads);
        self.gone.inc_by(tally.gone);
        for (part, counts) in PARTS.into_iter().zip(tally.lacks.0) {
            for (reason, count) in WHYS.into_iter().zip(counts) {
                let lack = Lack { part, reason };
                // Sixty-three series of nothing would say nothing: only what once occurred.
                if count > 0 || self.lacks.get(&lack).is_some() {
                    self.lacks.get_or_create(&lack).set(i64::try_from(count).unwrap_or(i64::MAX));
                }
            }
        }
    }
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
