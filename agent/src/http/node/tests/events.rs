//! One-shot events from the post to the exposition, and what posts are refused for.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::harness::{Node, node};
use crate::events::Session;
use crate::http::testing::{Answer, get, post, send};

async fn event(node: &Node, path: &str, kind: &str, body: &str, key: Option<&str>) -> Answer {
    let mut request = Request::post(path);
    if !kind.is_empty() {
        request = request.header("content-type", kind);
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    send(&node.router, request.body(Body::from(body.to_owned())).expect("a request")).await
}

/// The lines of events that a scraper on this connection gets.
async fn scraped(node: &Node, session: &Session, accept: &str, more: &[(&str, &str)]) -> Vec<String> {
    let mut request = Request::get("/metrics").header("accept", accept).extension(session.clone());
    for (name, value) in [("x-prometheus-scrape-timeout-seconds", "0.9")].iter().chain(more) {
        request = request.header(*name, *value);
    }
    let answer = send(&node.router, request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let lines = answer.text().lines().filter(|line| line.starts_with("events_to_metrics"));
    let samples = lines.filter(|line| !line.contains("_count") && !line.contains("_seen_total"));
    samples.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_references_example_is_taken_and_said() {
    let node = node();
    let path = "/event?type=test&message=cron_test_manual&seconds=42";
    let answer = event(&node, path, "", "", None).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({"success": true, "accepted": 1, "duplicates": 0, "timestamps_ms": [1_750_329_000_000_i64]})
    );
    let line = "events_to_metrics{message=\"cron_test_manual\",seconds=\"42\",type=\"test\"} 1 ";
    let classic = scraped(&node, &Session::default(), "*/*", &[]).await;
    assert_eq!(classic, [format!("{line}1750329000000")]);
    let openmetrics = scraped(&node, &Session::default(), "application/openmetrics-text", &[]).await;
    assert_eq!(openmetrics, [format!("{line}1750329000.0002")]);
    let whole = get(&node.router, "/metrics").await;
    assert!(whole.text().contains("\nevents_to_metrics_event_count 1\n"), "{}", whole.text());
    assert!(whole.text().contains("events_to_metrics_seen_total{message=\"cron_test_manual\""));
}

#[tokio::test]
async fn queries_forms_and_json_say_the_same() {
    let node = node();
    let form = "application/x-www-form-urlencoded";
    for (path, kind, body) in [
        ("/event?a+b=x%22y&value=0.5", "", ""),
        ("/event?value=0.5", form, "a+b=x%22y"),
        ("/event", "application/json; charset=utf-8", r#"{"labels":{"a b":"x\"y"},"value":0.5}"#),
        ("/event", "application/json", r#" [{"labels":{"a b":"x\"y"},"value":"5e-1"}]"#),
        ("/event", "application/json", r#"{"events":[{"labels":{"a b":"x\"y"},"value":0.5}]}"#),
    ] {
        let answer = event(&node, path, kind, body, None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path} {body}: {}", answer.text());
    }
    let lines = scraped(&node, &Session::default(), "*/*", &[]).await;
    let wanted: Vec<_> = (0..5)
        .map(|n| format!("events_to_metrics{{a_b=\"x\\\"y\"}} 0.5 {}", 1_750_329_000_000_i64 + n))
        .collect();
    assert_eq!(lines, wanted);
    let named = event(&node, "/event?__name__=deploys", "", "", None).await;
    assert_eq!(named.status, StatusCode::OK);
    assert!(get(&node.router, "/metrics").await.text().contains("\ndeploys 1 1750329000000\n"));
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_reason_and_leaves_nothing() {
    let node = node();
    let json = "application/json";
    for (path, kind, body, status, words) in [
        ("/event?1a=x", "", "", 400, "label name"),
        ("/event?__x=1", "", "", 400, "reserved"),
        ("/event?a=", "", "", 400, "empty"),
        ("/event?a=1&a=2", "", "", 400, "twice"),
        ("/event?value=1&value=2", "", "", 400, "twice"),
        ("/event?value=one", "", "", 400, "number"),
        ("/event?a=%00", "", "", 400, "NUL"),
        ("/event?a=%ff", "", "", 400, "UTF-8"),
        ("/event?__name__=sextant_up", "", "", 400, "reserved"),
        ("/event?__name__=a-b", "", "", 400, "metric name"),
        ("/event?a=1", json, "{}", 400, "not in both"),
        ("/event", json, "{", 400, "JSON"),
        ("/event", json, r#"{"label":{}}"#, 400, "label"),
        ("/event", json, r#"{"events":[],"value":1}"#, 400, "nothing else"),
        ("/event", json, "[]", 400, "no events"),
        ("/event", json, r#"[{"labels":{"a":"1"}},{"labels":{"":"1"}}]"#, 400, "event 1"),
        ("/event", "text/plain", "hello", 415, "text/plain"),
    ] {
        let answer = event(&node, path, kind, body, None).await;
        assert_eq!(answer.status.as_u16(), status, "{path} {body}: {}", answer.text());
        assert_eq!(answer.json()["success"], Value::Bool(false));
        assert!(answer.text().contains(words), "{path} {body}: {}", answer.text());
    }
    let many = format!("[{}]", vec!["{}"; 10_001].join(","));
    assert_eq!(event(&node, "/event", json, &many, None).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let long = format!("{{\"labels\":{{\"a\":\"{}\"}}}}", "x".repeat(1 << 20));
    assert_eq!(event(&node, "/event", json, &long, None).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(scraped(&node, &Session::default(), "*/*", &[]).await.is_empty());
    assert!(get(&node.router, "/metrics").await.text().contains("\nevents_to_metrics_event_count 0\n"));
}

#[tokio::test]
async fn a_key_counts_once_for_the_whole_post() {
    let node = node();
    let several = r#"[{"labels":{"n":"1"}},{"labels":{"n":"2"}}]"#;
    for duplicates in [0, 2] {
        let answer = event(&node, "/event", "application/json", several, Some("k")).await;
        assert_eq!(answer.json()["duplicates"], duplicates);
    }
    for duplicates in [0, 1] {
        assert_eq!(event(&node, "/event?n=3", "", "", Some("k")).await.json()["duplicates"], duplicates);
    }
    let other = event(&node, "/event?n=4", "", "", Some("k")).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert_eq!(event(&node, "/event?n=3&event_id=k", "", "", None).await.json()["duplicates"], 1);
    assert_eq!(event(&node, "/event?n=5", "", "", Some("\u{e4}")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(scraped(&node, &Session::default(), "*/*", &[]).await.len(), 3);
}

#[tokio::test]
async fn a_person_and_whoever_is_forwarded_prove_nothing() {
    let node = node();
    post(&node.router, "/event", r#"{"labels":{"n":"1"}}"#).await;
    let session = Session::default();
    for _ in 0..3 {
        let request =
            Request::get("/metrics").extension(session.clone()).body(Body::empty()).expect("a request");
        assert!(send(&node.router, request).await.text().contains("n=\"1\"} 1 17"));
        let head = Request::head("/metrics").header("x-prometheus-scrape-timeout-seconds", "1");
        let head = head.extension(session.clone()).body(Body::empty()).expect("a request");
        assert_eq!(send(&node.router, head).await.status, StatusCode::OK);
    }
    for sent in [1, 1, 0, 0] {
        assert_eq!(scraped(&node, &session, "*/*", &[]).await.len(), sent, "and they consumed nothing");
    }
    for header in ["via", "forwarded", "x-forwarded-for", "x-real-ip"] {
        let session = Session::default();
        for round in 0..5 {
            let sent = scraped(&node, &session, "*/*", &[(header, "10.0.0.9")]).await;
            assert_eq!(sent.len(), 1, "{header} {round}");
        }
    }
    let shared = Session::default();
    for agent in ["one", "other", "one", "other", "one"] {
        assert_eq!(scraped(&node, &shared, "*/*", &[("user-agent", agent)]).await.len(), 1);
    }
}

#[tokio::test]
async fn the_history_is_asked_by_labels_and_times() {
    let node = node();
    for n in 0..3 {
        event(&node, &format!("/event?type=deploy&n={n}"), "", "", None).await;
    }
    event(&node, "/event?type=other&value=NaN", "", "", None).await;
    let found = |answer: Answer| answer.json()["events"].as_array().expect("a list").clone();
    assert_eq!(found(get(&node.router, "/api/v1/events").await).len(), 4);
    assert_eq!(found(get(&node.router, "/api/v1/events?type=deploy&limit=2").await).len(), 2);
    let other = found(get(&node.router, "/api/v1/events?type=other").await);
    let wanted = json!({"node": null, "time": "2025-06-19T10:30:00Z", "timestamp_ms": 1_750_329_000_000_i64,
        "name": "events_to_metrics", "labels": {"type": "other"}, "value": "NaN"});
    assert_eq!(other, [wanted]);
    assert!(found(get(&node.router, "/api/v1/events?from_ms=1750329000001").await).is_empty());
    assert!(found(get(&node.router, "/api/v1/events?name=deploys").await).is_empty());
    for wrong in ["limit=0", "limit=10001", "from_ms=x", "a=%ff"] {
        let status = get(&node.router, &format!("/api/v1/events?{wrong}")).await.status;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}
