//! `prometheus.WriteRequest`.

use prost::Message;

use super::message::{Sample, Unread};
use crate::domain::series::SeriesSamples;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) timeseries: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Series {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) exemplars: Vec<Unread>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Unread>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

impl Request {
    pub(super) fn of(batch: &[SeriesSamples]) -> Self {
        let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
        let series = |one: &SeriesSamples| Series {
            labels: one.labels.iter().map(label).collect(),
            samples: Sample::all(&one.samples),
            ..Series::default()
        };
        Self { timeseries: batch.iter().map(series).collect() }
    }
}
