//! What the alerts tell of themselves in numbers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Label of a state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabel {
    pub(super) state: &'static str,
}

/// Label of what became of a post.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabel {
    pub(super) result: &'static str,
}

/// Metrics of the alerts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub(super) alerts: Family<StateLabel, Gauge>,
    pub(super) evaluations: Counter,
    pub(super) failures: Counter,
    pub(super) left_out: Counter,
    pub(super) untold: Gauge,
    pub(super) posts: Family<ResultLabel, Counter>,
}

impl Metrics {
    /// Registers them as `alerts_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("alerts", "Alerts, by state", this.alerts.clone());
        registry.register("alerts_evaluations", "Evaluations of a rule", this.evaluations.clone());
        let help = "Evaluations of a rule that failed, and changed nothing";
        registry.register("alerts_failed_evaluations", help, this.failures.clone());
        registry.register("alerts_left_out", "Alerts beyond the limit of their rule", this.left_out.clone());
        let help = "Posts of changes that a webhook or the events have not taken yet";
        registry.register("alerts_untold", help, this.untold.clone());
        let help = "Posts to webhooks and Alertmanagers: delivered, tried again, refused, dropped because too many waited";
        registry.register("alerts_posts", help, this.posts.clone());
        this
    }

    pub(super) fn posted(&self, result: &'static str) {
        self.posts.get_or_create(&ResultLabel { result }).inc();
    }
}
