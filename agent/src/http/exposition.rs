//! `/metrics`: what is registered, plus collectors that read the latest snapshots at each scrape.
//!
//! The text is OpenMetrics 1.0, or, for clients that do not ask for it, the older Prometheus text 0.0.4 made
//! from it ([`classic`]). Counters of the scheduler restart with each epoch, as the kernel's do; Prometheus
//! sees that as a reset, and `scheduler_info` has the `enable_seq` that changed.
//!
//! Names are under the registry's prefix (`sextant_`), base units, with HELP. Values of schedulers are 64-bit
//! integers and are written as such; Prometheus itself keeps 53 bits of them.

use std::fmt;

use axum::http::HeaderValue;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, GaugeValueEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::ApiError;
use crate::domain::histogram::Histogram;
use crate::events::{Batch, Events, text};

pub mod classic;
pub mod database;
pub mod gpu;
pub mod node;
pub mod process;
pub mod reference;
pub mod runqueue;
pub mod usage;

/// Which text a scraper gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4: browsers, curl, old scrapers.
    Classic,
}

impl Format {
    /// OpenMetrics for whoever names it: Prometheus does.
    pub fn negotiate(accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Classic }
    }

    /// The answer's content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The exposition of everything that is registered.
///
/// # Errors
/// A collector's own; none of ours fails.
pub fn encode(registry: &Registry, format: Format) -> Result<String, fmt::Error> {
    // What a node with a middling scheduler needs, so that the text grows once at most.
    let mut text = String::with_capacity(64 << 10);
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Classic => classic::from_openmetrics(&text),
    })
}

/// How many events are written between two turns of the other tasks: a fraction of a millisecond.
const WRITTEN_AT_ONCE: usize = 500;

/// The exposition with events and their counters at its end.
///
/// # Errors
/// [`ApiError::Encode`]: the thread that wrote them is gone.
pub(super) async fn with_events(
    mut text: String,
    format: Format,
    batch: Batch,
    events: &Events,
) -> Result<String, ApiError> {
    let (totals, name) = (events.totals(), events.config().name.clone());
    let is_long = batch.events.len() > WRITTEN_AT_ONCE;
    let write = move || {
        const END: &str = "# EOF\n";
        match format {
            Format::OpenMetrics => {
                text.truncate(text.len() - if text.ends_with(END) { END.len() } else { 0 });
                batch.write(&totals, &name, text::Format::OpenMetrics, &mut text);
                text.push_str(END);
            }
            Format::Classic => batch.write(&totals, &name, text::Format::Classic, &mut text),
        }
        text
    };
    if !is_long {
        return Ok(write());
    }
    tokio::task::spawn_blocking(write).await.map_err(|error| ApiError::Encode(error.to_string()))
}

/// A gauge's value without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl EncodeGaugeValue for Number {
    fn encode(&self, encoder: &mut GaugeValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => EncodeGaugeValue::encode(value, encoder),
            Self::Signed(value) => EncodeGaugeValue::encode(value, encoder),
            Self::Float(value) => EncodeGaugeValue::encode(value, encoder),
        }
    }
}

/// Writes metric families at a scrape; a family without samples is left out.
pub(super) struct Writer<'a>(DescriptorEncoder<'a>);

impl<'a> Writer<'a> {
    pub(super) const fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<Number>,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        self.0.encode_descriptor(name, &format!("{help}."), unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        named: (&str, &str),
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (L, Number)>,
    ) -> fmt::Result {
        self.numbers(named, unit, MetricType::Gauge, samples)
    }

    /// Names that must stay as they are, where a counter's would get an ending.
    pub(super) fn untyped<L: EncodeLabelSet>(
        &mut self,
        named: (&str, &str),
        samples: impl IntoIterator<Item = (L, Number)>,
    ) -> fmt::Result {
        self.numbers(named, None, MetricType::Unknown, samples)
    }

    fn numbers<L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        unit: Option<&Unit>,
        kind: MetricType,
        samples: impl IntoIterator<Item = (L, Number)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, &format!("{help}."), unit, kind)?;
        samples.try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<impl EncodeCounterValue>,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let mut metric = self.0.encode_descriptor(name, &format!("{help}."), unit, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.counters_in((name, help), None, samples)
    }

    pub(super) fn counters_in<L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (L, impl EncodeCounterValue)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, &format!("{help}."), unit, MetricType::Counter)?;
        samples.try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    /// In seconds.
    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let (help, unit) = (format!("{help}."), Some(&Unit::Seconds));
        let mut metric = self.0.encode_descriptor(name, &help, unit, MetricType::Histogram)?;
        let (sum, count, buckets) = runqueue::buckets(histogram);
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    /// In seconds.
    pub(super) fn histograms<L: EncodeLabelSet>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (L, Histogram)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let (help, unit) = (format!("{help}."), Some(&Unit::Seconds));
        let mut family = self.0.encode_descriptor(name, &help, unit, MetricType::Histogram)?;
        samples.try_for_each(|(labels, histogram)| {
            let (sum, count, buckets) = runqueue::buckets(&histogram);
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }

    pub(super) fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> fmt::Result {
        self.0.encode_descriptor(name, &format!("{help}."), None, MetricType::Info)?.encode_info(labels)
    }
}

#[expect(clippy::cast_precision_loss, reason = "times for people: microseconds of decades fit 53 bits")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
