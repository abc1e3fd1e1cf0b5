//! Reading lines: a cursor over the text, so that a line end between the quotes of a text field is part of the field.
//!
//! Every line is read before anything is given back: a bad one is named, and nothing of its body is taken. Each field is a
//! series with all tags of its line, so that a body of a megabyte can name gigabytes of them: they are counted
//! ([`super::super::label_bytes`]). Text fields are left out, since a text is no sample; `true` is 1 and `false` is 0. Our
//! own, since the published parser does not say which line is bad and has seen no release since 2023.

use std::borrow::Cow;
use std::collections::hash_map::{Entry, HashMap};

use super::Precision;
use crate::domain::series::{LabelError, Labels, MAX_LABELS, NAME, Sample, SeriesSamples};
use crate::series::limit::{Over, at_most};
use crate::series::remote::label_bytes::LabelBytes;

/// Samples of a body: 5 MiB of short lines.
const MAX_SAMPLES: usize = 200_000;

/// Why a body cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {words}")]
pub struct Error {
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub words: String,
    /// Nothing but that there is too much of it.
    pub too_large: bool,
}

/// What lines do not say themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// Unit of their times.
    pub precision: Precision,
    /// Time of lines that have none, ms since the epoch.
    pub now_ms: i64,
    /// The database of the first version, which becomes the label `db` where a line has none; empty means none.
    pub database: &'a str,
}

/// Reads lines: each series once, its samples in ascending order; of those with the same time the last in the text is the
/// last here.
///
/// # Errors
/// The first line that is none.
pub fn decode(text: &str, given: Given<'_>) -> Result<Vec<SeriesSamples>, Error> {
    let mut cursor = Cursor { text, at: 0, line: 1, begun: 1 };
    // By labels, with their place in the text.
    let mut series: HashMap<Labels, (usize, Vec<Sample>)> = HashMap::new();
    let mut label_bytes = LabelBytes::default();
    let mut count = 0;
    loop {
        let point = cursor.point();
        let line = cursor.begun;
        let wrong = |words: String| Error { line, words, too_large: false };
        let too_large = |over: Over| Error { line, words: over.to_string(), too_large: true };
        let Some(point) = point.map_err(wrong)? else { break };
        let at_ms = match point.time {
            None => given.now_ms,
            Some(time) => {
                given.precision.to_ms(time).ok_or_else(|| wrong(format!("time {time} is too large")))?
            }
        };
        count += point.fields.len();
        at_most("samples", count, MAX_SAMPLES).map_err(too_large)?;
        for (field, value) in &point.fields {
            let labels = point.labels(field, given.database).map_err(|error| wrong(error.to_string()))?;
            let place = series.len();
            let (_, samples) = match series.entry(labels) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    label_bytes.take_labels(new.key()).map_err(too_large)?;
                    new.insert((place, Vec::new()))
                }
            };
            samples.push(Sample { at_ms, value: *value });
        }
    }
    let mut series: Vec<_> = series.into_iter().collect();
    series.sort_unstable_by_key(|(_, (place, _))| *place);
    let in_order = |(labels, (_, mut samples)): (Labels, (usize, Vec<Sample>))| {
        samples.sort_by_key(|sample| sample.at_ms);
        SeriesSamples { labels, samples }
    };
    Ok(series.into_iter().map(in_order).collect())
}

/// A line that has something to say.
struct Point<'a> {
    measurement: Cow<'a, str>,
    tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Those that are numbers.
    fields: Vec<(Cow<'a, str>, f64)>,
    time: Option<i64>,
}

impl Point<'_> {
    fn labels(&self, field: &str, database: &str) -> Result<Labels, LabelError> {
        let metric = name(&format!("{}_{field}", self.measurement), true);
        let mut pairs: Vec<(Box<str>, Box<str>)> = vec![(NAME.into(), metric.into())];
        pairs.extend(self.tags.iter().map(|(tag, value)| (name(tag, false).into(), value.as_ref().into())));
        if !database.is_empty() && !self.tags.iter().any(|(tag, _)| tag == "db") {
            pairs.push(("db".into(), database.into()));
        }
        Labels::from_pairs(pairs)
    }
}

/// With `_` where a name cannot have the letter.
fn name(text: &str, metric: bool) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || (metric && letter == ':');
    let mut name: String = text.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Of the place, from 1 on.
    line: usize,
    /// Where what is being read began.
    begun: usize,
}

