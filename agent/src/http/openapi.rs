//! The OpenAPI document of each role, made from the handlers' own annotations; golden files keep it.

use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};

use crate::api::health::Route;

/// As `/openapi.json` and the golden files have it: the same text in every build.
pub fn to_json(document: &OpenApi) -> String {
    // Derived Serialize over strings and maps with string keys: there is nothing that could fail.
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

/// Every endpoint, by path, then method.
pub(super) fn routes(document: &OpenApi) -> Vec<Route> {
    let route = |path: &String, method: &str, operation: &Operation| Route {
        method: method.to_owned(),
        path: path.clone(),
        summary: operation.summary.clone().unwrap_or_default(),
    };
    let of_path = |(path, item): (&String, &PathItem)| {
        let get = item.get.as_ref().map(|operation| route(path, "GET", operation));
        let post = item.post.as_ref().map(|operation| route(path, "POST", operation));
        let delete = item.delete.as_ref().map(|operation| route(path, "DELETE", operation));
        get.into_iter().chain(post).chain(delete)
    };
    document.paths.paths.iter().flat_map(|(path, item)| of_path((path, item)).collect::<Vec<_>>()).collect()
}
