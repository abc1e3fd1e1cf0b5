//! The OpenAPI document of each role: made from the handlers' own annotations, kept as golden files.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};

use super::Role;
use crate::api::health::Route;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "sextant node",
        description = "what one Linux node says of its sched_ext scheduler and its pods"
    ),
    paths(
        super::common::index,
        super::common::health,
        super::common::live,
        super::common::ready,
        super::common::metrics,
        super::common::openapi,
        super::node::status,
        super::node::post_metrics,
        super::node::get_metrics,
        super::node::schedulers,
        super::node::pods,
        super::node::pod_pids,
    )
)]
struct NodeDoc;

#[derive(OpenApi)]
#[openapi(
    info(title = "sextant receiver", description = "what a fleet's nodes delivered"),
    paths(
        super::common::index,
        super::common::health,
        super::common::live,
        super::common::ready,
        super::common::metrics,
        super::common::openapi,
        super::receiver::ingest,
        super::receiver::nodes,
        super::receiver::post_metrics,
        super::receiver::get_metrics,
        super::receiver::pod_pids,
    )
)]
struct ReceiverDoc;

/// The document of a role, as `/openapi.json` and the golden files have it: the same text in every build.
pub fn openapi_json(role: Role) -> String {
    to_json(&document(role))
}

pub(super) fn document(role: Role) -> utoipa::openapi::OpenApi {
    match role {
        Role::Node => NodeDoc::openapi(),
        Role::Receiver => ReceiverDoc::openapi(),
    }
}

pub(super) fn to_json(document: &utoipa::openapi::OpenApi) -> String {
    // Derived Serialize over strings and maps with string keys: there is nothing that could fail.
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

/// Every endpoint, by path, then method.
pub(super) fn routes(document: &utoipa::openapi::OpenApi) -> Vec<Route> {
    let route = |path: &String, method: &str, operation: &Operation| Route {
        method: method.to_owned(),
        path: path.clone(),
        summary: operation.summary.clone().unwrap_or_default(),
    };
    let of_path = |(path, item): (&String, &PathItem)| {
        let get = item.get.as_ref().map(|operation| route(path, "GET", operation));
        let post = item.post.as_ref().map(|operation| route(path, "POST", operation));
        get.into_iter().chain(post)
    };
    document.paths.paths.iter().flat_map(|(path, item)| of_path((path, item)).collect::<Vec<_>>()).collect()
}
