//! Prometheus' remote write, both versions, as bytes: protobuf in one block of snappy.
//!
//! Formats: "Prometheus Remote-Write 1.0" (`prometheus.WriteRequest`) and 2.0 (`io.prometheus.write.v2.Request`, where
//! labels are pairs of indexes into a table of strings). What comes from outside is read field by field and each series
//! is checked before the next is looked at; a body's length is looked at before anything is unpacked. What a body becomes
//! is many times its size where its labels point into the table: 180,000 series fit, and each may name all of it. So its
//! labels are counted before they are copied ([`super::label_bytes`]); with those and [`MAX_SAMPLES`] it is some 100 MiB at most.

use std::fmt;

use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::domain::series::{LabelError, Labels, Sample, SeriesSamples};
use crate::series::limit::{Over, at_most};
use crate::series::remote::label_bytes::LabelBytes;

mod message;
mod v1;
mod v2;

/// A packed body: what Prometheus and vmagent send is below 3 MiB.
pub const MAX_PACKED_BYTES: usize = 8 << 20;

/// A body unpacked: twice vmagent's largest block.
pub const MAX_PLAIN_BYTES: usize = 16 << 20;

/// One series of a body: 80,000 samples, more than senders collect of one.
const MAX_SERIES_BYTES: usize = 1 << 20;

/// Samples of a body: a hundred times what Prometheus sends at once by default.
const MAX_SAMPLES: usize = 200_000;

/// Strings of a 2.0 body, as many as labels of that many samples would hardly be.
const MAX_SYMBOLS: usize = 200_000;

/// Names and values as they came.
type LabelPairs = Vec<(Box<str>, Box<str>)>;

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// 1.0: `prometheus.WriteRequest`.
    One,
    /// 2.0: `io.prometheus.write.v2.Request`.
    Two,
}

impl Version {
    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::One => "application/x-protobuf",
            Self::Two => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The value of `X-Prometheus-Remote-Write-Version`.
    #[must_use]
    pub const fn number(self) -> &'static str {
        match self {
            Self::One => "0.1.0",
            Self::Two => "2.0.0",
        }
    }

    /// Which one a `Content-Type` names; the first version where it names none.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let mut parts = content_type.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let proto = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| *name == "proto");
        match proto.map(|(_, value)| value.trim_matches('"')) {
            None | Some("prometheus.WriteRequest") => Some(Self::One),
            Some("io.prometheus.write.v2.Request") => Some(Self::Two),
            Some(_) => None,
        }
    }
}

/// What a body holds that can be stored, and what became of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Series with their samples, each series' in ascending order.
    pub series: Vec<SeriesSamples>,
    /// Samples of series that cannot be, such as ones with odd labels.
    pub refused: u64,
    /// Why, of the first of them.
    pub why: Option<LabelError>,
    /// Native histograms, which are not stored.
    pub histograms: u64,
    /// Exemplars, which are not stored either, and are nobody's loss.
    pub exemplars: u64,
}

