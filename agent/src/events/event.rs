//! An event as it is posted, and what of it can be written into an exposition.
//!
//! A series is written once, when it comes, as every exposition will have it: `name{a="b",c="d"}`, labels in their order,
//! values escaped. Two events of the same series are the same text.
//!
//! Sources: the text format 0.0.4 and OpenMetrics 1.0; scrapers end a text at a NUL byte wherever it stands, and take a
//! label with an empty value for none.

use std::collections::BTreeMap;

/// Of labels: more than any dashboard shows.
const MAX_LABELS: usize = 32;
/// Bytes of a name.
const MAX_NAME_BYTES: usize = 128;
/// Bytes of a label's value: a line or ten of a message.
const MAX_VALUE_BYTES: usize = 1_024;
/// Bytes of a series, written: what all labels together may take.
const MAX_SERIES_BYTES: usize = 4_096;
/// Bytes of an id: two UUIDs and a word.
const MAX_ID_BYTES: usize = 128;

/// First words of the families that a role has beside events: a family comes once in an exposition.
pub const RESERVED_PREFIXES: [&str; 9] =
    ["sextant_", "process_", "gthulhu_", "message_", "messages_", "broker_", "nr_", "usersched_", "scrape_"];

/// Ends of names that make another family's samples of a family's name.
const RESERVED_SUFFIXES: [&str; 9] =
    ["_total", "_seen", "_count", "_counts", "_sum", "_bucket", "_created", "_info", "_gcount"];

/// An event as somebody says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewEvent {
    /// Name of its metric; none is the configured one.
    pub name: Option<String>,
    /// In any order.
    pub labels: Vec<(String, String)>,
    /// NaN and infinities are values.
    pub value: f64,
    /// Names it, so that it counts once however often it is posted.
    pub id: Option<String>,
}

/// Why an event cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a metric's name.
    #[error(
        "{0:?} is no metric name: letters, digits, `_` and `:`, not beginning with a digit, at most {MAX_NAME_BYTES}"
    )]
    Name(String),
    /// A name that others have.
    #[error("{0:?} is reserved: it begins or ends as names that this process has itself")]
    ReservedName(String),
    /// Not a label's name.
    #[error(
        "{0:?} is no label name: letters, digits and `_`, not beginning with a digit, at most {MAX_NAME_BYTES}"
    )]
    Label(String),
    /// A label's name that Prometheus keeps for itself.
    #[error("the label {0:?} is reserved: names beginning with `__` are Prometheus' own")]
    ReservedLabel(String),
    /// A label twice.
    #[error("the label {0:?} comes twice")]
    LabelTwice(String),
    /// A value twice.
    #[error("`{0}` comes twice")]
    Twice(&'static str),
    /// A label without a value.
    #[error("the label {0:?} is empty: Prometheus takes that for no label")]
    EmptyLabel(String),
    /// What no exposition can hold.
    #[error("the label {0:?} has a NUL character, which ends an exposition")]
    Nul(String),
    /// Bytes that are no text.
    #[error("{0} is no UTF-8")]
    Encoding(String),
    /// More than is taken.
    #[error("{what}: {size} are more than {limit}")]
    TooLong {
        /// Of what.
        what: String,
        /// How much.
        size: usize,
        /// How much is taken.
        limit: usize,
    },
    /// Not a number.
    #[error("value {0:?} is no number, such as 1, 0.5, 1e9, NaN or +Inf")]
    Value(String),
    /// Not an id.
    #[error("an id has 1 to {MAX_ID_BYTES} bytes and no control characters")]
    Id,
}

/// An event that can be written into any exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub(super) series: String,
    pub(super) value: f64,
    pub(super) id: Option<String>,
}

impl NewEvent {
    /// Checks and writes it.
    ///
    /// # Errors
    /// The first reason why it cannot be taken.
    pub fn check(self, default_name: &str) -> Result<Checked, Invalid> {
        let name = match self.name {
            None => default_name.to_owned(),
            Some(name) if name == default_name => name,
            Some(name) => check_name(&name).map(|()| name)?,
        };
        let limit = |what: String, size: usize, limit: usize| {
            if size > limit { Err(Invalid::TooLong { what, size, limit }) } else { Ok(()) }
        };
        limit("labels".to_owned(), self.labels.len(), MAX_LABELS)?;
        let mut labels = BTreeMap::new();
        for (label, value) in self.labels {
            // The reference takes blanks in names so.
            let label = label.replace(' ', "_");
            check_label(&label)?;
            if value.is_empty() {
                return Err(Invalid::EmptyLabel(label));
            }
            if value.contains('\0') {
                return Err(Invalid::Nul(label));
            }
            limit(format!("bytes of the label {label:?}"), value.len(), MAX_VALUE_BYTES)?;
            if labels.contains_key(&label) {
                return Err(Invalid::LabelTwice(label));
            }
            labels.insert(label, value);
        }
        let series = write_series(&name, &labels);
        limit("bytes of all labels".to_owned(), series.len(), MAX_SERIES_BYTES)?;
        let id = self.id.map(|id| check_id(&id).map(|()| id)).transpose()?;
        Ok(Checked { series, value: self.value, id })
    }
}

impl Checked {
    /// As expositions have it.
    #[must_use]
    pub fn series(&self) -> &str {
        &self.series
    }
}

/// A value as it is posted.
///
/// # Errors
/// [`Invalid::Value`].
pub fn parse_value(text: &str) -> Result<f64, Invalid> {
    text.trim().parse().map_err(|_| Invalid::Value(text.chars().take(64).collect()))
}

