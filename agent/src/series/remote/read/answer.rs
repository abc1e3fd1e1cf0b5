//! The API's answers: `{"status":"success","data":...}`, or `error` with its words.
//!
//! A part of an answer is none: what a store could not read from all of its own parts it says by `isPartial`
//! (VictoriaMetrics' cluster) or `warnings` (Thanos, Prometheus with remote reads).

use std::collections::BTreeMap;

use hyper::header::HeaderName;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::series::{Labels, NAME, Sample};
use crate::series::Error;
use crate::series::remote::client::{self, cut};

/// VictoriaMetrics says who it is by this.
const VICTORIA: HeaderName = HeaderName::from_static("x-server-hostname");

/// Labels as they come.
#[derive(Debug, Deserialize)]
pub(super) struct Pairs(BTreeMap<Box<str>, Box<str>>);

impl Pairs {
    /// With the metric's name that an expression dropped.
    pub(super) fn named(mut self, metric: &str) -> Self {
        self.0.insert(NAME.into(), metric.into());
        self
    }

    /// As they are here; none where they could not be.
    pub(super) fn into_labels(self) -> Option<Labels> {
        Labels::from_pairs(self.0.into_iter().collect()).ok()
    }
}

/// One series of an answer.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) labels: Pairs,
    /// In ascending order.
    pub(super) samples: Vec<Sample>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Envelope<T> {
    data: Option<T>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: Pairs,
    /// Seconds since the epoch, and the value as text. A series of native histograms has none.
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// The samples of an instant query of a range selector.
pub(super) fn matrix(answer: &client::Answer) -> Result<Vec<Matrix>, Error> {
    let data: Data = data(answer)?;
    let victoria = is_victoria(answer);
    data.result.into_iter().map(|series| series.read(victoria)).collect()
}

/// VictoriaMetrics gave it.
pub(super) fn is_victoria(answer: &client::Answer) -> bool {
    answer.headers.contains_key(VICTORIA)
}

#[derive(Deserialize)]
struct Vector {
    result: Vec<Moment>,
}

#[derive(Deserialize)]
struct Moment {
    metric: Pairs,
    value: (f64, String),
}

/// The times that an instant query gives as values: seconds there, ms since the epoch here.
pub(super) fn times(answer: &client::Answer) -> Result<Vec<(Pairs, i64)>, Error> {
    let data: Vector = data(answer)?;
    let time = |moment: Moment| Some((moment.metric, ms(moment.value.1.parse().ok()?)));
    Ok(data.result.into_iter().filter_map(time).collect())
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; times that were asked for fit")]
fn ms(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// A list of whatever was asked for.
pub(super) fn list<T: DeserializeOwned>(answer: &client::Answer) -> Result<Vec<T>, Error> {
    data(answer)
}

fn data<T: DeserializeOwned>(answer: &client::Answer) -> Result<T, Error> {
    let Ok(envelope) = serde_json::from_slice::<Envelope<T>>(&answer.body) else {
        return Err(Error::Remote(format!(
            "{}: no answer of Prometheus' API; is read_url right?",
            answer.words()
        )));
    };
    if let Some(error) = envelope.error {
        return Err(Error::Remote(cut(&format!("{}: {error}", answer.status))));
    }
    if envelope.is_partial || !envelope.warnings.is_empty() {
        let words = envelope.warnings.first().map_or("isPartial", String::as_str);
        return Err(Error::Remote(cut(&format!("it has only a part of the answer: {words}"))));
    }
    let data = envelope.data.filter(|_| answer.status.is_success());
    data.ok_or_else(|| Error::Remote(format!("{}: an answer without data", answer.words())))
}

impl Series {
    fn read(self, victoria: bool) -> Result<Matrix, Error> {
        let mut samples = Vec::with_capacity(self.values.len());
        for (seconds, text) in self.values {
            let odd = || Error::Remote(format!("{:?} is no value", cut(&text)));
            let value: f64 = text.parse().map_err(|_| odd())?;
            if victoria && value.is_nan() {
                continue;
            }
            samples.push(Sample { at_ms: ms(seconds), value });
        }
        samples.sort_by_key(|sample| sample.at_ms);
        Ok(Matrix { labels: self.metric, samples })
    }
}