/// Why a body is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no block of snappy.
    #[error("the body is no block of snappy: {0}")]
    Snappy(#[from] snap::Error),
    /// It is larger than is taken.
    #[error(transparent)]
    TooLarge(#[from] Over),
    /// It is no protobuf message.
    #[error("the body is no message of remote write: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// It is one, and contradicts itself.
    #[error("the body is no message of remote write: {0}")]
    Content(&'static str),
}

/// A body of these series.
#[must_use]
pub fn encode(version: Version, batch: &[SeriesSamples]) -> Vec<u8> {
    let plain = match version {
        Version::One => v1::Request::of(batch).encode_to_vec(),
        Version::Two => v2::Request::of(batch).encode_to_vec(),
    };
    // It refuses more than 4 GiB; a batch is cut far below.
    snap::raw::Encoder::new().compress_vec(&plain).unwrap_or_default()
}

/// Reads a body.
///
/// # Errors
/// [`Error`]; then nothing of it is to be stored.
pub fn decode(version: Version, packed: &[u8]) -> Result<Received, Error> {
    at_most("bytes of an unpacked body", snap::raw::decompress_len(packed)?, MAX_PLAIN_BYTES)?;
    let plain = snap::raw::Decoder::new().decompress_vec(packed)?;
    let (mut reading, mut label_bytes) = (Reading::default(), LabelBytes::default());
    match version {
        Version::One => each_field(&plain, |tag, bytes| match tag {
            1 => {
                at_most("bytes of a series", bytes.len(), MAX_SERIES_BYTES)?;
                let series = v1::Series::decode(bytes)?;
                label_bytes.take(series.labels.iter().map(|label| (label.name.len(), label.value.len())))?;
                let labels = series.labels.into_iter().map(|label| (label.name.into(), label.value.into()));
                reading.take(labels.collect(), &series.samples, &series.histograms, &series.exemplars)
            }
            _ => Ok(()),
        })?,
        Version::Two => {
            let symbols = symbols(&plain)?;
            each_field(&plain, |tag, bytes| match tag {
                5 => {
                    at_most("bytes of a series", bytes.len(), MAX_SERIES_BYTES)?;
                    let series = v2::Series::decode(bytes)?;
                    let labels = pairs(&symbols, &series.labels_refs, &mut label_bytes)?;
                    reading.take(labels, &series.samples, &series.histograms, &series.exemplars)
                }
                _ => Ok(()),
            })?;
        }
    }
    Ok(reading.received)
}

#[derive(Default)]
struct Reading {
    received: Received,
    samples: usize,
}

impl Reading {
    fn take(
        &mut self,
        labels: LabelPairs,
        samples: &[message::Sample],
        histograms: &[message::Unread],
        exemplars: &[message::Unread],
    ) -> Result<(), Error> {
        self.samples += samples.len();
        at_most("samples", self.samples, MAX_SAMPLES)?;
        let received = &mut self.received;
        received.histograms += histograms.len() as u64;
        received.exemplars += exemplars.len() as u64;
        match Labels::from_pairs(labels) {
            // Metadata may come alone.
            Ok(_) if samples.is_empty() => {}
            Ok(labels) => {
                let sample = |sample: &message::Sample| Sample {
                    at_ms: sample.timestamp,
                    value: sample.value.unwrap_or_default(),
                };
                let mut samples: Vec<_> = samples.iter().map(sample).collect();
                samples.sort_by_key(|sample| sample.at_ms);
                received.series.push(SeriesSamples { labels, samples });
            }
            Err(why) => {
                received.refused += samples.len() as u64;
                received.why.get_or_insert(why);
            }
        }
        Ok(())
    }
}

/// The strings of a 2.0 body, wherever in it they stand.
fn symbols(plain: &[u8]) -> Result<Vec<&str>, Error> {
    let mut symbols = Vec::new();
    each_field(plain, |tag, bytes| {
        if tag == 4 {
            at_most("strings", symbols.len() + 1, MAX_SYMBOLS)?;
            let text = str::from_utf8(bytes).map_err(|_| Error::Content("a string that is no UTF-8"))?;
            symbols.push(text);
        }
        Ok(())
    })?;
    match symbols.first() {
        Some(&"") | None => Ok(symbols),
        Some(_) => Err(Error::Content("the first string is not the empty one")),
    }
}

fn pairs(symbols: &[&str], refs: &[u32], label_bytes: &mut LabelBytes) -> Result<LabelPairs, Error> {
    let (pairs, odd) = refs.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(Error::Content("a label without a value"));
    }
    let symbol = |index: u32| {
        let text = usize::try_from(index).ok().and_then(|index| symbols.get(index));
        text.copied().ok_or(Error::Content("a label that is not in the table"))
    };
    let pair = |[name, value]: &[u32; 2]| {
        let (name, value) = (symbol(*name)?, symbol(*value)?);
        label_bytes.take([(name.len(), value.len())])?;
        Ok((name.into(), value.into()))
    };
    pairs.iter().map(pair).collect()
}

/// Calls back for each field that has a length; others of the message are of no matter.
fn each_field<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u32, &'a [u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    while !bytes.is_empty() {
        let (tag, kind) = decode_key(&mut bytes)?;
        if kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut bytes)?).unwrap_or(usize::MAX);
            let cut = Error::Content("it ends in the middle of a field");
            let (field, rest) = bytes.split_at_checked(length).ok_or(cut)?;
            bytes = rest;
            each(tag, field)?;
        } else {
            skip_field(kind, tag, &mut bytes, DecodeContext::default())?;
        }
    }
    Ok(())
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "1.0",
            Self::Two => "2.0",
        })
    }
}

#[cfg(test)]
mod tests;
