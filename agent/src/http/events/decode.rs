//! The body and the query of `POST /event`.

use axum::http::{HeaderMap, Uri, header};

use super::pairs::Pairs;
use crate::api::events::{Posted, PostedMany, Value};
use crate::events::Invalid;
use crate::events::event::{NewEvent, parse_value};
use crate::http::ApiError;

/// The events of a post.
///
/// # Errors
/// [`ApiError::Invalid`], [`ApiError::Encoding`] for a body of a kind that is not known, [`ApiError::Oversized`].
pub(super) fn decode(
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    max: usize,
) -> Result<Vec<NewEvent>, ApiError> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match &*kind {
        _ if body.is_empty() => Ok(vec![from_pairs(Pairs::of(query)?)?]),
        "application/x-www-form-urlencoded" => {
            let mut pairs = Pairs::of(query)?;
            pairs.0.extend(Pairs::of(body)?.0);
            Ok(vec![from_pairs(pairs)?])
        }
        // Without a word on its type.
        "" if !body.trim_ascii_start().starts_with(b"{") && !body.trim_ascii_start().starts_with(b"[") => {
            Err(ApiError::Encoding("a body without a type is no event, unless it is JSON".to_owned()))
        }
        "application/json" | "" if !query.is_empty() => {
            Err(ApiError::Invalid("labels are in the query or in the JSON, not in both".to_owned()))
        }
        "application/json" | "" => {
            let posted = from_json(body)?;
            if posted.len() > max {
                return Err(ApiError::Oversized(format!("{} events at once, at most {max}", posted.len())));
            }
            if posted.is_empty() {
                return Err(ApiError::Invalid("no events".to_owned()));
            }
            posted.into_iter().map(event).collect()
        }
        _ => Err(ApiError::Encoding(format!(
            "a body of type {kind:?} is no event: application/json and application/x-www-form-urlencoded are"
        ))),
    }
}

fn from_json(body: &[u8]) -> Result<Vec<Posted>, ApiError> {
    let invalid = |error: serde_json::Error| ApiError::Invalid(format!("invalid JSON: {error}"));
    if body.trim_ascii_start().first() == Some(&b'[') {
        return serde_json::from_slice(body).map_err(invalid);
    }
    let PostedMany { events, labels, value, name, event_id } =
        serde_json::from_slice(body).map_err(invalid)?;
    let one = Posted { labels, value, name, event_id };
    match events {
        None => Ok(vec![one]),
        Some(events) if one == Posted::default() => Ok(events),
        Some(_) => Err(ApiError::Invalid("beside `events` there is nothing else".to_owned())),
    }
}

fn event(posted: Posted) -> Result<NewEvent, ApiError> {
    let value = match posted.value {
        None => 1.0,
        Some(Value::Number(value)) => value,
        Some(Value::Text(text)) => parse_value(&text)?,
    };
    Ok(NewEvent { name: posted.name, labels: posted.labels.0, value, id: posted.event_id })
}

fn from_pairs(pairs: Pairs) -> Result<NewEvent, Invalid> {
    let (mut event, mut value) = (NewEvent { value: 1.0, ..NewEvent::default() }, None);
    let once = |name, taken: bool| if taken { Err(Invalid::Twice(name)) } else { Ok(()) };
    for (name, text) in pairs.0 {
        match &*name {
            "value" => once("value", value.replace(parse_value(&text)?).is_some())?,
            "event_id" => once("event_id", event.id.replace(text).is_some())?,
            "__name__" => once("__name__", event.name.replace(text).is_some())?,
            _ => event.labels.push((name, text)),
        }
    }
    event.value = value.unwrap_or(event.value);
    Ok(event)
}
