//! The body of `POST /api/v1/metrics`: one record, or a batch of them.
//!
//! A single record is accepted and rejected as Go's `encoding/json` decoder does it for the reference's
//! struct, because senders were written against that: the content type is not looked at; only the first
//! value counts and whatever follows it is ignored; `null` and `{}` are records without a value; unknown keys
//! are ignored whatever they hold; keys match without regard to case (Go's simple folding, so `ſ` is `s`); the
//! last of duplicate keys wins, but one bad duplicate is an error; a field's `null` changes nothing; numbers
//! are decimal integers without sign, fraction or exponent (`-0`, `1.0` and `1e3` are refused), 32 bits wide
//! for `usersched_pid` and 64 for the rest; invalid UTF-8 and lone surrogates inside strings are tolerated;
//! more than 10,000 levels of nesting are refused. Both generations' first keys are known, so a bad value of
//! either is an error, where each generation knows (and checks) only its own.
//!
//! Two forms are ours: a top-level array of records (Go refuses one), and an object whose `metrics` is an array
//! (Go ignores that key; with any other value we ignore it too). A batch is taken whole or refused whole, and
//! the error names the record and the field.
//!
//! Syntax is serde_json's; this file only walks one level of keys and judges their values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::api::bss::Record;
use crate::domain::bss::{BssField, BssRecord};

/// Records in one batch: each becomes a record of its own in one spool transaction, so the bound is on the
/// time that one request may hold the spool.
pub const MAX_BATCH: usize = 1_000;

/// Go's own bound.
const MAX_DEPTH: usize = 10_000;

/// Bytes of a refused number that the message repeats.
const MAX_ECHO: usize = 64;

/// Why a body was refused. The texts begin as Go's do, up to the words for the target.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing but blanks.
    #[error("EOF")]
    Empty,
    /// The value does not end.
    #[error("unexpected EOF ({0})")]
    Truncated(#[source] serde_json::Error),
    /// Not JSON.
    #[error("invalid character ({0})")]
    Syntax(#[source] serde_json::Error),
    /// Nested too deeply.
    #[error("invalid character: exceeded max depth of {MAX_DEPTH}")]
    TooDeep,
    /// JSON of the wrong type.
    #[error("json: cannot unmarshal {found} into {target}")]
    Type {
        /// `string`, `number -1` ...
        found: String,
        /// The field and its type, or the record.
        target: String,
    },
    /// A batch without a record: a sender's mistake, as nothing would be stored.
    #[error("json: a batch needs at least one record")]
    EmptyBatch,
    /// A batch beside single fields: one of the two would be lost.
    #[error("json: field {0} stands beside the batch in metrics")]
    Mixed(&'static str),
    /// More than [`MAX_BATCH`] records.
    #[error("json: a batch of {0} records, {MAX_BATCH} are allowed")]
    BatchTooLong(usize),
}

/// What a body holds: at least one record.
#[derive(Debug, PartialEq, Eq)]
pub struct Posted {
    /// The records, in the body's order.
    pub records: Vec<Record>,
    /// Sent as a batch.
    pub batch: bool,
}

/// Decodes a body.
///
/// # Errors
/// [`BodyError`]: the body is not what the module documentation describes.
pub fn decode(body: &[u8]) -> Result<Posted, BodyError> {
    let value = first_value(body)?;
    if value.starts_with('[') {
        return batch(&value, "");
    }
    let object = Object::from_text(&value, "")?;
    let Some(metrics) = object.metrics else {
        return Ok(Posted { records: vec![(&object.record).into()], batch: false });
    };
    if let Some((field, _)) = object.record.iter().find(|(_, value)| value.is_some()) {
        return Err(BodyError::Mixed(field.name()));
    }
    batch(metrics.get(), "metrics")
}

/// The text of the body's first value, checked for syntax and depth. Bytes that are not UTF-8 can only stand
/// inside its strings and are replaced, as Go does.
fn first_value(body: &[u8]) -> Result<Cow<'_, str>, BodyError> {
    let start = body.iter().position(|byte| !b" \t\r\n".contains(byte)).ok_or(BodyError::Empty)?;
    let body = &body[start..];
    let mut de = serde_json::Deserializer::from_slice(body);
    IgnoredAny::deserialize(&mut de).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => BodyError::Truncated(error),
        _ => BodyError::Syntax(error),
    })?;
    let value = &body[..de.into_iter::<IgnoredAny>().byte_offset()];
    if depth(value) > MAX_DEPTH {
        return Err(BodyError::TooDeep);
    }
    Ok(String::from_utf8_lossy(value))
}

