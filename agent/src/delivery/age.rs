//! How old the oldest record is that no receiver has.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::WallClock;
use super::spool::{Spool, Status};

/// Registers it as `oldest_unsent_seconds`, computed at each scrape: it grows while nothing else happens.
pub fn register(registry: &mut Registry, spool: &Spool, clock: WallClock) {
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
