//! Every route's scope, and what each degree of `required` closes.

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post};

use super::*;
use crate::http::keys::tests::of;
use crate::http::keys::{Config as KeysConfig, Required};
use crate::http::testing::{self, send};
use crate::http::{Config, layers, rate};

fn operations() -> Vec<(Method, String)> {
    let mut all = Vec::new();
    for document in [crate::http::node::document(), crate::http::receiver::document()] {
        for route in crate::http::openapi::routes(&document) {
            all.push((route.method.parse().expect("a method"), route.path));
        }
    }
    all
}

#[test]
fn every_route_that_changes_something_is_named() {
    let all = operations();
    assert!(all.len() > 40, "{}", all.len());
    for (method, route) in &all {
        assert_ne!(scope(method, route), Some(Scope::Admin), "{method} {route} has no scope of its own");
    }
    assert_eq!(scope(&Method::POST, "/brand-new"), Some(Scope::Admin), "the control: it is closed");
    let open: Vec<_> = all.iter().filter(|(method, route)| scope(method, route).is_none()).collect();
    assert!(open.iter().all(|(method, _)| *method == Method::GET), "{open:?}");
}

fn common(keys: &KeysConfig) -> Common {
    testing::common(Config::default(), keys)
}

/// A handler behind every kind of door; the action's asks by itself.
fn router(common: &Common) -> Router {
    let act = |caller: Caller| async move { caller.may(Scope::Act).map(|()| "done") };
    let routes = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/metrics", get(|| async { "1" }))
        .route("/api/v1/metrics", post(|| async { "taken" }))
        .route("/consume", get(|| async { "record" }))
        .route("/api/v1/ingest", post(|| async { "taken" }))
        .route("/api/v1/anomalies", post(act))
        .route("/brand-new", post(|| async { "changed" }));
    layers::apply(routes, common)
}

const ROUTES: [(&str, &str); 7] = [
    ("GET", "/livez"),
    ("GET", "/metrics"),
    ("POST", "/api/v1/metrics"),
    ("GET", "/consume"),
    ("POST", "/api/v1/ingest"),
    ("POST", "/api/v1/anomalies"),
    ("POST", "/brand-new"),
];

fn request((method, path): (&str, &str), key: Option<&str>, from: Option<Connection>) -> Request {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    if let Some(key) = key {
        request.headers_mut().insert("x-api-key", key.parse().expect("a header"));
    }
    if let Some(from) = from {
        request.extensions_mut().insert(from);
    }
    request
}

async fn statuses(router: &Router, key: Option<&str>, from: Option<Connection>) -> Vec<u16> {
    let mut all = Vec::new();
    for route in ROUTES {
        all.push(send(router, request(route, key, from)).await.status.as_u16());
    }
    all
}

#[tokio::test]
async fn each_degree_closes_what_it_says_and_each_scope_opens_its_own() {
    let keys = [
        ("r", &[Scope::Read][..]),
        ("w", &[Scope::Write]),
        ("c", &[Scope::Consume]),
        ("i", &[Scope::Ingest]),
        ("a", &[Scope::Act]),
        ("root", &[Scope::Admin]),
    ];
    let with = |required| router(&common(&KeysConfig { required: Some(required), ..of(&keys) }));
    let (actions, changes, everything) =
        (with(Required::Actions), with(Required::Changes), with(Required::Everything));
    assert_eq!(statuses(&actions, None, None).await, [200, 200, 200, 200, 200, 401, 200]);
    assert_eq!(statuses(&changes, None, None).await, [200, 200, 401, 401, 401, 401, 401]);
    assert_eq!(statuses(&everything, None, None).await, [200, 401, 401, 401, 401, 401, 401]);
    for (key, opened) in [("r", 1), ("w", 2), ("c", 3), ("i", 4), ("a", 5)] {
        let mut wanted = [200, 403, 403, 403, 403, 403, 403];
        wanted[opened] = 200;
        assert_eq!(statuses(&everything, Some(key), None).await, wanted, "{key}");
    }
    assert_eq!(statuses(&everything, Some("root"), None).await, [200; 7]);
    let local = Connection { local: Local::Unix, peer: None };
    assert_eq!(statuses(&everything, None, Some(local)).await, [200; 7], "the unix socket needs none");
    let nobody = send(&everything, request(("GET", "/nowhere"), None, None)).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND, "what there is not is told to everybody");
}

#[tokio::test]
async fn without_keys_everything_that_is_required_is_closed() {
    let required = |required| KeysConfig { required, ..KeysConfig::default() };
    let router = router(&common(&required(Some(Required::Everything))));
    assert_eq!(statuses(&router, Some("any"), None).await, [200, 401, 401, 401, 401, 401, 401]);
    assert_eq!(statuses(&self::router(&common(&required(None))), None, None).await[..5], [200; 5]);
}

