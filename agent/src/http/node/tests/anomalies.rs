//! Anomalies' routes with a real owner whose kill switch is always there: whatever comes in, nothing starts.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tokio::sync::{mpsc, watch};

use super::harness::{Node, node_in};
use crate::actions::{self, Metrics, Parts};
use crate::http::testing::hostile::bombard;
use crate::http::testing::{NOW_NS, get, post, send};

const GOOD: &str = r#"{"kind":"cpu","target":{"pid":42},"strength":{"percent":30,"of":"core"},"duration":5}"#;

/// The switch: a file that every machine has.
fn node(dir: &tempfile::TempDir) -> Node {
    let config =
        actions::Config { enabled: true, kill_switch: "/dev/null".into(), ..actions::Config::default() };
    let handle = actions::start(Parts {
        config,
        roots: Default::default(),
        pods: watch::channel(Arc::default()).1,
        scheduler: watch::channel(Arc::default()).1,
        own_ports: Vec::new(),
        events: mpsc::channel(1).0,
        boot_id: "boot".to_owned(),
        journal: dir.path().join("journal"),
        clock: || NOW_NS,
        metrics: Metrics::default(),
    });
    node_in(Ok(handle.expect("an owner")).into())
}

#[tokio::test]
async fn random_bodies_are_400_or_refused_by_the_switch_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node(&dir);
    let open =
        node.router.clone().layer(axum::middleware::map_request(|mut request: Request<Body>| async move {
            request.headers_mut().insert("x-api-key", axum::http::HeaderValue::from_static("key"));
            request
        }));
    bombard(&open, "POST", "/api/v1/anomalies", GOOD, 5_000, &[400, 409]).await;
    bombard(&open, "POST", "/api/anomaly/start", r#"{"type":"cpu_stress"}"#, 5_000, &[400, 409]).await;
    assert_eq!(post(&open, "/api/v1/anomalies", GOOD).await.status, StatusCode::CONFLICT, "the switch");
    assert_eq!(
        post(&open, "/api/v1/anomalies", vec![b' '; 20_000]).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(get(&open, "/api/v1/anomalies").await.json()["anomalies"], serde_json::json!([]));
    assert_eq!(node.common.metrics.panics.get(), 0);
}

#[tokio::test]
async fn without_a_key_nobody_gets_as_far_as_the_body() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = node(&dir);
    bombard(&node.router, "POST", "/api/v1/anomalies", GOOD, 1_000, &[401]).await;
    let answer = post(&node.router, "/api/v1/anomalies", GOOD).await;
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    let page =
        Request::delete("/api/v1/anomalies").header("origin", "http://evil.example").body(Body::empty());
    assert_eq!(send(&node.router, page.expect("a request")).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn while_they_are_off_it_says_how_to_switch_them_on() {
    let node = super::harness::node();
    for path in ["/api/v1/anomalies", "/api/anomaly/start", "/api/anomaly/stop"] {
        assert_eq!(post(&node.router, path, GOOD).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(get(&node.router, "/api/v1/anomalies/x").await.status, StatusCode::FORBIDDEN);
    assert_eq!(get(&node.router, "/api/anomaly/active").await.json(), serde_json::json!([]));
    let list = get(&node.router, "/api/v1/anomalies").await.json();
    assert_eq!((&list["enabled"], &list["off_because"]), (&false.into(), &"anomalies are off".into()));
}
