//! `/swagger/`: the API's description for a person, with a form to try each route. Everything it shows is in the binary,
//! and its page may load from nowhere else.

use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use flate2::read::GzDecoder;
use utoipa_swagger_ui::Config;

use super::ApiError;

/// Scripts of our own only: the page's library asks a validator elsewhere unless it is told not to, and this makes sure.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

type State = axum::extract::State<Arc<Config<'static>>>;

pub(super) fn routes() -> Router {
    // Relative, so that it holds behind a proxy's prefix too.
    let config = Config::new(["../openapi.json"]).validator_url("none");
    Router::new()
        .route("/docs", get(|| async { Redirect::permanent("swagger/") }))
        .route("/swagger", get(|| async { Redirect::permanent("swagger/") }))
        .route("/swagger/", get(page))
        .route("/swagger/{*file}", get(asset))
        .with_state(Arc::new(config))
}

/// This API, for a person: Swagger UI.
#[utoipa::path(get, path = "/swagger/", tag = "service",
    responses((status = 200, body = str, content_type = "text/html")))]
pub(super) async fn page(config: State, headers: HeaderMap) -> Result<Response, ApiError> {
    file("index.html", &headers, config)
}

async fn asset(config: State, Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    file(&name, &headers, config)
}

/// The files are packed in the binary, a quarter of their size, and go so to all who take them so, as browsers do.
fn file(name: &str, asked: &HeaderMap, axum::extract::State(config): State) -> Result<Response, ApiError> {
    let found =
        utoipa_swagger_ui::serve(name, config).map_err(|error| ApiError::Encode(error.to_string()))?;
    let Some(file) = found else { return Err(ApiError::NotFound("/swagger/: no such file".to_owned())) };
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    // Not copied: a script for each of hundreds of clients that read slowly would be much.
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    if !file.gzpipped {
        return Ok((headers, bytes).into_response());
    }
    let varies = (header::VARY, "accept-encoding");
    if takes_gzip(asked) {
        return Ok((headers, [varies, (header::CONTENT_ENCODING, "gzip")], bytes).into_response());
    }
    let mut plain = Vec::new();
    let unpacked = GzDecoder::new(&*bytes).read_to_end(&mut plain);
    unpacked.map_err(|error| ApiError::Encode(error.to_string()))?;
    Ok((headers, [varies], plain).into_response())
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let accepted =
        asked.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| coding.trim() == "gzip")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;

    use super::*;
    use crate::http::testing::{get, send};

    /// Hosts that a text names in an address.
    fn hosts(text: &str) -> Vec<&str> {
        let host = |rest: &'_ str| {
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"-.".contains(letter));
            rest.len().min(end.unwrap_or(rest.len()))
        };
        let after = text.split("//").skip(1);
        after.map(|rest| &rest[..host(rest)]).filter(|host| host.contains('.')).collect()
    }

    #[tokio::test]
    async fn the_page_and_all_it_names_are_in_the_binary() {
        let router = routes();
        let page = get(&router, "/swagger/").await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html"));
        assert_eq!(page.header("content-security-policy"), POLICY);
        let html = page.text().to_owned();
        let quoted = html.split(['"', '\'']).filter(|text| text.contains('.') && !text.contains(' '));
        let mut loaded = 0;
        for name in quoted.map(|name| name.trim_start_matches("./")) {
            if !name.ends_with(".js") && !name.ends_with(".css") && !name.ends_with(".png") {
                continue;
            }
            let asset = get(&router, &format!("/swagger/{name}")).await;
            assert_eq!(asset.status.as_u16(), 200, "{name}");
            assert!(asset.body.len() > 50, "{name}");
            loaded += 1;
            if name.ends_with(".css") || name.contains("initializer") {
                let text = asset.text().replace("www.w3.org", "");
                assert_eq!(hosts(&text), Vec::<&str>::new(), "{name}");
            }
        }
        assert!(loaded >= 5, "{loaded} files:\n{html}");
        assert_eq!(hosts(&html), Vec::<&str>::new(), "{html}");
        assert_eq!(hosts("<script src=\"//evil.example/x.js\">"), ["evil.example"], "the control");
        let initializer = get(&router, "/swagger/swagger-initializer.js").await;
        assert!(initializer.text().contains("../openapi.json"), "{}", initializer.text());
        assert!(initializer.text().contains("\"validatorUrl\": \"none\""), "{}", initializer.text());
        for gone in ["/swagger/none.js", "/swagger/../openapi.json", "/swagger/%2e%2e/x"] {
            assert_eq!(get(&router, gone).await.status.as_u16(), 404, "{gone}");
        }
        let moved = get(&router, "/docs").await;
        assert_eq!((moved.status.as_u16(), moved.header("location")), (308, "swagger/"));
    }

    #[tokio::test]
    async fn files_go_packed_to_those_who_take_them_so() {
        let router = routes();
        let ask = |coding: &str| {
            let request = Request::get("/swagger/swagger-ui-bundle.js").header("accept-encoding", coding);
            request.body(Body::empty()).unwrap()
        };
        let plain = send(&router, ask("br, gzip;q=0")).await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
        let packed = send(&router, ask("deflate, gzip, br")).await;
        assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"));
        assert!(packed.body.len() < plain.body.len() / 2);
        let mut unpacked = Vec::new();
        GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.body);
    }
}