#[tokio::test]
async fn an_error_has_its_familys_form_and_says_how_to_come_in() {
    let config = KeysConfig { required: Some(Required::Everything), ..of(&[("r", &[Scope::Read])]) };
    let router = router(&common(&config));
    let consume = send(&router, request(("GET", "/consume"), None, None)).await;
    assert!(consume.text().starts_with("this needs a key"), "{}", consume.text());
    assert_eq!(consume.header("www-authenticate"), "Bearer");
    let post = send(&router, request(("POST", "/api/v1/metrics"), Some("r"), None)).await;
    assert_eq!(post.json()["error"], "the key `holder-of-r` has not the scope `write`");
    assert_eq!(post.header("www-authenticate"), "", "another login would not help");
}

#[tokio::test(start_paused = true)]
async fn a_guesser_is_slowed_down_where_a_key_matters_and_nowhere_else() {
    let common = common(&of(&[("right", &[Scope::Act])]));
    let router = router(&common);
    let act = ("POST", "/api/v1/anomalies");
    let from = |last| {
        Some(Connection {
            local: Local::Tcp(([127, 0, 0, 1], 8090).into()),
            peer: Some([192, 0, 2, last].into()),
        })
    };
    for _ in 0..20 {
        let open = send(&router, request(("GET", "/metrics"), Some("guess"), from(1))).await;
        assert_eq!(open.status, StatusCode::OK, "where none is needed, a wrong key is none");
    }
    for _ in 0..10 {
        assert_eq!(
            send(&router, request(act, Some("guess"), from(1))).await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    let right = send(&router, request(act, Some("right"), from(1))).await;
    assert_eq!((right.status, right.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "60"));
    assert_eq!(send(&router, request(act, None, from(1))).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(send(&router, request(act, Some("right"), from(2))).await.status, StatusCode::OK);
    tokio::time::advance(tokio::time::Duration::from_secs(60)).await;
    assert_eq!(send(&router, request(act, Some("right"), from(1))).await.status, StatusCode::OK);
    assert_eq!((common.metrics.logins_failed.get(), common.metrics.logins_refused.get()), (10, 1));
}

#[tokio::test]
async fn a_rate_is_kept_per_client_and_counted_by_route_and_health_has_none() {
    let rate =
        rate::Config { peer_per_second: 1, peer_burst: 2, key_per_second: 1, ..rate::Config::default() };
    let config = Config { rate, ..Config::default() };
    let common = testing::common(config, &of(&[("r", &[Scope::Read])]));
    let router = router(&common);
    let metrics = ("GET", "/metrics");
    for wanted in [200, 200, 429] {
        assert_eq!(send(&router, request(metrics, None, None)).await.status.as_u16(), wanted);
    }
    let refused = send(&router, request(("GET", "/consume"), None, None)).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert!(refused.text().starts_with("more than 1 requests a second"), "{}", refused.text());
    assert_eq!(send(&router, request(metrics, Some("r"), None)).await.status.as_u16(), 200, "its own");
    assert_eq!(send(&router, request(metrics, Some("r"), None)).await.status.as_u16(), 429);
    let local = Connection { local: Local::Unix, peer: None };
    for _ in 0..20 {
        assert_eq!(send(&router, request(("GET", "/livez"), None, None)).await.status.as_u16(), 200);
        assert_eq!(send(&router, request(metrics, None, Some(local))).await.status.as_u16(), 200);
    }
    let counted = |route: &str| {
        let labels = RouteLabels { route: route.to_owned() };
        common.metrics.rate_limited.get_or_create(&labels).get()
    };
    assert_eq!((counted("/metrics"), counted("/consume")), (2, 1));
}

#[tokio::test]
async fn keys_of_any_bytes_are_refused_and_never_a_panic() {
    let common = common(&KeysConfig { required: Some(Required::Everything), ..of(&[("r", &[Scope::Read])]) });
    let router = router(&common);
    for key in [vec![0xff; 10_000], vec![0x80], b"r\tr".to_vec(), "\u{e9}".into(), vec![b' '; 16 << 10]] {
        for name in ["x-api-key", "authorization"] {
            let mut request = request(("GET", "/metrics"), None, None);
            let value = axum::http::HeaderValue::from_bytes(&key).expect("a header");
            request.headers_mut().insert(name, value);
            let status = send(&router, request).await.status.as_u16();
            assert!(matches!(status, 401 | 429), "{status} {name} {key:?}");
        }
    }
    assert_eq!(common.metrics.panics.get(), 0);
}