/// The name and the labels of a written series.
#[must_use]
pub fn read_series(series: &str) -> (&str, BTreeMap<String, String>) {
    let Some((name, rest)) = series.split_once('{') else { return (series, BTreeMap::new()) };
    let (mut labels, mut rest) = (BTreeMap::new(), rest);
    while let Some((label, behind)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = behind.char_indices();
        let mut end = behind.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped)) => value.push(escaped),
                    None => {}
                },
                other => value.push(other),
            }
        }
        labels.insert(label.to_owned(), value);
        rest = behind[end..].trim_start_matches(',');
    }
    (name, labels)
}

/// Checks the name that a configuration gives to events without one.
pub(super) fn check_default_name(name: &str) -> Result<(), Invalid> {
    check_name(name)
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(first) && bytes.all(|byte| first(byte) || byte.is_ascii_digit());
    if !good || name.len() > MAX_NAME_BYTES || name.starts_with("__") {
        return Err(Invalid::Name(name.chars().take(MAX_NAME_BYTES).collect()));
    }
    let reserved = RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || RESERVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        || name == "up";
    if reserved { Err(Invalid::ReservedName(name.to_owned())) } else { Ok(()) }
}

fn check_label(label: &str) -> Result<(), Invalid> {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let mut bytes = label.bytes();
    let good = bytes.next().is_some_and(first) && bytes.all(|byte| first(byte) || byte.is_ascii_digit());
    if !good || label.len() > MAX_NAME_BYTES {
        return Err(Invalid::Label(label.chars().take(MAX_NAME_BYTES).collect()));
    }
    if label.starts_with("__") { Err(Invalid::ReservedLabel(label.to_owned())) } else { Ok(()) }
}

fn check_id(id: &str) -> Result<(), Invalid> {
    let good = (1..=MAX_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control);
    if good { Ok(()) } else { Err(Invalid::Id) }
}

fn write_series(name: &str, labels: &BTreeMap<String, String>) -> String {
    let mut series = name.to_owned();
    for (at, (label, value)) in labels.iter().enumerate() {
        series.push(if at == 0 { '{' } else { ',' });
        series.push_str(label);
        series.push_str("=\"");
        for char in value.chars() {
            match char {
                '\\' => series.push_str("\\\\"),
                '"' => series.push_str("\\\""),
                '\n' => series.push_str("\\n"),
                other => series.push(other),
            }
        }
        series.push('"');
    }
    if !labels.is_empty() {
        series.push('}');
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(labels: &[(&str, &str)]) -> NewEvent {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        NewEvent { labels, value: 1.0, ..NewEvent::default() }
    }

    #[test]
    fn a_series_is_written_in_one_way_and_read_back() {
        let checked = event(&[("z", "1"), ("a b", "q\"\\\n,}=\"")]).check("events").unwrap();
        assert_eq!(checked.series, "events{a_b=\"q\\\"\\\\\\n,}=\\\"\",z=\"1\"}");
        let (name, labels) = read_series(&checked.series);
        assert_eq!(name, "events");
        assert_eq!(labels["a_b"], "q\"\\\n,}=\"");
        assert_eq!(labels["z"], "1");
        assert_eq!(event(&[]).check("events").unwrap().series, "events");
        assert_eq!(read_series("events"), ("events", BTreeMap::new()));
    }

    #[test]
    fn what_would_spoil_an_exposition_is_refused_with_its_reason() {
        let why = |event: NewEvent| event.check("events").unwrap_err().to_string();
        for (label, words) in [
            ("", "no label name"),
            ("1a", "no label name"),
            ("a-b", "no label name"),
            ("ä", "no label name"),
            ("__name", "reserved"),
        ] {
            assert!(why(event(&[(label, "x")])).contains(words), "{label}");
        }
        assert!(why(event(&[("a", "")])).contains("empty"));
        assert!(why(event(&[("a", "x\0y")])).contains("NUL"));
        assert!(why(event(&[("a", "1"), ("a", "2")])).contains("twice"));
        assert!(why(event(&[("a b", "1"), ("a_b", "2")])).contains("twice"));
        assert!(why(event(&[("a", &"x".repeat(1_025))])).contains("1024"));
        let many: Vec<_> = (0..33).map(|n| (format!("l{n}"), "x".to_owned())).collect();
        assert!(why(NewEvent { labels: many, ..NewEvent::default() }).contains("32"));
        let long: Vec<_> = (0..5).map(|n| (format!("l{n}"), "x".repeat(1_000))).collect();
        assert!(why(NewEvent { labels: long, ..NewEvent::default() }).contains("4096"));
        for name in
            ["", "1", "a b", "sextant_x", "process_cpu", "up", "x_total", "events_seen", "x_bucket", "__x"]
        {
            let named = NewEvent { name: Some(name.to_owned()), ..NewEvent::default() };
            assert!(named.check("events").is_err(), "{name}");
        }
        assert!(NewEvent { id: Some("a\nb".to_owned()), ..NewEvent::default() }.check("events").is_err());
        assert!(NewEvent { name: Some("deploys".to_owned()), ..NewEvent::default() }.check("events").is_ok());
    }

    #[test]
    fn values_are_numbers() {
        assert!(parse_value("NaN").unwrap().is_nan());
        assert!(parse_value(" 1e-9 ").is_ok_and(|value| value == 1e-9));
        assert_eq!(parse_value("-Inf"), Ok(f64::NEG_INFINITY));
        for wrong in ["", "one", "1,5", "0x"] {
            assert!(parse_value(wrong).is_err(), "{wrong}");
        }
    }
}
