//! What the HTTP side says of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Handles; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Requests by route template, method and status.
    pub requests: Family<RequestLabels, Counter>,
    /// Time to answer by route template.
    pub durations: Family<RouteLabels, Histogram, Buckets>,
    /// Connections open.
    pub connections: Gauge,
    /// TLS handshakes by what came of them.
    pub handshakes: Family<ResultLabel, Counter>,
    /// Connections that ended with an error.
    pub connection_errors: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Requests that were more than are let in, by route template.
    pub rate_limited: Family<RouteLabels, Counter>,
    /// Keys that came where one is needed, and were not known.
    pub logins_failed: Counter,
    /// Keys that were not looked at: too many wrong ones had come from there.
    pub logins_refused: Counter,
    /// Log lines of refused requests that were held back.
    pub held_back_lines: Counter,
    /// Streams open.
    pub streams: Gauge,
    /// Streams that were not opened because as many as may be were open.
    pub streams_refused: Counter,
    /// Samples sent on streams.
    pub stream_events: Family<KindLabel, Counter>,
    /// Samples that slow clients were not sent.
    pub stream_skipped: Family<KindLabel, Counter>,
}

/// Label of the streams' counters: kinds of samples are a closed set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    /// The event's name.
    pub kind: &'static str,
}

/// Label of [`Metrics::handshakes`]: `ok`, `failed`, `timeout`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// What came of it.
    pub result: &'static str,
}

/// Labels of [`Metrics::requests`]: route templates, known methods and statuses are closed sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// Route template, or `unmatched`.
    pub route: String,
    /// Method, or `other`.
    pub method: &'static str,
    /// Status.
    pub status: u16,
}

/// Label of [`Metrics::durations`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    /// Route template, or `unmatched`.
    pub route: String,
}

/// From answers out of memory (100 us) over one fsync (milliseconds) to the request timeout.
#[derive(Clone, Debug)]
pub struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
    }
}

impl Metrics {
    /// Registers under the prefix that the registry carries.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(Buckets),
            connections: Gauge::default(),
            handshakes: Family::default(),
            connection_errors: Counter::default(),
            panics: Counter::default(),
            rate_limited: Family::default(),
            logins_failed: Counter::default(),
            logins_refused: Counter::default(),
            held_back_lines: Counter::default(),
            streams: Gauge::default(),
            streams_refused: Counter::default(),
            stream_events: Family::default(),
            stream_skipped: Family::default(),
        };
        registry.register("http_requests", "HTTP requests answered", metrics.requests.clone());
        let help = "Time from a request's headers to its answer's headers";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, metrics.durations.clone());
        registry.register("http_connections", "HTTP connections open", metrics.connections.clone());
        let help = "TLS handshakes, by what came of them";
        registry.register("http_tls_handshakes", help, metrics.handshakes.clone());
        let help = "HTTP connections that ended with an error";
        registry.register("http_connection_errors", help, metrics.connection_errors.clone());
        registry.register("http_panics", "HTTP handlers that panicked", metrics.panics.clone());
        let help = "HTTP requests refused for their rate";
        registry.register("http_rate_limited_requests", help, metrics.rate_limited.clone());
        let help = "Keys that were not known, where one is needed";
        registry.register("http_failed_logins", help, metrics.logins_failed.clone());
        let help = "Keys that were not looked at: too many wrong ones had come from their address";
        registry.register("http_refused_logins", help, metrics.logins_refused.clone());
        let help = "Log lines of refused HTTP requests that were held back";
        registry.register("http_held_back_lines", help, metrics.held_back_lines.clone());
        registry.register("http_streams", "Streams of samples open", metrics.streams.clone());
        let help = "Streams of samples that were not opened: too many were open";
        registry.register("http_streams_refused", help, metrics.streams_refused.clone());
        let help = "Samples sent on streams";
        registry.register("http_stream_samples", help, metrics.stream_events.clone());
        let help = "Samples that slow clients of streams were not sent";
        registry.register("http_stream_skipped_samples", help, metrics.stream_skipped.clone());
        metrics
    }
}