impl<'a> Cursor<'a> {
    /// The next line with something in it; none at the end.
    fn point(&mut self) -> Result<Option<Point<'a>>, String> {
        loop {
            self.skip(b" \r");
            match self.peek() {
                None => return Ok(None),
                Some(b'\n') => self.end_line(),
                Some(b'#') => self.skip_line(),
                Some(_) => break,
            }
        }
        self.begun = self.line;
        let measurement = self.token(b", ");
        if measurement.is_empty() {
            return Err("no measurement".to_owned());
        }
        let mut tags = Vec::new();
        while self.takes(b',') {
            let key = self.token(b"=, ");
            if key.is_empty() || !self.takes(b'=') {
                return Err(format!("tag {:?} has no name or no value", cut(&key)));
            }
            let value = self.token(b"=, ");
            if self.peek() == Some(b'=') {
                return Err(format!("tag {:?} has a = in its value that is not escaped", cut(&key)));
            }
            tags.push((key, value));
            if tags.len() > MAX_LABELS {
                return Err(LabelError::TooMany(tags.len()).to_string());
            }
        }
        self.skip(b" ");
        let mut fields = Vec::new();
        loop {
            let key = self.token(b"=, ");
            if key.is_empty() || !self.takes(b'=') {
                return Err(format!("field {:?} has no name or no value", cut(&key)));
            }
            if let Some(value) = self.value(&key)? {
                fields.push((key, value));
            }
            if fields.len() > MAX_SAMPLES {
                break;
            }
            if !self.takes(b',') {
                break;
            }
        }
        let time = self.time()?;
        Ok(Some(Point { measurement, tags, fields, time }))
    }

    /// A field's number; none where it is a text.
    fn value(&mut self, key: &str) -> Result<Option<f64>, String> {
        if self.takes(b'"') {
            return self
                .quoted()
                .map(|()| None)
                .ok_or_else(|| format!("field {:?}: its text has no end", cut(key)));
        }
        let text = self.until(|byte| matches!(byte, b',' | b' ' | b'\n' | b'\r'));
        number(text).map(Some).ok_or_else(|| format!("field {:?}: {:?} is no value", cut(key), cut(text)))
    }

    /// Past the end of a text.
    fn quoted(&mut self) -> Option<()> {
        loop {
            let byte = self.peek()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    if matches!(self.peek(), Some(b'"' | b'\\')) {
                        self.at += 1;
                    }
                }
                b'\n' => self.line += 1,
                _ => {}
            }
        }
    }

    fn time(&mut self) -> Result<Option<i64>, String> {
        self.skip(b" ");
        let text = self.until(|byte| matches!(byte, b' ' | b'\n' | b'\r'));
        self.skip(b" \r");
        if !matches!(self.peek(), None | Some(b'\n')) {
            return Err("more than measurement, fields and time".to_owned());
        }
        if self.peek().is_some() {
            self.end_line();
        }
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| format!("{:?} is no time", cut(text)))
    }

    /// Up to one of these letters or the line's end, where they are not escaped.
    fn token(&mut self, ends: &[u8]) -> Cow<'a, str> {
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        while let Some(byte) = self.peek() {
            if byte == b'\\'
                && self.text.as_bytes().get(self.at + 1).is_some_and(|next| b",= ".contains(next))
            {
                let text = owned.get_or_insert_default();
                text.push_str(&self.text[copied..self.at]);
                // The letter itself is copied with what follows it.
                copied = self.at + 1;
                self.at += 2;
            } else if ends.contains(&byte) || byte == b'\n' {
                break;
            } else {
                self.at += 1;
            }
        }
        match owned {
            None => Cow::Borrowed(&self.text[start..self.at]),
            Some(mut text) => {
                text.push_str(&self.text[copied..self.at]);
                Cow::Owned(text)
            }
        }
    }

    fn until(&mut self, end: impl Fn(u8) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(end).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn skip(&mut self, bytes: &[u8]) {
        self.until(|byte| !bytes.contains(&byte));
    }

    fn skip_line(&mut self) {
        self.until(|byte| byte == b'\n');
        if self.peek().is_some() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        self.at += 1;
        self.line += 1;
    }
}

/// A float, an integer (`5i`), an unsigned one (`5u`) or a truth value.
fn number(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Some(0.0),
        _ => {}
    }
    // Integers beyond 2^53 lose their last digits, as in every store of floats.
    if let Some(digits) = text.strip_suffix('i') {
        return digits.parse::<i64>().ok().map(|value| value as f64);
    }
    if let Some(digits) = text.strip_suffix('u') {
        return digits.parse::<u64>().ok().map(|value| value as f64);
    }
    // Rust would read `nan` and `infinity` too.
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|value: &f64| plain && value.is_finite())
}

/// As much of a client's own text as an error repeats.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}
