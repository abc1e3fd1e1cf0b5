//! What the messages of both versions have in common. Of what is not stored only the number is kept.

use prost::Message;

/// A value at a time, the same in both versions.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Sample {
    /// None is 0. Optional, since the library would leave -0 out as if it were that.
    #[prost(double, optional, tag = "1")]
    pub(super) value: Option<f64>,
    /// ms since the epoch.
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
}

/// Something that is counted and not read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub(super) struct Unread {}

impl Sample {
    pub(super) fn all(samples: &[crate::domain::series::Sample]) -> Vec<Self> {
        let value = |value: f64| Some(value).filter(|value| value.to_bits() != 0);
        samples.iter().map(|sample| Self { value: value(sample.value), timestamp: sample.at_ms }).collect()
    }
}
