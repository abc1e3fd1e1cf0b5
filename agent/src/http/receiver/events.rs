//! `GET /api/v1/events` at the receiver: what was said here and at the nodes.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use super::ReceiverState;
use crate::api::envelope::Failure;
use crate::api::events::{Historic, History, Said};
use crate::events::{Query, Told};
use crate::http::ApiError;
use crate::http::events::{question, wire};

/// What was said at the nodes lately, and here as far back as it is kept, newest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(("node" = Option<String>, Query, description = "only what this node said; `-` is the receiver itself"),
        ("name" = Option<String>, Query, description = "only of this metric"),
        ("from_ms" = Option<i64>, Query, description = "not before, ms since the epoch"),
        ("to_ms" = Option<i64>, Query, description = "not after, ms since the epoch"),
        ("limit" = Option<usize>, Query, description = "the newest so many: 100 by default, 10000 at most"),
        ("label" = Option<String>, Query, description = "any other parameter is a label and the value that it has")),
    responses((status = 200, body = History), (status = 400, body = Failure), (status = 503, body = Failure)))]
pub(super) async fn list(State(receiver): State<ReceiverState>, uri: Uri) -> Result<Json<History>, ApiError> {
    let (query, node) = question(&uri)?;
    let mut events = Vec::new();
    if node.as_deref().is_none_or(|node| node == "-") {
        let own = receiver.common.events.history(query.clone()).await?;
        events.extend(own.into_iter().map(|told| Historic::new(None, wire(told))));
    }
    let fleet = receiver.ingest.fleet().said(node.as_deref());
    let wanted = fleet.into_iter().filter(|(_, said)| is_wanted(&query, said));
    events.extend(wanted.map(|(node, said)| Historic::new(Some(node), said)));
    events.sort_by_key(|event| std::cmp::Reverse(event.said.timestamp_ms));
    events.truncate(query.limit);
    Ok(Json(History { events }))
}

fn is_wanted(query: &Query, said: &Said) -> bool {
    let Said { timestamp_ms, name, labels, .. } = said;
    let told =
        Told { ts_ms: *timestamp_ms, name: name.clone(), labels: labels.clone(), value: 0.0, id: None };
    query.is_about(&told)
}
