//! Telemetry and series over HTTP, from the queue into the store and out again.

use super::*;
use crate::domain::series::{Labels, Sample, SeriesSamples};
use crate::receiver::collector::{self, topic};

const NOW_MS: i64 = NOW_NS / 1_000_000;

/// The record that the reference documents, of a time and a value.
fn record(uuid: &str, at: &str, value: f64) -> Value {
    json!({"device_id": "gpu-001", "metric": "temperature", "value": value, "time": at, "gpu_id": "0",
        "uuid": uuid, "model_name": "NVIDIA RTX 4090", "hostname": "worker-node-1", "container": "gpu-workload",
        "pod": "gpu-pod-1", "namespace": "default", "labels_raw": "app=ml-training"})
}

/// With the collector at work.
async fn collecting() -> (Receiver, tokio::task::AbortHandle) {
    collecting_into(&series::Config::default()).await
}

async fn collecting_into(config: &series::Config) -> (Receiver, tokio::task::AbortHandle) {
    let receiver = receiver_storing(Config::default(), &keys::Config::default(), config).await;
    let collecting =
        topic::run(receiver.queue.clone(), receiver.series.clone(), collector::Metrics::default());
    let task = tokio::spawn(collecting).abort_handle();
    (receiver, task)
}

async fn until(router: &Router, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_000 {
        let answer = get(router, path).await;
        if answer.status == StatusCode::OK && wanted(&answer.json()) {
            return answer.json();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{path}: {}", get(router, path).await.text())
}

#[tokio::test]
async fn what_is_documented_goes_in_and_comes_out() {
    let (receiver, task) = collecting().await;
    let router = &receiver.router;
    let uuid = "12345678-1234-1234-1234-123456789012";
    // Documented with a time long past: it is taken, kept and found.
    let old = record(uuid, "2024-09-25T10:30:00Z", 75.5);
    let answer = post(router, "/telemetry", old.to_string()).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, json!({"status": "accepted", "count": 1})));
    let gpus = until(router, "/api/v1/gpus", |gpus| gpus["count"] == 1).await;
    let gpu = json!({"device_id": "gpu-001", "gpu_id": "0", "uuid": uuid, "model_name": "NVIDIA RTX 4090",
        "hostname": "worker-node-1", "container": "gpu-workload", "pod": "gpu-pod-1", "namespace": "default",
        "last_seen": "2024-09-25T10:30:00Z"});
    assert_eq!(gpus["gpus"], json!([gpu]));
    let mut expected = old.clone();
    expected["labels_raw"] = json!("app=\"ml-training\"");
    for path in [
        "/api/v1/gpus/gpu-001/telemetry?start=2024-09-25T00:00:00Z&end=2024-09-25T23:59:59Z",
        "/api/v1/gpus/gpu-001/telemetry?start_time=2024-09-25T00:00:00Z&end_time=2024-09-25T23:59:59Z",
        &format!("/api/v1/gpus/{uuid}/telemetry"),
        "/api/v1/gpus/gpu-001/telemetry?metric=temperature&limit=5",
    ] {
        let answer = get(router, path).await;
        assert_eq!(answer.json()["data"], json!([expected]), "{path}");
        assert_eq!(answer.json()["count"], 1);
    }
    let outside = get(router, "/api/v1/gpus/gpu-001/telemetry?start=2024-09-26T00:00:00Z").await;
    assert_eq!((outside.status, &outside.json()["data"]), (StatusCode::OK, &json!([])));
    assert_eq!(
        get(router, "/api/v1/hosts").await.json(),
        json!({"count": 1, "hosts": [{"hostname": "worker-node-1", "gpu_count": 1}]})
    );
    assert_eq!(
        get(router, "/api/v1/namespaces").await.json(),
        json!({"count": 1, "namespaces": [{"namespace": "default", "gpu_count": 1}]})
    );
    task.abort();
}

