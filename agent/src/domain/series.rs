//! Time series: labels, samples, and which series somebody asks for.
//!
//! The data model is Prometheus': a series is a set of labels, the metric's name among them as `__name__`; a sample is a
//! float at a millisecond. Names of metrics and labels are the classic ones, letters, digits, `_` and (metrics) `:`, since
//! they are written unquoted into expositions and into other stores' queries.

use std::fmt;
use std::sync::Arc;

mod bucket;
mod select;
mod statistics;

pub use self::bucket::{Aggregation, Bucketed, bucketed, end_of};
pub use self::select::{Matcher, Operator, Range, Selection};
pub use self::statistics::{Statistics, increase};

/// The label that holds the metric's name.
pub const NAME: &str = "__name__";

/// Labels of one series: what other stores take (Prometheus has no limit, Mimir 30), the name included.
pub const MAX_LABELS: usize = 40;

/// Bytes of a label's name, and of a metric's.
pub const MAX_NAME_BYTES: usize = 200;

/// Bytes of a label's value: a cgroup's path fits.
pub const MAX_VALUE_BYTES: usize = 1_024;

/// What Prometheus writes where a series ends: this very NaN.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A value at a time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Wall time, ms since the epoch.
    pub at_ms: i64,
    /// Any float, NaN and infinities included.
    pub value: f64,
}

impl Sample {
    /// Where a series ends.
    #[must_use]
    pub const fn stale(at_ms: i64) -> Self {
        Self { at_ms, value: f64::from_bits(STALE_BITS) }
    }

    /// It says that the series ended, and is no value.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.value.to_bits() == STALE_BITS
    }
}

/// Bit for bit: a NaN is the same NaN.
impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.at_ms == other.at_ms && self.value.to_bits() == other.value.to_bits()
    }
}

impl Eq for Sample {}

/// A series' samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesSamples {
    /// Which series.
    pub labels: Labels,
    /// Its samples; ascending where they were read.
    pub samples: Vec<Sample>,
}

/// Why labels are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelError {
    /// There is no metric name.
    NoName,
    /// A name with other letters than it may have, or too long; its first 64 letters.
    Name(String),
    /// The same name twice.
    Twice(String),
    /// A value that is too long.
    Value {
        /// Of which label.
        label: String,
        /// Its bytes.
        size_bytes: usize,
    },
    /// More labels than a series may have.
    TooMany(usize),
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoName => write!(f, "a series has a metric name, as label {NAME}"),
            Self::Name(name) => {
                write!(
                    f,
                    "{name:?} is no name: 1 to {MAX_NAME_BYTES} letters, digits, underscores, no digit first"
                )
            }
            Self::Twice(name) => write!(f, "label {name} is there twice"),
            Self::Value { label, size_bytes } => {
                write!(f, "label {label} has {size_bytes} bytes, at most {MAX_VALUE_BYTES}")
            }
            Self::TooMany(count) => write!(f, "{count} labels, at most {MAX_LABELS}"),
        }
    }
}

impl std::error::Error for LabelError {}

/// The labels of one series, by name; none is empty, none is there twice, one is the metric's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Box<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// A metric with labels in any order; an empty value is no label, as everywhere in this data model.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn new<N, V>(metric: &str, labels: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: Into<Arc<str>>,
        V: Into<Arc<str>>,
    {
        let name: (Arc<str>, Arc<str>) = (NAME.into(), metric.into());
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self::from_pairs(std::iter::once(name).chain(labels).collect())
    }

    /// As [`Labels::new`], with the metric's name among the pairs. What is too long is neither compared nor copied
    /// here: it may be as long as a body, and be named by each of its series.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn from_pairs<T>(mut pairs: Vec<(T, T)>) -> Result<Self, LabelError>
    where
        T: AsRef<str> + Into<Arc<str>> + Ord,
    {
        pairs.retain(|(_, value)| !value.as_ref().is_empty());
        if pairs.len() > MAX_LABELS {
            return Err(LabelError::TooMany(pairs.len()));
        }
        for (name, value) in &pairs {
            let (name, size_bytes) = (name.as_ref(), value.as_ref().len());
            if !is_name(name, false) {
                return Err(LabelError::Name(cut(name)));
            }
            if size_bytes > MAX_VALUE_BYTES {
                return Err(LabelError::Value { label: name.to_owned(), size_bytes });
            }
        }
        pairs.sort_unstable();
        if let Some([(name, _), _]) = pairs.array_windows().find(|[(one, _), (other, _)]| one == other) {
            return Err(LabelError::Twice(name.as_ref().to_owned()));
        }
        let this = Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
        match this.get(NAME) {
            None => Err(LabelError::NoName),
            Some(metric) if !is_name(metric, true) => Err(LabelError::Name(cut(metric))),
            Some(_) => Ok(this),
        }
    }

    /// Of pairs that were [`Labels`] before, in their order.
    #[must_use]
    pub fn from_ordered(pairs: Box<[(Arc<str>, Arc<str>)]>) -> Self {
        Self(pairs)
    }

    /// The metric's name.
    #[must_use]
    pub fn metric(&self) -> &str {
        self.get(NAME).unwrap_or_default()
    }

    /// A label's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// All of them, by name, the metric's included.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

/// `name{label="value",...}`, as expositions have it.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric())?;
        let mut before = "{";
        for (name, value) in self.iter().filter(|(name, _)| *name != NAME) {
            write!(f, "{before}{name}=\"{}\"", Escaped(value))?;
            before = ",";
        }
        f.write_str(if before == "{" { "" } else { "}" })
    }
}

/// A value between quotes, in expositions and in PromQL: `\`, `"` and line ends are escaped, nothing else is special.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['\\', '"', '\n']) {
            let (plain, special) = match part.as_bytes().last() {
                Some(b'\\') => (&part[..part.len() - 1], "\\\\"),
                Some(b'"') => (&part[..part.len() - 1], "\\\""),
                Some(b'\n') => (&part[..part.len() - 1], "\\n"),
                _ => (part, ""),
            };
            f.write_str(plain)?;
            f.write_str(special)?;
        }
        Ok(())
    }
}

/// What [`Escaped`] wrote: a value up to its closing quote, and what follows. `None` where no quote closes it. An unknown
/// escape stands for itself, as every reader of expositions takes it.
#[must_use]
pub fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\'])?;
        value.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if rest[at..].starts_with('"') {
            return Some((value, after));
        }
        let mut letters = after.chars();
        match letters.next()? {
            'n' => value.push('\n'),
            same @ ('"' | '\\') => value.push(same),
            other => value.extend(['\\', other]),
        }
        rest = letters.as_str();
    }
}

/// As much of a name as an error repeats.
fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Whether it can be a label's name, or a metric's (which may have colons).
#[must_use]
pub fn is_name(text: &str, metric: bool) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || (metric && byte == b':');
    let mut bytes = text.bytes();
    text.len() <= MAX_NAME_BYTES
        && bytes.next().is_some_and(letter)
        && bytes.all(|byte| letter(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
