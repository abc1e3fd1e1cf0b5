//! Workloads' routes with a real owner that may start nothing: whatever comes in, no process begins.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use super::harness::{Node, node, node_with_workloads};
use crate::http::node::workloads::Owner;
use crate::http::testing::hostile::bombard;
use crate::http::testing::{NOW_NS, get, post};
use crate::workloads;

const GOOD: &str = r#"{"kind":"ping_pong","threads":1,"duration":5}"#;
const REFERENCE: &str = r#"{"workload_type":"oltp_read_write","threads":4}"#;
const SECOND: &str = r#"{"type":"sysbench","threads":4}"#;

/// No workload may run, and there is no database.
fn full() -> Node {
    let config = workloads::Config { enabled: true, max_concurrent: 0, ..workloads::Config::default() };
    let parts = workloads::Parts {
        config,
        database: Default::default(),
        clock: || NOW_NS,
        metrics: workloads::Metrics::default(),
    };
    let (handle, steward) = workloads::start(parts).expect("an owner");
    tokio::spawn(steward.run(tokio_util::sync::CancellationToken::new()));
    node_with_workloads(Ok(Owner { handle, tables: (1, 1) }).into())
}

fn with_key(node: &Node) -> axum::Router {
    node.router.clone().layer(axum::middleware::map_request(|mut request: Request<Body>| async move {
        request.headers_mut().insert("x-api-key", axum::http::HeaderValue::from_static("key"));
        request
    }))
}

#[tokio::test]
async fn random_bodies_are_400_or_refused_by_the_limit_and_never_a_panic() {
    let node = full();
    let open = with_key(&node);
    bombard(&open, "POST", "/api/v1/workloads", GOOD, 3_000, &[400, 409, 501]).await;
    bombard(&open, "POST", "/api/workload/start", REFERENCE, 3_000, &[400, 409, 501]).await;
    bombard(&open, "POST", "/api/workload/start", SECOND, 1_000, &[400, 409, 501]).await;
    bombard(
        &open,
        "POST",
        "/api/workload/prepare",
        r#"{"tables":1,"table_size":1}"#,
        2_000,
        &[400, 409, 501],
    )
    .await;
    assert_eq!(post(&open, "/api/v1/workloads", GOOD).await.status, StatusCode::CONFLICT, "the limit");
    assert_eq!(
        post(&open, "/api/v1/workloads", vec![b' '; 20_000]).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(get(&open, "/api/v1/workloads").await.json()["workloads"], serde_json::json!([]));
    assert_eq!(node.common.metrics.panics.get(), 0);
}

#[tokio::test]
async fn threads_and_kinds_are_checked_before_anything_else() {
    let node = full();
    let open = with_key(&node);
    for (body, word) in [
        (r#"{"workload_type":"oltp_read_write","threads":0}"#, "1 to 64"),
        (r#"{"workload_type":"oltp_read_write","threads":65}"#, "1 to 64"),
        (r#"{"workload_type":"oltp_read_write","threads":-1}"#, "1 to 64"),
        (r#"{"workload_type":"oltp_read_write","threads":1e3}"#, "invalid JSON"),
        (r#"{"workload_type":"oltp_read_write; reboot","threads":1}"#, "is none"),
        (r#"{"workload_type":"prepare","threads":1}"#, "is none"),
        (r#"{"threads":1}"#, "workload_type is missing"),
        ("", "invalid JSON"),
    ] {
        let answer = post(&open, "/api/workload/start", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let detail = answer.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(detail.contains(word), "{body}: {detail}");
    }
    for path in ["/api/workload/none/stop", "/api/workload/stop/none"] {
        let answer = post(&open, path, "").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("none")));
    }
    let stopped = post(&open, "/api/workload/stop-all", "").await.json();
    assert_eq!(
        stopped,
        serde_json::json!({"workload_id": "all", "status": "All workloads stopped successfully"})
    );
}

#[tokio::test]
async fn without_a_key_nobody_gets_as_far_as_the_body() {
    let node = full();
    for path in [
        "/api/v1/workloads",
        "/api/workload/prepare",
        "/api/workload/start",
        "/api/workload/x/stop",
        "/api/workload/stop/x",
        "/api/workload/stop-all",
    ] {
        let answer = post(&node.router, path, "nonsense").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
}

#[tokio::test]
async fn while_they_are_off_it_says_how_to_switch_them_on() {
    let node = node();
    for path in
        ["/api/v1/workloads", "/api/workload/prepare", "/api/workload/start", "/api/workload/stop-all"]
    {
        assert_eq!(post(&node.router, path, REFERENCE).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(get(&node.router, "/api/v1/workloads/x").await.status, StatusCode::FORBIDDEN);
    assert_eq!(get(&node.router, "/api/workload/active").await.json(), serde_json::json!({"workloads": []}));
    let list = get(&node.router, "/api/v1/workloads").await.json();
    assert_eq!((&list["enabled"], &list["off_because"]), (&false.into(), &"workloads are off".into()));
}
