//! From records to series: what nodes sent and what producers queued, appended to the store of series, and only then done with.
//!
//! Two roads come together here:
//! - nodes' records, which are on disk already, are read in their order; how far that went is in a file beside them, written
//!   now and then: after a crash some are read again, and a sample that is there already is no second one;
//! - the topic of GPU telemetry, by a group of its own: a message is acknowledged when its samples are on disk; one that
//!   cannot be read is given back until it goes to the dead letters, where somebody can look at it.
//!
//! A store that does not take samples now is asked until it does; what waits for it waits on disk, where it is.
//!
//! Every sample is stored, or counted as refused with a reason.

mod cursor;
pub mod nodes;
pub mod topic;

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::sleep;
use tracing::warn;

use crate::series::{Brought, Error, Series};

/// After a failure of the store, and between two tries while it is merely behind.
const PAUSE: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(20);

/// Stores what was brought, however often that has to be tried: the samples that were handed over, or none when the store
/// is closed before.
async fn store(series: &Series, brought: Vec<Brought>) -> Option<u64> {
    let samples = |brought: &Brought| brought.series.iter().map(|series| series.samples.len()).sum::<usize>();
    let samples = brought.iter().map(samples).sum::<usize>();
    let mut told = false;
    loop {
        match series.append_all(brought.clone()).await {
            Ok(_) => return Some(u64::try_from(samples).unwrap_or(u64::MAX)),
            Err(Error::Closed) => return None,
            Err(Error::Busy) => sleep(MOMENT).await,
            Err(cause) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(samples, "samples are not stored, trying until they are: {cause}");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Label of what became no sample.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

/// Metrics of the collector.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    records: Counter,
    samples: Counter,
    left_out: Family<WhyLabel, Counter>,
    skipped: Counter,
    points: Counter,
}

impl Metrics {
    /// Registers them as `collector_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "collector_records",
            "Nodes' records whose samples are in the store of series",
            this.records.clone(),
        );
        registry.register("collector_samples", "Samples handed to the store of series", this.samples.clone());
        let help = "What became no sample: blank values, labels that are none, messages that cannot be read";
        registry.register("collector_left_out", help, this.left_out.clone());
        let help = "Nodes' records that expired before they were read";
        registry.register("collector_skipped_records", help, this.skipped.clone());
        for why in [Self::BLANK, Self::LABELS, Self::UNREADABLE] {
            this.left_out.get_or_create(&WhyLabel { why }).inc_by(0);
        }
        this
    }

    /// Registers what the reference documents, under its own name.
    pub fn register_reference(&self, registry: &mut Registry) {
        let help = "Telemetry data points processed";
        registry.register("telemetry_data_points", help, self.points.clone());
    }

    const BLANK: &str = "blank";
    const LABELS: &str = "labels";
    const UNREADABLE: &str = "unreadable";

    fn left_out(&self, why: &'static str, count: u64) {
        if count > 0 {
            self.left_out.get_or_create(&WhyLabel { why }).inc_by(count);
        }
    }
}
