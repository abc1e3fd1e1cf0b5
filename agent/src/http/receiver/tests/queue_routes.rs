//! The queue's routes, as the reference's clients use them and as nobody should.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::{Duration, timeout};

use super::{Receiver, receiver};
use crate::http::testing::hostile::bombard;
use crate::http::testing::{Answer, get, post, send};

/// These have tests of their own: they take bodies, or do not answer at once.
pub(super) const PATHS: [&str; 7] =
    ["/produce", "/produce/batch", "/consume", "/ack", "/nak", "/extend", "/topics"];

async fn produce(receiver: &Receiver, query: &str, body: &str) -> Answer {
    post(&receiver.router, &format!("/produce?{query}"), body.to_owned()).await
}

async fn delete(receiver: &Receiver, path: &str) -> StatusCode {
    send(&receiver.router, Request::delete(path).body(Body::empty()).expect("a request")).await.status
}

/// A consumer's stream, frame by frame.
struct Stream {
    body: Body,
}

impl Stream {
    async fn open(receiver: &Receiver, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(format!("/consume?{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = tower::ServiceExt::oneshot(receiver.router.clone(), request).await.expect("infallible");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut this = Self { body: answer.into_body() };
        assert_eq!(this.frame().await.expect("a greeting"), ": open\n\n");
        this
    }

    /// The next frame as it is sent; `None` at the end.
    async fn frame(&mut self) -> Option<String> {
        let frame = timeout(Duration::from_secs(20), self.body.frame()).await.expect("in time")?;
        let bytes = frame.expect("no error").into_data().expect("data");
        Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    async fn nothing_comes(&mut self) {
        assert!(timeout(Duration::from_millis(200), self.body.frame()).await.is_err());
    }

    /// As the stock client reads it: by prefix, the data as JSON.
    async fn message(&mut self) -> Value {
        let frame = self.frame().await.expect("a record");
        let id = frame.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
        let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).expect("data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(data["id"], id);
        data
    }
}

#[tokio::test]
async fn the_references_round_trip_is_exact() {
    let receiver = receiver().await;
    let kept = produce(&receiver, "topic=telemetry&partition=1", r#"{"payload":"{\"gpu\":\"0\"}"}"#).await;
    assert_eq!((kept.status, kept.header("content-type")), (StatusCode::OK, "application/json"));
    let id = kept.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(kept.text(), json!({ "id": id }).to_string());

    let mut stream = Stream::open(&receiver, "topic=telemetry&partition=1&group=collectors", None).await;
    let data = json!({"id": id, "payload": "{\"gpu\":\"0\"}", "created_at": "2025-06-19T10:30:00Z",
        "topic": "telemetry", "partition": 1});
    let frame = stream.frame().await.expect("a record");
    let lines: Vec<_> = frame.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), (&*format!("id: {id}"), "partition: 1", 4));
    let sent: Value = serde_json::from_str(lines[1].strip_prefix("data: ").expect("data")).expect("JSON");
    assert_eq!(sent, data);

    let path = "/ack?topic=telemetry&partition=1&group=collectors";
    let acked = post(&receiver.router, path, json!({ "id": id }).to_string()).await;
    assert_eq!((acked.status, acked.text()), (StatusCode::OK, "ok"));
    for (path, id) in [
        (path, id.as_str()),
        (path, "nonsense"),
        ("/ack?topic=telemetry&partition=1&group=others", id.as_str()),
        ("/ack?topic=telemetry&partition=0&group=collectors", id.as_str()),
        ("/ack?topic=unknown&partition=1&group=collectors", id.as_str()),
    ] {
        let failed = post(&receiver.router, path, json!({ "id": id }).to_string()).await;
        let expected = (StatusCode::BAD_REQUEST, "ack failed (unknown id or wrong group)");
        assert_eq!((failed.status, failed.text()), expected, "{path} {id}");
        assert!(failed.header("content-type").starts_with("text/plain"));
    }
    assert_eq!(get(&receiver.router, "/topics").await.text(), r#"{"telemetry":[1]}"#);
}

#[tokio::test]
async fn a_stream_waits_for_its_first_record_and_sends_each_at_once() {
    let receiver = receiver().await;
    let mut stream = Stream::open(&receiver, "topic=t&partition=0&group=g", None).await;
    stream.nothing_comes().await;
    for payload in ["one", "two"] {
        produce(&receiver, "topic=t&partition=0", payload).await;
        assert_eq!(stream.message().await["payload"], payload);
    }
    produce(&receiver, "topic=t&partition=1", "elsewhere").await;
    stream.nothing_comes().await;
    let mut all = Stream::open(&receiver, "topic=t&group=g", None).await;
    assert_eq!(all.message().await["partition"], 1);
}

#[tokio::test]
async fn a_client_that_goes_leaves_the_rest_and_comes_back_where_it_was() {
    let receiver = receiver().await;
    for n in 0..5 {
        produce(&receiver, "topic=t&partition=0", &n.to_string()).await;
    }
    let mut stream = Stream::open(&receiver, "topic=t&partition=0&group=g&credit=3", None).await;
    let first = stream.message().await;
    let second = stream.message().await;
    assert_eq!((&first["payload"], &second["payload"]), (&json!("0"), &json!("1")));
    drop(stream);
    // The second one was sent, but the client says that the first was the last to arrive.
    let last = first["id"].as_str();
    let mut stream = Stream::open(&receiver, "topic=t&partition=0&group=g", last).await;
    for expected in ["1", "2", "3", "4"] {
        assert_eq!(stream.message().await["payload"], expected);
    }
    assert_eq!(receiver.common.metrics.streams.get(), 1);
    stream.nothing_comes().await;
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_their_group_and_with_the_process() {
    let receiver = receiver().await;
    let mut one = Stream::open(&receiver, "topic=t&partition=0&group=a", None).await;
    let mut two = Stream::open(&receiver, "topic=t&partition=0&group=b", None).await;
    let three = Stream::open(&receiver, "topic=t&partition=0&group=b", None).await;
    let refused = get(&receiver.router, "/consume?topic=t&partition=0&group=c").await;
    assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "30"));
    drop(three);
    assert_eq!(delete(&receiver, "/consume?topic=t&group=a").await, StatusCode::NO_CONTENT);
    assert_eq!(one.frame().await, None);
    assert_eq!(delete(&receiver, "/consume?topic=t&group=a").await, StatusCode::NOT_FOUND);
    receiver.common.draining.cancel();
    assert_eq!(two.frame().await, None);
}

#[tokio::test]
async fn pulls_batches_and_verdicts_go_together() {
    let receiver = receiver().await;
    let batch = json!({"messages": [{"payload": "a"}, {"payload": "b", "key": "k"}, {"payload": "c"}]});
    let path = "/produce/batch?topic=t&partition=2&id=once";
    let kept = post(&receiver.router, path, batch.to_string()).await.json();
    assert_eq!((kept["ids"].as_array().map(Vec::len), &kept["duplicate"]), (Some(3), &json!(false)));
    let again = post(&receiver.router, path, batch.to_string()).await.json();
    assert_eq!((&again["ids"], &again["duplicate"]), (&kept["ids"], &json!(true)));

    let pulled = get(&receiver.router, "/consume?topic=t&group=g&max=2").await.json();
    let texts: Vec<_> =
        pulled["messages"].as_array().expect("a list").iter().map(|m| &m["payload"]).collect();
    assert_eq!(texts, ["a", "b"]);
    let post_to = async |path: &str, body: Value| {
        let path = format!("/{path}?topic=t&partition=2&group=g");
        post(&receiver.router, &path, body.to_string()).await
    };
    let ids = [&kept["ids"][0], &kept["ids"][2], &json!("x")];
    let settled = post_to("ack", json!({ "ids": ids })).await.json();
    assert_eq!(
        settled,
        json!({"settled": 1, "failed": [kept["ids"][2], "x"]}),
        "the third was never delivered"
    );
    assert_eq!(post_to("extend", json!({"id": kept["ids"][1], "for_ms": 60_000})).await.text(), "ok");
    assert_eq!(post_to("nak", json!({ "id": kept["ids"][1] })).await.text(), "ok");
    let pulled = get(&receiver.router, "/consume?topic=t&partition=2&group=g&max=9&wait_ms=10").await.json();
    assert_eq!(
        (&pulled["messages"][0]["payload"], &pulled["messages"][0]["deliveries"]),
        (&json!("b"), &json!(2))
    );
    let empty = get(&receiver.router, "/consume?topic=t&partition=2&group=g&max=9&wait_ms=20").await;
    assert_eq!(empty.text(), r#"{"messages":[]}"#);

    let verbose = get(&receiver.router, "/topics?verbose=true").await.json();
    assert_eq!(verbose["t"]["max_partitions"], 4);
    let partition = &verbose["t"]["partitions"][0];
    assert_eq!(
        (&partition["partition"], &partition["depth"], &partition["records"]),
        (&json!(2), &json!(2), &json!(3))
    );
    let group = json!({"group": "g", "lag": 2, "in_flight": 2, "oldest_age_ms": 0});
    assert_eq!(partition["groups"], json!([group]));
}

#[tokio::test]
async fn full_is_429_with_a_time_and_nothing_kept() {
    let receiver = receiver().await;
    let messages: Vec<_> = (0..1_999).map(|n| json!({ "payload": n.to_string() })).collect();
    let path = "/produce/batch?topic=t&partition=0";
    let kept = post(&receiver.router, path, json!({ "messages": messages }).to_string()).await;
    assert_eq!(kept.status, StatusCode::OK, "{}", kept.text());
    assert_eq!(produce(&receiver, "topic=t&partition=0", "2000th").await.status, StatusCode::OK);
    for _ in 0..3 {
        let full = produce(&receiver, "topic=t&partition=0", "2001st").await;
        assert_eq!((full.status, full.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "10"));
        assert!(full.text().contains("2000 of 2000"), "{}", full.text());
    }
    let verbose = get(&receiver.router, "/topics?verbose=true").await.json();
    assert_eq!(verbose["t"]["partitions"][0]["records"], 2_000);
    // A consumer takes 500 and keeps on: at 50 a second over the last ten, 80 records have room within two.
    let pulled = get(&receiver.router, "/consume?topic=t&partition=0&group=g&max=500").await.json();
    let ids: Vec<_> =
        pulled["messages"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    let acked = post(&receiver.router, "/ack?topic=t&group=g", json!({ "ids": ids }).to_string()).await;
    assert_eq!(acked.status, StatusCode::OK, "{}", acked.text());
    let batch = |count: usize| json!({ "messages": vec![json!({ "payload": "x" }); count] }).to_string();
    assert_eq!(post(&receiver.router, path, batch(500)).await.status, StatusCode::OK);
    for (count, retry_after) in [(80, "2"), (1, "1"), (1_900, "10")] {
        let full = post(&receiver.router, path, batch(count)).await;
        let told = (full.status, full.header("retry-after"));
        assert_eq!(told, (StatusCode::TOO_MANY_REQUESTS, retry_after), "{count}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words_and_makes_nothing() {
    let receiver = receiver().await;
    let long = "x".repeat(200);
    for query in [
        "",
        "topic=&partition=0",
        "topic=a%2Fb&partition=0",
        "topic=t&partition=-1",
        "topic=t&partition=4",
        "topic=t&partition=99999999999999999999",
        "topic=t&partition=0x1",
        "topic=t&partition=+1",
        "topic=t.dead&partition=0",
        &format!("topic={long}"),
        "topic=t&topic=u",
        "topic=t&id=",
        &format!("topic=t&key={}", "k".repeat(300)),
    ] {
        let refused = produce(&receiver, query, "x").await;
        assert!(matches!(refused.status.as_u16(), 400 | 413), "{query}: {}", refused.status);
        assert!(refused.header("content-type").starts_with("text/plain"), "{query}");
    }
    let large = produce(&receiver, "topic=t&partition=0", &"x".repeat((1 << 20) + 1)).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    let huge = produce(&receiver, "topic=t&partition=0", &"x".repeat(10 << 20)).await;
    assert_eq!(huge.status, StatusCode::PAYLOAD_TOO_LARGE);
    let binary = post(&receiver.router, "/produce?topic=t", vec![0xff_u8]).await;
    assert_eq!(binary.status, StatusCode::BAD_REQUEST);
    for body in ["", "{}", "[]", r#"{"messages":[]}"#, r#"{"messages":[{}]}"#, r#"{"messages":["x"]}"#] {
        let refused = post(&receiver.router, "/produce/batch?topic=t", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}");
    }
    for query in [
        "",
        "topic=t",
        "group=g",
        "topic=t&group=g&partition=-1",
        "topic=t&group=g&partition=4",
        "topic=t&group=g&max=0",
        "topic=t&group=g&max=1001",
        "topic=t&group=g&max=x",
        "topic=t&group=g&credit=0",
        "topic=t&group=g&max=1&wait_ms=5001",
        "topic=t&group=%00",
        "topic=new.dead&group=g",
    ] {
        let refused = get(&receiver.router, &format!("/consume?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
    }
    for body in ["", "{}", "[]", r#"{"id":1}"#, r#"{"id":"a","ids":["b"]}"#] {
        let refused = post(&receiver.router, "/ack?topic=t&group=g", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let year = json!({"id": "00000000-0-0", "delay_ms": 31_536_000_000_u64}).to_string();
    assert_eq!(post(&receiver.router, "/nak?topic=t&group=g", year).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(get(&receiver.router, "/topics").await.text(), "{}", "nothing was made");
    for path in ["/produce?topic=t&partition=0", "/ack?topic=t&group=g", "/nak", "/extend", "/produce/batch"]
    {
        let wrong = get(&receiver.router, path).await;
        assert_eq!((wrong.status, wrong.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"), "{path}");
    }
}

#[tokio::test]
async fn a_foreign_page_neither_produces_nor_consumes_over_loopback() {
    let receiver = receiver().await;
    for (method, path) in [
        ("POST", "/produce?topic=t"),
        ("GET", "/consume?topic=t&group=g&max=1"),
        ("DELETE", "/consume?topic=t&group=g"),
        ("POST", "/ack?topic=t&group=g"),
    ] {
        let request = Request::builder().method(method).uri(path).header("origin", "http://evil.example");
        let refused = send(&receiver.router, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
    }
    assert_eq!(get(&receiver.router, "/topics").await.text(), "{}");
}

#[tokio::test]
async fn random_bodies_do_no_harm() {
    let receiver = receiver().await;
    let good = r#"{"messages":[{"payload":"x"},{"payload":"y","key":"k"}]}"#;
    bombard(&receiver.router, "POST", "/produce/batch?topic=t", good, 500, &[200, 400, 429]).await;
    bombard(&receiver.router, "POST", "/produce?topic=t", r#"{"payload":"x"}"#, 500, &[200, 400, 429]).await;
    let good = r#"{"ids":["00000000-0-0"]}"#;
    for path in ["/ack", "/nak", "/extend"] {
        bombard(&receiver.router, "POST", &format!("{path}?topic=t&group=g"), good, 300, &[200, 400]).await;
    }
    assert_eq!(receiver.common.metrics.panics.get(), 0);
    assert_eq!(receiver.queue.status().borrow().degraded, None);
}

#[tokio::test]
async fn the_documented_metrics_are_there_and_true() {
    let receiver = receiver().await;
    for payload in ["a", "b", "c"] {
        produce(&receiver, "topic=t&partition=1", payload).await;
    }
    let pulled = get(&receiver.router, "/consume?topic=t&group=g&max=2").await.json();
    let id = &pulled["messages"][0]["id"];
    post(&receiver.router, "/ack?topic=t&group=g", json!({ "id": id }).to_string()).await;
    let metrics = get(&receiver.router, "/metrics").await;
    for line in [
        "message_queue_size{topic=\"t\",partition=\"1\"} 2",
        "messages_produced_total{topic=\"t\"} 3",
        "messages_consumed_total{topic=\"t\",group=\"g\"} 1",
        "message_processing_duration_seconds_count 1",
        "broker_health_status 1",
        "sextant_queue_delivered_records_total 2",
    ] {
        assert!(metrics.text().lines().any(|have| have == line), "{line} is missing:\n{}", metrics.text());
    }
}
