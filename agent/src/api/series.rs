//! Time series over HTTP: which there are, their samples, their statistics.
//!
//! A sample is `[at_ms, value]`: ms since the epoch, and a number; `"NaN"`, `"+Inf"`, `"-Inf"` for what JSON has no number
//! for, as Prometheus writes them. Where a series ends (Prometheus' stale marker) there is no sample.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::series::{Labels, Sample, SeriesSamples};

/// `GET /api/v1/series`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeriesList {
    /// How many.
    pub count: usize,
    /// By labels.
    pub series: Vec<FoundSeries>,
}

/// A series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundSeries {
    /// Its labels, the metric's name as `__name__`.
    pub labels: BTreeMap<String, String>,
    /// When its last sample is, ms since the epoch.
    pub last_ms: i64,
}

/// `GET /api/v1/labels` and `/api/v1/labels/{name}/values`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Words {
    /// How many.
    pub count: usize,
    /// In order.
    pub values: Vec<String>,
}

/// `GET /api/v1/samples`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct SamplesList {
    /// Series that have samples.
    pub count: usize,
    /// By labels.
    pub series: Vec<OneSeries>,
}

/// A series and its samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct OneSeries {
    /// Its labels, the metric's name as `__name__`.
    pub labels: BTreeMap<String, String>,
    /// Ascending.
    pub samples: Vec<Pair>,
}

/// Time, ms since the epoch, and value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Pair(pub i64, #[schema(value_type = f64)] pub Float);

/// A float with words for what is no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Float(pub f64);

impl Serialize for Float {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            value if value.is_finite() => serializer.serialize_f64(value),
            value if value.is_nan() => serializer.serialize_str("NaN"),
            value => serializer.serialize_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
        }
    }
}

/// `GET /api/v1/statistics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct StatisticsList {
    /// How many rows.
    pub count: usize,
    /// By labels.
    pub statistics: Vec<StatisticsRow>,
}

/// The statistics of a series, or of all series with the same values of some labels.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct StatisticsRow {
    /// The series' labels, or those that it was grouped by.
    pub labels: BTreeMap<String, String>,
    /// Series in it.
    pub series: usize,
    /// Samples in it.
    pub samples: usize,
    /// The smallest value.
    #[schema(value_type = f64)]
    pub min: Float,
    /// The largest.
    #[schema(value_type = f64)]
    pub max: Float,
    /// Their mean.
    #[schema(value_type = f64)]
    pub avg: Float,
    /// Half of the samples are at most this: a sample's own value, the nearest rank.
    #[schema(value_type = f64)]
    pub p50: Float,
    /// 90 % of them.
    #[schema(value_type = f64)]
    pub p90: Float,
    /// 99 %.
    #[schema(value_type = f64)]
    pub p99: Float,
    /// The newest.
    #[schema(value_type = f64)]
    pub last: Float,
    /// Growth by the second, of counters: what each series grew between its first and its last sample, a fall taken as a
    /// beginning at zero; null where no series has two samples.
    #[schema(value_type = Option<f64>)]
    pub rate: Option<Float>,
}

/// Labels on the wire.
pub fn labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl From<Sample> for Pair {
    fn from(sample: Sample) -> Self {
        Self(sample.at_ms, Float(sample.value))
    }
}

impl From<SeriesSamples> for OneSeries {
    fn from(series: SeriesSamples) -> Self {
        let samples = series.samples.into_iter().filter(|sample| !sample.is_stale());
        Self { labels: labels(&series.labels), samples: samples.map(Pair::from).collect() }
    }
}