/// Levels of brackets of a valid JSON value.
fn depth(value: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for &byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn batch(text: &str, path: &str) -> Result<Posted, BodyError> {
    let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(BodyError::Syntax)?;
    match entries.len() {
        0 => return Err(BodyError::EmptyBatch),
        n if n > MAX_BATCH => return Err(BodyError::BatchTooLong(n)),
        _ => {}
    }
    let record = |(index, entry): (usize, &&RawValue)| {
        let path = format!("{path}[{index}]");
        Object::from_text(entry.get(), &path).map(|object| (&object.record).into())
    };
    let records = entries.iter().enumerate().map(record).collect::<Result<_, _>>()?;
    Ok(Posted { records, batch: true })
}

/// One level of keys.
#[derive(Default)]
struct Object<'a> {
    record: BssRecord,
    /// `metrics`, where it is an array.
    metrics: Option<&'a RawValue>,
    /// The first value of a wrong type; like Go we read on to the end.
    error: Option<BodyError>,
}

impl<'a> Object<'a> {
    /// `path` names the record in messages: empty for the body itself, `metrics[3]` in a batch.
    fn from_text(text: &'a str, path: &str) -> Result<Self, BodyError> {
        match text.as_bytes().first() {
            Some(b'{') => {}
            // An element of a batch that holds nothing is a sender's mistake; a whole body is Go's case.
            Some(b'n') if path.is_empty() => return Ok(Self::default()),
            _ => {
                let target = if path.is_empty() { "the record" } else { path };
                let found = kind(text).to_owned();
                return Err(BodyError::Type { found, target: target.to_owned() });
            }
        }
        let mut de = serde_json::Deserializer::from_str(text);
        let object = de.deserialize_map(ObjectVisitor { path }).map_err(BodyError::Syntax)?;
        object.error.map_or(Ok(Self { error: None, ..object }), Err)
    }

    fn set(&mut self, field: BssField, text: &str, path: &str) {
        match number(field, text) {
            Ok(None) => {}
            Ok(value) => self.record.set(field, value),
            Err(found) => {
                let dot = if path.is_empty() { "" } else { "." };
                let target = format!("field {path}{dot}{} of type {}", field.name(), type_of(field));
                self.error.get_or_insert(BodyError::Type { found, target });
            }
        }
    }
}

/// `Ok(None)` is JSON's null; the error says what stands there.
fn number(field: BssField, text: &str) -> Result<Option<u64>, String> {
    match kind(text) {
        "null" => Ok(None),
        "number" => {
            let wide = text.parse::<u64>().ok();
            let fits = wide.filter(|&value| field != BssField::UserschedPid || u32::try_from(value).is_ok());
            let echo = text.get(..MAX_ECHO).map_or_else(|| text.to_owned(), |head| format!("{head}..."));
            fits.map(Some).ok_or_else(|| format!("number {echo}"))
        }
        other => Err(other.to_owned()),
    }
}

const fn type_of(field: BssField) -> &'static str {
    if matches!(field, BssField::UserschedPid) { "uint32" } else { "uint64" }
}

/// Go's word for a valid value's type.
const fn kind(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "null",
        _ => "number",
    }
}

struct ObjectVisitor<'p> {
    path: &'p str,
}

impl<'de> Visitor<'de> for ObjectVisitor<'_> {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object::default();
        while let Some(key) = map.next_key()? {
            match key {
                Key::Field(field) => object.set(field, map.next_value::<&RawValue>()?.get(), self.path),
                Key::Metrics if self.path.is_empty() => {
                    let value: &RawValue = map.next_value()?;
                    object.metrics = value.get().starts_with('[').then_some(value);
                }
                Key::Metrics | Key::Unknown => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(object)
    }
}

enum Key {
    Field(BssField),
    Metrics,
    Unknown,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key, E> {
                // Lone surrogates arrive as bytes that are no UTF-8: such a key is none of ours.
                let key = std::str::from_utf8(key).unwrap_or_default();
                let field = BssField::ALL.into_iter().find(|field| same_key(key, field.name()));
                Ok(field.map_or(if key == "metrics" { Key::Metrics } else { Key::Unknown }, Key::Field))
            }
        }
        // As bytes, serde_json lets lone surrogates through.
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

/// Go's simple case folding for an ASCII name: two letters beyond ASCII fold onto it.
fn same_key(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        'ſ' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars())
}

#[cfg(test)]
mod tests;
