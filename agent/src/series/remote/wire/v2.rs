//! `io.prometheus.write.v2.Request`.

use std::collections::HashMap;

use prost::Message;

use super::message::{Sample, Unread};
use crate::domain::series::SeriesSamples;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    /// The first is empty.
    #[prost(string, repeated, tag = "4")]
    pub(super) symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) timeseries: Vec<Series>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Series {
    /// Name and value in turn, as indexes.
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) histograms: Vec<Unread>,
    #[prost(message, repeated, tag = "4")]
    pub(super) exemplars: Vec<Unread>,
}

impl Request {
    pub(super) fn of(batch: &[SeriesSamples]) -> Self {
        let mut symbols = vec![String::new()];
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut timeseries = Vec::with_capacity(batch.len());
        for one in batch {
            let texts = one.labels.iter().flat_map(|(name, value)| [name, value]);
            let refs = texts.map(|text| {
                *known.entry(text).or_insert_with(|| {
                    symbols.push(text.to_owned());
                    // A batch has fewer strings than bytes, and those are cut far below.
                    u32::try_from(symbols.len() - 1).unwrap_or(0)
                })
            });
            timeseries.push(Series {
                labels_refs: refs.collect(),
                samples: Sample::all(&one.samples),
                ..Series::default()
            });
        }
        Self { symbols, timeseries }
    }
}
