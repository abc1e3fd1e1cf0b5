//! What a forwarder tells of itself in numbers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

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
