//! The OpenAPI document of each role, made from the handlers' own annotations; golden files keep it.

use axum::http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi, Response};

use super::access;
use super::keys::Scope;
use crate::api::health::Route;

/// As `/openapi.json` and the golden files have it: the same text in every build.
pub fn to_json(document: &OpenApi) -> String {
    // Derived Serialize over strings and maps with string keys: there is nothing that could fail.
    serde_json::to_string_pretty(document).unwrap_or_default() + "\n"
}

/// What a route with a scope may answer whatever it does; a route that has words of its own keeps them.
const REFUSALS: [(&str, &str); 3] = [
    ("401", "no key where one is needed, or one that is not known"),
    ("403", "the key has not the scope, or a foreign page asks"),
    ("429", "too many requests, or too many wrong keys: `Retry-After` says when to come back"),
];

/// With the keys that routes take: one of scope `act` always, another where `[keys] required` asks for it.
pub(super) fn secured(mut document: OpenApi) -> OpenApi {
    let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("key", header);
    components.add_security_scheme("bearer", bearer);
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let (Some(operation), Some(scope)) = (operation, access::scope(&method, path)) else { continue };
            let one_of = ["key", "bearer"].map(|scheme| SecurityRequirement::new(scheme, [scope.name()]));
            let open = (scope != Scope::Act).then(SecurityRequirement::default);
            operation.security = Some(open.into_iter().chain(one_of).collect());
            for (status, description) in REFUSALS {
                let response = || Response::new(description).into();
                operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
            }
        }
    }
    document
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