#[tokio::test]
async fn the_newest_records_are_given_and_buckets_are_made() {
    let (receiver, task) = collecting().await;
    let router = &receiver.router;
    let at = |n: i64| crate::api::time::rfc3339(NOW_NS - n * 60_000_000_000);
    let several: Vec<_> = (0..150).map(|n| record("u", &at(n), n as f64)).collect();
    assert_eq!(post(router, "/telemetry", json!(several).to_string()).await.json()["count"], 150);
    let all = until(router, "/api/v1/gpus/u/telemetry?limit=1000", |all| all["count"] == 150).await;
    assert_eq!((&all["data"][0]["value"], &all["data"][149]["value"]), (&json!(149.0), &json!(0.0)));
    let newest = get(router, "/api/v1/gpus/u/telemetry").await.json();
    assert_eq!((&newest["count"], &newest["data"][0]["value"]), (&json!(100), &json!(99.0)));
    let hourly = get(router, "/api/v1/gpus/u/telemetry?step=1h&agg=max&start=0").await.json();
    assert_eq!(hourly["data"][0]["value"], 149.0);
    task.abort();
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_of_it_is_kept() {
    let (receiver, task) = collecting().await;
    let router = &receiver.router;
    let mut unnamed = record("", "2024-09-25T10:30:00Z", 1.0);
    unnamed["device_id"] = json!("");
    unnamed["hostname"] = json!("");
    let good = record("u", "2024-09-25T10:30:00Z", 1.0);
    let wrong = [
        json!([good, unnamed]).to_string(),
        json!([good, record("u", "yesterday", 1.0)]).to_string(),
        json!([good, record("u", "2999-01-01T00:00:00Z", 1.0)]).to_string(),
        json!([good, record("u", "1969-12-31T23:59:59Z", 1.0)]).to_string(),
        json!({"metric": "m", "time": "2024-09-25T10:30:00Z", "device_id": "d"}).to_string(),
        json!({"metric": "m", "value": "75", "time": "2024-09-25T10:30:00Z", "device_id": "d"}).to_string(),
        "[".repeat(10_000),
        "null".to_owned(),
        "{\"metric\": \"\u{0}\"}".to_owned(),
        json!(vec![good.clone(); 1_001]).to_string(),
    ];
    for body in wrong {
        let answer = post(router, "/telemetry", body.clone()).await;
        let expected =
            if body.len() > 100_000 { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        assert_eq!(answer.status, expected, "{}", &body[..body.len().min(100)]);
        let answer = answer.json();
        assert!(answer["error"].is_string() && answer["message"].is_string(), "{answer}");
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(get(router, "/api/v1/gpus").await.json()["count"], 0);
    for (path, expected) in [
        ("/api/v1/gpus/nobody/telemetry", StatusCode::NOT_FOUND),
        ("/api/v1/gpus/u%22%7D%20or%20up/telemetry", StatusCode::NOT_FOUND),
        ("/api/v1/gpus?start=tomorrow", StatusCode::BAD_REQUEST),
        ("/api/v1/gpus/u/telemetry?limit=0", StatusCode::BAD_REQUEST),
        ("/api/v1/gpus/u/telemetry?limit=-5", StatusCode::BAD_REQUEST),
        ("/api/v1/gpus/u/telemetry?agg=avg", StatusCode::BAD_REQUEST),
        ("/api/v1/hosts?start=5&end=4", StatusCode::BAD_REQUEST),
        ("/api/v1/samples", StatusCode::BAD_REQUEST),
        ("/api/v1/samples?match=up%7B", StatusCode::BAD_REQUEST),
        ("/api/v1/samples?match=%7Ba%3D~%22(x%7B1000%7D)%7B1000%7D%22%7D", StatusCode::BAD_REQUEST),
        ("/api/v1/samples?match=up&format=xml", StatusCode::BAD_REQUEST),
        ("/api/v1/statistics?match=up&by=a,b,c,d,e,f,g,h,i", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(status(router, Request::get(path).body(Body::empty()).unwrap()).await, expected, "{path}");
    }
    // An empty array is nothing to keep, and no error.
    assert_eq!(post(router, "/telemetry", "[]").await.json()["count"], 0);
    task.abort();
}

/// A message that cannot be read does not hold up the others: it ends among the dead letters.
#[tokio::test]
async fn unreadable_messages_end_among_the_dead_letters() {
    let (receiver, task) = collecting().await;
    let router = &receiver.router;
    let queue = receiver.queue.clone();
    let stop = CancellationToken::new();
    let timed = tokio::spawn(async move { queue.keep_time(stop).await });
    post(router, "/produce?topic=telemetry&partition=0", "no record").await;
    let good = record("u", "2024-09-25T10:30:00Z", 1.0);
    post(router, "/produce?topic=telemetry&partition=0", json!({"payload": good.to_string()}).to_string())
        .await;
    until(router, "/api/v1/gpus", |gpus| gpus["count"] == 1).await;
    until(router, "/topics", |topics| topics["telemetry.dead"].is_array()).await;
    timed.abort();
    task.abort();
}

/// A store that takes nothing for longer than a message may be tried costs none: it is stored when the store is back.
#[tokio::test]
async fn a_store_that_is_down_makes_no_dead_letters() {
    let (up, is_up) = watch::channel(false);
    let answer = move || {
        let is_up = *is_up.borrow();
        async move { if is_up { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED } }
    };
    let other = Router::new().route("/api/v1/write", axum::routing::post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, other).await });
    let mut config = series::Config { engine: series::EngineKind::Remote, ..series::Config::default() };
    config.remote.write_url = format!("{url}/api/v1/write");
    config.remote.read_url = url;
    let (receiver, task) = collecting_into(&config).await;
    let router = &receiver.router;
    let good = record("u", "2024-09-25T10:30:00Z", 1.0);
    post(router, "/telemetry", good.to_string()).await;
    // More seconds than the default has tries.
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    let depth = |topics: &Value| {
        topics["telemetry"]["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["depth"].as_u64().unwrap())
            .sum::<u64>()
    };
    let topics = get(router, "/topics?verbose=true").await.json();
    assert_eq!((depth(&topics), &topics["telemetry.dead"]), (1, &Value::Null), "{topics}");
    up.send_replace(true);
    let topics = until(router, "/topics?verbose=true", |topics| depth(topics) == 0).await;
    assert_eq!(topics["telemetry.dead"], Value::Null, "{topics}");
    task.abort();
}

#[tokio::test]
async fn series_are_found_read_and_summed_up() {
    let receiver = receiver().await;
    let router = &receiver.router;
    let series = |node: &str, values: &[f64]| {
        let labels = Labels::new("m_total", [("node", node), ("quoted", "a\"b,c")]).unwrap();
        let at = |n: usize| NOW_MS - 60_000 + i64::try_from(n).unwrap() * 10_000;
        let samples =
            values.iter().enumerate().map(|(n, value)| Sample { at_ms: at(n), value: *value }).collect();
        SeriesSamples { labels, samples }
    };
    let stale = Sample::stale(NOW_MS);
    let mut first = series("a", &[1.0, 3.0, f64::NAN, f64::INFINITY]);
    first.samples.push(stale);
    receiver.series.append("s", vec![first, series("b", &[5.0, 6.0, 2.0])]).await.unwrap();
    let list = get(router, "/api/v1/series?match=m_total%7Bnode%3D%22b%22%7D").await.json();
    let labels = json!({"__name__": "m_total", "node": "b", "quoted": "a\"b,c"});
    assert_eq!(list, json!({"count": 1, "series": [{"labels": labels, "last_ms": NOW_MS - 40_000}]}));
    assert_eq!(get(router, "/api/v1/labels").await.json()["values"], json!(["__name__", "node", "quoted"]));
    assert_eq!(get(router, "/api/v1/labels/node/values").await.json()["values"], json!(["a", "b"]));
    let only = get(router, "/api/v1/labels/node/values?match=m_total%7Bnode!%3D%22a%22%7D").await.json();
    assert_eq!(only["values"], json!(["b"]));
    let read = get(router, "/api/v1/samples?match=m_total").await.json();
    let of_a = json!([
        [NOW_MS - 60_000, 1.0],
        [NOW_MS - 50_000, 3.0],
        [NOW_MS - 40_000, "NaN"],
        [NOW_MS - 30_000, "+Inf"]
    ]);
    assert_eq!((&read["count"], &read["series"][0]["samples"]), (&json!(2), &of_a));
    let minute =
        get(router, "/api/v1/samples?match=m_total%7Bnode%3D%22b%22%7D&step=1h&agg=sum").await.json();
    assert_eq!(minute["series"][0]["samples"][0][1], 13.0);
    let csv = get(router, "/api/v1/samples?match=m_total%7Bnode%3D%22b%22%7D&format=csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    let lines: Vec<_> = csv.text().lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].ends_with(r#",m_total,"node=""b"",quoted=""a\""b,c""",5"#), "{}", lines[1]);
    let of = get(router, "/api/v1/statistics?match=m_total&by=node").await.json();
    assert_eq!(of["statistics"][1]["rate"], json!((1.0 + 2.0) / 20.0));
    assert_eq!((&of["statistics"][1]["p50"], &of["statistics"][1]["samples"]), (&json!(5.0), &json!(3)));
    assert_eq!(of["statistics"][0]["max"], "+Inf");
    let together = get(router, "/api/v1/statistics?match=m_total&by=__name__").await.json();
    assert_eq!((&together["count"], &together["statistics"][0]["series"]), (&json!(1), &json!(2)));
}

/// A name in any script, an index on a host: whatever names a device makes a key.
#[tokio::test]
async fn every_device_that_has_a_name_is_taken_and_found() {
    let (receiver, task) = collecting().await;
    let at = crate::api::time::rfc3339(NOW_NS);
    let mut records = [record("", &at, 1.0), record("", &at, 2.0), record("u", &at, 140_737_488_355_328.0)];
    let foreign = "\u{413}\u{41f}\u{423}";
    records[0]["device_id"] = json!(foreign);
    records[1]["device_id"] = json!("");
    let answer = post(&receiver.router, "/telemetry", json!(records).to_string()).await;
    assert_eq!((answer.status, &answer.json()["count"]), (StatusCode::OK, &json!(3)), "{}", answer.text());
    // The third is DCGM's word for no value.
    let gpus = until(&receiver.router, "/api/v1/gpus", |gpus| gpus["count"] == 2).await;
    let gpus = gpus["gpus"].as_array().unwrap();
    let ids: Vec<_> = gpus.iter().map(|gpu| gpu["uuid"].as_str().unwrap()).collect();
    assert_eq!(ids, ["nvidia0", foreign]);
    task.abort();
}

/// What a client does not read is held, and counted as long.
#[tokio::test]
async fn answers_hold_their_room_until_they_are_read() {
    use tower::ServiceExt as _;
    let receiver = receiver().await;
    let samples = (0..500).map(|n| Sample { at_ms: NOW_MS - n, value: 1.0 }).collect();
    let labels = Labels::new("m", [("UUID", "u")]).unwrap();
    receiver.series.append("s", vec![SeriesSamples { labels, samples }]).await.unwrap();
    let free = receiver.door.room.free();
    for (path, least) in [
        ("/api/v1/samples?match=m", 500),
        ("/api/v1/samples?match=m&format=csv", 500),
        ("/api/v1/gpus/u/telemetry", 100),
        ("/api/v1/gpus", 1),
        ("/api/v1/statistics?match=m", 1),
        ("/api/v1/series", 1),
        ("/api/v1/labels", 1),
        ("/api/v1/labels/UUID/values", 1),
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let unread = receiver.router.clone().oneshot(request).await.unwrap();
        let held = free - receiver.door.room.free();
        assert!(unread.status() == 200 && (least..20_000).contains(&held), "{path}: {held}");
        axum::body::to_bytes(unread.into_body(), usize::MAX).await.unwrap();
        assert_eq!(receiver.door.room.free(), free, "{path}");
    }
    // An error and a short list hold nothing.
    for path in ["/api/v1/samples?match=", "/api/v1/hosts"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let unread = receiver.router.clone().oneshot(request).await.unwrap();
        assert_eq!(receiver.door.room.free(), free, "{path} {}", unread.status());
    }
}

#[tokio::test]
async fn alerts_are_shown_with_their_states() {
    use crate::alerts::state::{Alert, State};
    let receiver = receiver().await;
    let alert = |rule: &str, state, value| Alert {
        rule: rule.to_owned(),
        labels: [("node".to_owned(), "n".to_owned())].into(),
        state,
        value,
        active_at_ms: 1_000,
        fired_at_ms: (state != State::Pending).then_some(2_000),
        resolved_at_ms: None,
        severity: "warning".to_owned(),
        summary: "s".to_owned(),
    };
    let alerts = [alert("A", State::Firing, Some(f64::INFINITY)), alert("B", State::Pending, Some(1.5))];
    let failing = vec![("C".to_owned(), "disk".to_owned())];
    let status = crate::alerts::Status { alerts: Arc::from(alerts), failing, evaluated_at_ms: Some(3_000) };
    receiver.alerting.send_replace(status);
    let shown = get(&receiver.router, "/api/v1/alerts?state=firing").await.json();
    let expected = json!({"count": 1, "evaluated_at": "1970-01-01T00:00:03Z", "failing": {"C": "disk"}, "alerts": [
        {"name": "A", "state": "firing", "severity": "warning", "labels": {"node": "n"}, "summary": "s", "value": null,
            "active_at": "1970-01-01T00:00:01Z", "fired_at": "1970-01-01T00:00:02Z", "resolved_at": null}]});
    assert_eq!(shown, expected);
    assert_eq!(get(&receiver.router, "/api/v1/alerts").await.json()["count"], 2);
    assert_eq!(get(&receiver.router, "/api/v1/alerts?state=loud").await.status, StatusCode::BAD_REQUEST);
}

/// Bodies made at random: an answer each, no panic, no flood of log lines.
#[tokio::test]
async fn hostile_bodies_are_refused_and_hurt_nobody() {
    let receiver = receiver().await;
    let good = json!([record("u", "2024-09-25T10:30:00Z", 1.0)]).to_string();
    bombard(&receiver.router, "POST", "/telemetry", &good, 10_000, &[200, 400, 429]).await;
}
