//! One-shot events over HTTP, at both roles.
//!
//! - `POST /event` takes one, as its query, as a form, or as JSON, or several as JSON; 200 once they are on disk
//! - `GET /api/v1/events` what was said, newest first
//!
//! and [`scrape`]: who asks for `/metrics`, and what its connection proves. A scraper says so with
//! `X-Prometheus-Scrape-Timeout-Seconds`; whoever does not is shown the newest events and consumes nothing. No header is
//! believed to say who asks: one that says that somebody is in between makes a connection prove nothing, unless the
//! proxy is configured to keep one for each client.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri, header};

use super::serve::Connection;
use super::{ApiError, Common, body};
use crate::api::envelope::Failure;
use crate::api::events::{Historic, History, PostedMany, Said, Taken, Value};
use crate::events::config::MAX_SCRAPER_BYTES;
use crate::events::{Batch, Checked, Error, Invalid, Query, Scrape, Session, Told};

pub(super) mod decode;
pub(super) mod pairs;

use pairs::{Pairs, number};

/// Some thousand events with a few labels each.
const BODY_BYTES: usize = 1 << 20;

/// Events of one post: they are one transaction.
const MAX_BATCH: usize = 10_000;

/// The newest events that one question gets, and most.
const DEFAULT_LIMIT: usize = 100;
pub(super) const MAX_LIMIT: usize = 10_000;

/// Who says that it scrapes.
const SCRAPE_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";
/// Who says that somebody is in between.
const FORWARDED: [&str; 4] = ["via", "forwarded", "x-forwarded-for", "x-real-ip"];
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        match error {
            Error::Full { .. } | Error::Ahead { .. } => Self::EventsFull(error.to_string()),
            Error::Busy => Self::Busy { retry_after_s: 1 },
            Error::Conflict(_) => Self::Conflict(error.to_string()),
            // A full disk does not empty itself at once.
            Error::Disk(why) => Self::Degraded { why, retry_after_s: 5 },
            Error::Off(_) | Error::Open(_) | Error::Config(_) | Error::Closed => {
                Self::NotReady(error.to_string())
            }
        }
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid.to_string())
    }
}

