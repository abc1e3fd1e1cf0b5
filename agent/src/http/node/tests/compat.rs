//! The reference document's curls and examples, and what its clients rely on beyond them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::harness::{Recorder, node, node_with};
use crate::domain::pod::PodMap;
use crate::domain::scheduler::{SchedulerReading, State};
use crate::http::Config;
use crate::http::door::AcceptError;
use crate::http::testing::{NOW_NS, get, post, samples, send, status};

/// The document's request.
const EXAMPLE: &str = r#"{
    "usersched_pid": 1234,
    "nr_queued": 10,
    "nr_scheduled": 5,
    "nr_running": 2,
    "nr_online_cpus": 8,
    "nr_user_dispatches": 100,
    "nr_kernel_dispatches": 50,
    "nr_cancel_dispatches": 2,
    "nr_bounce_dispatches": 1,
    "nr_failed_dispatches": 0,
    "nr_sched_congested": 3
  }"#;

#[tokio::test]
async fn submit_metrics_and_read_them_back() {
    let node = node_with(Config::default(), Recorder::Takes);
    let none = get(&node.router, "/api/v1/metrics").await;
    assert_eq!(none.status, StatusCode::OK);
    assert_eq!(
        none.text(),
        r#"{"success":false,"message":"No metrics data available yet","timestamp":"2025-06-19T10:30:00Z"}"#
    );
    let taken = post(&node.router, "/api/v1/metrics", EXAMPLE).await;
    assert_eq!(taken.status, StatusCode::OK);
    assert_eq!(
        taken.text(),
        r#"{"success":true,"message":"Metrics received successfully","timestamp":"2025-06-19T10:30:00Z"}"#
    );
    assert_eq!(node.recorded.load(Ordering::Relaxed), 1, "answered only once it was recorded");
    let read = get(&node.router, "/api/v1/metrics").await.json();
    let mut expected: serde_json::Value = serde_json::from_str(EXAMPLE).expect("the document's JSON");
    expected["usersched_last_run_at"] = json!(0);
    assert_eq!(read["data"], expected);
    assert_eq!(read["message"], "Metrics retrieved successfully");
    assert_eq!(
        (&read["success"], &read["metrics_timestamp"]),
        (&json!(true), &json!("2025-06-19T10:30:00Z"))
    );
    assert_eq!(read["source"], "posted");
}

