//! InfluxDB's line protocol: written to stores that speak it, and read from clients that do.
//!
//! Format: "Line protocol" of InfluxDB v1 and v2, `measurement,tag=value field=1.5 1700000000000`. A field of a line is a
//! series named `measurement_field`, as VictoriaMetrics names it; letters that a name may not have become `_`. What is
//! written is therefore cut at the name's last `_` into measurement and field, so that such a store gives the same name
//! back, and `value` is the field of a name that has none.
//!
//! The format has no NaN and no infinity, no line end in a tag, and no way to say a `\` before a letter that one escapes:
//! such samples are not written, and counted.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::domain::series::{Labels, NAME, SeriesSamples};

pub mod parse;

/// The field of a metric whose name cannot be cut.
const FIELD: &str = "value";

/// Time that the lines have, as `precision` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `ns`: what is meant where nothing is said.
    #[default]
    Nanoseconds,
    /// `us`
    Microseconds,
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `m`, of the first version.
    Minutes,
    /// `h`, of the first version.
    Hours,
}

impl Precision {
    /// Of a request's parameter, in either version's words.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "" | "ns" | "n" => Self::Nanoseconds,
            "us" | "u" | "µ" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    /// A line's time in ms since the epoch, or none where that is out of all range.
    const fn to_ms(self, time: i64) -> Option<i64> {
        match self {
            Self::Nanoseconds => Some(time.div_euclid(1_000_000)),
            Self::Microseconds => Some(time.div_euclid(1_000)),
            Self::Milliseconds => Some(time),
            Self::Seconds => time.checked_mul(1_000),
            Self::Minutes => time.checked_mul(60_000),
            Self::Hours => time.checked_mul(3_600_000),
        }
    }
}

/// The samples as lines with times in ms, and how many samples cannot be said in this format.
#[must_use]
pub fn encode(batch: &[SeriesSamples]) -> (String, u64) {
    let (mut text, mut unsaid) = (String::new(), 0);
    for one in batch {
        let Some((key, field)) = series(&one.labels) else {
            unsaid += one.samples.len() as u64;
            continue;
        };
        for sample in &one.samples {
            if sample.value.is_finite() {
                // `{:?}` is the shortest text that reads back the same. Writing to a String cannot fail.
                let _ = writeln!(text, "{key} {field}={:?} {}", sample.value, sample.at_ms);
            } else {
                unsaid += 1;
            }
        }
    }
    (text, unsaid)
}

/// The measurement with its tags, and the field.
fn series(labels: &Labels) -> Option<(String, &str)> {
    let metric = labels.metric();
    let cut =
        metric.rsplit_once('_').filter(|(measurement, field)| !measurement.is_empty() && !field.is_empty());
    let (measurement, field) = cut.unwrap_or((metric, FIELD));
    // Names have no letter that would have to be escaped.
    let mut key = measurement.to_owned();
    for (name, value) in labels.iter().filter(|(name, _)| *name != NAME) {
        let _ = write!(key, ",{name}={}", escaped(value)?);
    }
    Some((key, field))
}

/// A tag's value, if it can be said.
fn escaped(value: &str) -> Option<Cow<'_, str>> {
    const SPECIAL: [char; 3] = [',', '=', ' '];
    if value.contains(['\n', '\r']) || value.ends_with('\\') {
        return None;
    }
    let before = |pair: &[u8; 2]| pair[0] == b'\\' && matches!(pair[1], b',' | b'=' | b' ' | b'\\');
    if value.as_bytes().array_windows().any(before) {
        return None;
    }
    if !value.contains(SPECIAL) {
        return Some(Cow::Borrowed(value));
    }
    let mut text = String::with_capacity(value.len() + 8);
    for letter in value.chars() {
        if SPECIAL.contains(&letter) {
            text.push('\\');
        }
        text.push(letter);
    }
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests;