/// Takes one event, or several.
#[utoipa::path(post, path = "/event", tag = "events",
    params(("value" = Option<f64>, Query, description = "its value, 1 by default; every other parameter is a label"),
        ("event_id" = Option<String>, Query, description = "names it: posted again, it counts once"),
        ("__name__" = Option<String>, Query, description = "its metric, where it is not to be the configured one"),
        ("Idempotency-Key" = Option<String>, Header, description = "the same as `event_id`, for the whole post")),
    request_body(content = PostedMany, description = "an event, an array of them, or `{\"events\":[...]}`; or a form"),
    responses((status = 200, description = "on disk", body = Taken), (status = 400, body = Failure),
        (status = 409, description = "the id was another event's", body = Failure), (status = 413, body = Failure),
        (status = 415, body = Failure), (status = 429, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn post(
    State(common): State<Common>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Taken>, ApiError> {
    let events = {
        let _slot = common.body_slot().await?;
        let bytes = body::unpacked(&headers, body, BODY_BYTES).await?;
        decode::decode(&uri, &headers, &bytes, MAX_BATCH)
    };
    let key = headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str().map_err(|_| Invalid::Id)).transpose()?;
    let events = events.inspect_err(|_| common.events.refused_invalid(1))?;
    let several = events.len() > 1;
    let name = &common.events.config().name;
    let checked = events.into_iter().enumerate().map(|(at, mut event)| {
        if event.id.is_none() {
            event.id = key.map(|key| if several { format!("{key}/{at}") } else { key.to_owned() });
        }
        event.check(name).map_err(|why| if several { format!("event {at}: {why}") } else { why.to_string() })
    });
    let checked: Vec<Checked> = checked.collect::<Result<_, _>>().map_err(|why| {
        common.events.refused_invalid(1);
        ApiError::Invalid(why)
    })?;
    let taken = common.events.post(checked).await?;
    let duplicates = taken.iter().filter(|one| one.duplicate).count() as u64;
    Ok(Json(Taken {
        success: true,
        accepted: taken.len() as u64 - duplicates,
        duplicates,
        timestamps_ms: taken.iter().map(|one| one.ts_ms).collect(),
    }))
}

/// What was said here, newest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(("name" = Option<String>, Query, description = "only of this metric"),
        ("from_ms" = Option<i64>, Query, description = "not before, ms since the epoch"),
        ("to_ms" = Option<i64>, Query, description = "not after, ms since the epoch"),
        ("limit" = Option<usize>, Query, description = "the newest so many: 100 by default, 10000 at most"),
        ("label" = Option<String>, Query, description = "any other parameter is a label and the value that it has")),
    responses((status = 200, body = History), (status = 400, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn list(State(common): State<Common>, uri: Uri) -> Result<Json<History>, ApiError> {
    let (query, _) = question(&uri)?;
    let said = common.events.history(query).await?;
    Ok(Json(History { events: said.into_iter().map(|told| Historic::new(None, wire(told))).collect() }))
}

/// The question that a query asks, and of which node.
pub(super) fn question(uri: &Uri) -> Result<(Query, Option<String>), ApiError> {
    let mut query = Query { limit: DEFAULT_LIMIT, ..Query::default() };
    let mut node = None;
    for (name, value) in Pairs::of(uri.query().unwrap_or_default().as_bytes())?.0 {
        match &*name {
            "name" => query.name = Some(value),
            "node" => node = Some(value),
            "from_ms" => query.from_ms = Some(number("from_ms", &value)?),
            "to_ms" => query.to_ms = Some(number("to_ms", &value)?),
            "limit" => {
                query.limit = number("limit", &value)?;
                if !(1..=MAX_LIMIT).contains(&query.limit) {
                    return Err(ApiError::Query { name: "limit", why: format!("1 to {MAX_LIMIT}") });
                }
            }
            _ => query.labels.push((name, value)),
        }
    }
    Ok((query, node))
}

/// As the wire has it.
pub(super) fn wire(told: Told) -> Said {
    let Told { ts_ms, name, labels, value, id } = told;
    Said { timestamp_ms: ts_ms, name, labels, value: Value::from(value), event_id: id }
}

/// The events that this request for the exposition gets.
pub(super) async fn scrape(common: &Common, request: &Parts) -> Batch {
    let Parts { headers, extensions, uri, method, .. } = request;
    let peer = extensions.get::<Connection>().and_then(|from| from.peer);
    let trusted = peer.is_some_and(|peer| common.events.config().trusted_proxies.contains(&peer));
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = Pairs::of(uri.query().unwrap_or_default().as_bytes()).unwrap_or_default();
    let named = named.get("scraper").filter(|name| name.len() <= MAX_SCRAPER_BYTES).unwrap_or_default();
    let forwarded = text("x-forwarded-for").rsplit(',').next().unwrap_or_default().trim();
    let address = match peer {
        Some(_) if trusted && !forwarded.is_empty() => forwarded.to_owned(),
        Some(peer) => peer.to_string(),
        None => "local".to_owned(),
    };
    let agent = text(header::USER_AGENT.as_str());
    let identity = format!("{agent}\n{named}\n{}", if trusted { &*address } else { "" });
    let scrape = Scrape {
        is_scraper: *method == Method::GET && headers.contains_key(SCRAPE_TIMEOUT),
        identity: &identity,
        is_forwarded: !trusted && FORWARDED.iter().any(|name| headers.contains_key(*name)),
        scraper: if named.is_empty() { &address } else { named },
    };
    // Without a connection (a test called the router) nothing is proven.
    let session = extensions.get::<Session>().cloned().unwrap_or_default();
    common.events.scrape(&session, scrape).await
}