#[tokio::test]
async fn a_bad_body_is_named_in_the_envelope() {
    let node = node_with(Config::default(), Recorder::Takes);
    for (body, error) in [
        (&b""[..], "Invalid JSON format: EOF"),
        (b"{", "Invalid JSON format: unexpected EOF"),
        (b"\0{}", "Invalid JSON format: invalid character"),
        (
            b"{\"a\":\"\xff\",\"nr_running\":-1}",
            "Invalid JSON format: json: cannot unmarshal number -1 into field nr_running",
        ),
    ] {
        let answer = post(&node.router, "/api/v1/metrics", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        let json = answer.json();
        assert_eq!(json["success"], false);
        assert!(json["error"].as_str().expect("a text").starts_with(error), "{json}");
        assert_eq!(json.as_object().expect("an object").len(), 2, "the envelope has two keys");
    }
    assert_eq!(node.recorded.load(Ordering::Relaxed), 0);
    assert_eq!(get(&node.router, "/api/v1/metrics").await.json()["success"], false, "nothing is remembered");
}

#[tokio::test]
async fn the_content_type_is_not_looked_at_and_batches_are_one_post() {
    let node = node_with(Config::default(), Recorder::Takes);
    let plain =
        Request::post("/api/v1/metrics").header("content-type", "text/plain").body(Body::from(EXAMPLE));
    assert_eq!(send(&node.router, plain.expect("a request")).await.status, StatusCode::OK);
    let batch = format!("{{\"metrics\":[{EXAMPLE},{{\"usersched_last_run_at\":77}}]}}");
    assert_eq!(post(&node.router, "/api/v1/metrics", batch).await.status, StatusCode::OK);
    assert_eq!(node.recorded.load(Ordering::Relaxed), 3);
    let read = get(&node.router, "/api/v1/metrics").await.json();
    assert_eq!(read["data"]["usersched_last_run_at"], 77, "the batch's last record");
    let too_many = format!("[{}]", vec!["{}"; 1_001].join(","));
    assert_eq!(post(&node.router, "/api/v1/metrics", too_many).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged() {
    for (error, status, retry) in [
        (AcceptError::Busy, StatusCode::TOO_MANY_REQUESTS, "1"),
        (AcceptError::Degraded("no space left on device".into()), StatusCode::SERVICE_UNAVAILABLE, "5"),
    ] {
        let node = node_with(Config::default(), Recorder::Answers(error));
        let answer = post(&node.router, "/api/v1/metrics", EXAMPLE).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, retry));
        assert_eq!(answer.json()["success"], false);
        assert_eq!(get(&node.router, "/api/v1/metrics").await.json()["success"], false, "nor remembered");
    }
}

#[tokio::test]
async fn the_nodes_own_scheduler_comes_before_what_was_posted() {
    let node = node();
    post(&node.router, "/api/v1/metrics", EXAMPLE).await;
    node.scheduler.send_replace(Arc::new(samples::reading(1, 4_000)));
    let read = get(&node.router, "/api/v1/metrics").await.json();
    assert_eq!((&read["source"], &read["data"]["nr_user_dispatches"]), (&json!("scheduler"), &json!(4_000)));
    assert_eq!(read["data"]["usersched_pid"], 0, "the compatible shape demands a number");
    assert_eq!(read["metrics_timestamp"], "2025-06-19T10:29:59Z");
    let whole = get(&node.router, "/api/v1/schedulers").await.json();
    assert_eq!(whole["bss"]["usersched_pid"], json!(null), "absent is not 0");
    assert_eq!(whole["bss_absent"]["usersched_pid"], "no such variable in any section");
    // A scheduler that ended leaves its last values in its maps: they are no news.
    let ended = SchedulerReading { state: State::Disabled, ..samples::reading(2, 4_000) };
    node.scheduler.send_replace(Arc::new(ended));
    assert_eq!(get(&node.router, "/api/v1/metrics").await.json()["source"], "posted");
}

#[tokio::test]
async fn pod_pids_have_the_documents_shape() {
    let node = node();
    let early = get(&node.router, "/api/v1/pods/pids").await;
    assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(early.json()["error"].as_str().expect("a text").starts_with("Failed to get pod-pid mappings: "));
    node.pods.send_replace(Arc::new(samples::pods()));
    let list = get(&node.router, "/api/v1/pods/pids").await;
    assert_eq!(list.header("content-type"), "application/json");
    let mut expected = json!({
      "success": true,
      "message": "Pod-PID mappings retrieved successfully",
      "timestamp": "2025-06-19T10:29:59Z",
      "pods": [
        {
          "pod_name": "loki-0",
          "namespace": "monitoring",
          "pod_uid": "65979e01-4cb1-4d08-9dba-45530253ff00",
          "container_id": "5148a146ffbbe8672f11494843d54b8769d2eccc677c02027fc09aba192e3c67",
          "processes": [
            { "pid": 717_720, "command": "pause", "ppid": 717_576 },
            { "pid": 718_001, "command": "loki", "ppid": 717_576 }
          ]
        },
        {
          "pod_name": "",
          "namespace": "",
          "pod_uid": "0123456789abcdef0123456789abcdef",
          "processes": [{ "pid": 9, "command": "tmux: server", "ppid": 717_576 }]
        }
      ]
    });
    assert_eq!(list.json(), expected);
    node.pods.send_replace(Arc::new(PodMap { at_ns: NOW_NS, ..PodMap::default() }));
    expected["pods"] = json!([]);
    expected["timestamp"] = json!("2025-06-19T10:30:00Z");
    assert_eq!(get(&node.router, "/api/v1/pods/pids").await.json(), expected, "empty is a list, not null");
}

#[tokio::test]
async fn health_and_information_are_the_references() {
    let node = node();
    assert_eq!(
        get(&node.router, "/health").await.text(),
        r#"{"status":"healthy","timestamp":"2025-06-19T10:30:00Z","service":"BSS Metrics API Server"}"#
    );
    let info = get(&node.router, "/").await.json();
    assert_eq!((&info["message"], &info["version"]), (&json!("BSS Metrics API Server"), &json!("1.0.0")));
    let endpoints = info["endpoints"].as_str().expect("a text, as the reference has it");
    for route in info["routes"].as_array().expect("a list") {
        let (method, path) = (route["method"].as_str().expect("text"), route["path"].as_str().expect("text"));
        assert!(endpoints.contains(&format!("{method} {path}")));
        let request = Request::builder().method(method).uri(path).body(Body::from("{}")).expect("a request");
        let status = status(&node.router, request).await;
        let mut served = vec![StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE];
        if path.contains("/anomal") || path.contains("/workload") {
            served.push(StatusCode::FORBIDDEN); // off, as long as nobody allows them
        }
        if path == "/api/metrics/tenant" {
            served.push(StatusCode::BAD_REQUEST); // it needs a name
        }
        assert!(served.contains(&status), "{method} {path} is listed but answers {status}");
        assert!(!route["summary"].as_str().expect("text").is_empty(), "{method} {path} says what it is for");
    }
}

#[tokio::test]
async fn a_wrong_method_is_bare_and_an_unknown_path_is_enveloped() {
    let node = node();
    for (method, path, allow) in [
        ("DELETE", "/api/v1/metrics", "GET,HEAD,POST"),
        ("PUT", "/api/v1/pods/pids", "GET,HEAD"),
        ("POST", "/health", "GET,HEAD"),
        ("PATCH", "/", "GET,HEAD"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let answer = send(&node.router, request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!((answer.header("allow"), answer.text()), (allow, ""));
    }
    let unknown = get(&node.router, "/api/v2/metrics").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.json()["success"], false);
    let head = send(&node.router, Request::head("/health").body(Body::empty()).expect("a request")).await;
    assert_eq!((head.status, head.text()), (StatusCode::OK, ""));
}

#[tokio::test]
async fn browsers_may_read_and_preflights_allow_both_headers() {
    let node = node();
    let preflight = Request::options("/api/v1/metrics")
        .header("origin", "http://dashboard.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,authorization")
        .body(Body::empty());
    let answer = send(&node.router, preflight.expect("a request")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, "*"));
    assert_eq!(answer.header("access-control-allow-headers"), "content-type,authorization,x-api-key");
    assert_eq!(answer.header("access-control-allow-methods"), "GET,HEAD,POST,OPTIONS");
    let from = |host: &str, origin: &str, method: &str| {
        let request = Request::builder().method(method).uri("/api/v1/metrics").header("host", host);
        request.header("origin", origin).body(Body::from("{}")).expect("a request")
    };
    let read = send(&node.router, from("localhost:8090", "http://dashboard.example", "GET")).await;
    assert_eq!((read.status, read.header("access-control-allow-origin")), (StatusCode::OK, "*"));
    for (host, origin) in
        [("localhost:8090", "http://evil.example"), ("evil.example:8090", "http://localhost:8090")]
    {
        let refused = send(&node.router, from(host, origin, "POST")).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{host} {origin}");
        assert_eq!(refused.json()["success"], false);
    }
    let own = send(&node.router, from("localhost:8090", "http://localhost:8090", "POST")).await;
    assert_eq!(own.status, StatusCode::OK);
}

#[tokio::test]
async fn a_request_id_is_honoured_if_sane() {
    let node = node();
    let with = |id: &'static str| Request::get("/health").header("x-request-id", id).body(Body::empty());
    let answer = send(&node.router, with("abc-1.2_3").expect("a request")).await;
    assert_eq!(answer.header("x-request-id"), "abc-1.2_3");
    for id in ["", "a b", "x\"}", "0123456789012345678901234567890123456789012345678901234567890123456789"] {
        let answer = send(&node.router, with(id).expect("a request")).await;
        assert_eq!(answer.header("x-request-id").len(), 36, "{id:?} is replaced by a UUID");
    }
    assert_eq!(get(&node.router, "/nowhere").await.header("x-request-id").len(), 36, "errors too");
}

#[tokio::test]
async fn readiness_waits_for_every_source_and_ends_with_draining() {
    let node = node();
    assert_eq!(get(&node.router, "/livez").await.text(), "ok\n");
    assert_eq!(get(&node.router, "/readyz").await.status, StatusCode::OK, "no source, nothing to wait for");
    node.sources
        .send_replace(vec![crate::domain::source::SourceHealth { name: "pods", ..Default::default() }]);
    let waiting = get(&node.router, "/ready").await;
    assert_eq!(waiting.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(waiting.json()["error"], "not ready: not yet collected: pods");
    assert_eq!(get(&node.router, "/readyz?verbose").await.text(), "[-] pods starting\nnot ready\n");
    node.sources.send_replace(samples::sources());
    let ready = get(&node.router, "/readyz?verbose").await;
    assert_eq!(ready.status, StatusCode::OK, "a degraded source is told, not waited for");
    assert_eq!(
        ready.text(),
        "[+] scheduler up\n[+] pod_names/cri degraded\n    lacks: pod labels: mount the CRI socket (--run-root)\n    \
         failed: connect: permission denied\nready\n"
    );
    node.draining.cancel();
    assert_eq!(get(&node.router, "/readyz").await.json()["error"], "not ready: stopping");
    assert_eq!(get(&node.router, "/livez").await.status, StatusCode::OK);
}
