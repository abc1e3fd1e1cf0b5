//! Metrics of anomalies.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::action::{Kind, State};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Run {
    kind: &'static str,
    result: &'static str,
}

/// Metrics of anomalies.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    runs: Family<Run, Counter>,
    /// Those of which something is on the node.
    pub(super) active: Gauge,
    pub(super) events_dropped: Counter,
}

impl Metrics {
    /// Registers them as `anomaly_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("anomaly_runs", "Anomalies that are over, by kind and result", this.runs.clone());
        registry.register("anomaly_active", "Anomalies that are not over", this.active.clone());
        let help = "Beginnings and ends of anomalies that did not become records";
        registry.register("anomaly_events_dropped", help, this.events_dropped.clone());
        this
    }

    pub(super) fn over(&self, kind: Kind, state: State) {
        self.runs.get_or_create(&Run { kind: kind.name(), result: state.name() }).inc();
    }
}
