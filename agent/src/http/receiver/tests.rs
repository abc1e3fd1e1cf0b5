//! The receiver's routes over a real store in a temporary directory.

use std::sync::Arc;

use axum::Router;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::exposition::FleetCollector;
use super::queue::Door;
use super::*;
use crate::api::pods::Pods;
use crate::api::runqueue::record::NodeRunqueue;
use crate::http::keys::{self, Keys};
use crate::http::testing::hostile::bombard;
use crate::http::testing::{NOW_NS, get, identity, post, samples, status};
use crate::http::{Config, Parts, Role, metrics};

use crate::queue::{self, Queue};
use crate::receiver::{fleet::Fleet, ingest};
use crate::series::{self, Series};
use crate::store::{self, Store};

mod history;
mod packed;
mod queue_routes;
mod series_routes;
mod stream;
mod write;

struct Receiver {
    router: Router,
    common: Common,
    queue: Queue,
    series: Series,
    door: super::series::Door,
    alerting: watch::Sender<crate::alerts::Status>,
    _dir: tempfile::TempDir,
}

async fn receiver() -> Receiver {
    receiver_with(Config::default()).await
}

async fn receiver_with(config: Config) -> Receiver {
    receiver_of(config, &keys::Config::default()).await
}

async fn receiver_of(config: Config, keys: &keys::Config) -> Receiver {
    receiver_storing(config, keys, &series::Config::default()).await
}

async fn receiver_storing(
    config: Config,
    keys: &keys::Config,
    config_of_series: &series::Config,
) -> Receiver {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut registry, _panics) = crate::telemetry::registry("receiver");
    let ours = registry.sub_registry_with_prefix("sextant");
    let store =
        Store::open(dir.path(), &store::Config::default(), store::Metrics::register(ours)).expect("a store");
    let fleet = Arc::new(Fleet::restore(&store).await.expect("an empty fleet"));
    let door = Arc::new(Ingest::new(store, fleet, ingest::Metrics::register(ours), || NOW_NS));
    let queue_metrics = queue::Metrics::register(ours);
    let reference = queue_metrics.clone();
    let config_of_queue = queue::Config::default();
    let queue = Queue::open(dir.path(), &config_of_queue, queue_metrics, || NOW_NS).await.expect("a queue");
    let metrics_of_series = series::Metrics::register(ours);
    let series =
        Series::open(dir.path(), config_of_series, metrics_of_series, || NOW_NS).await.expect("series");
    let metrics = metrics::Metrics::register(ours);
    ours.register_collector(Box::new(FleetCollector { ingest: Arc::clone(&door), clock: || NOW_NS }));
    reference.register_reference(&mut registry);
    let common = Common::from(Parts {
        config,
        identity: identity(Role::Receiver),
        keys: Keys::new(keys).expect("keys"),
        clock: || NOW_NS,
        registry,
        events: crate::events::Events::in_memory(|| NOW_NS),
        metrics,
        sources: watch::channel(Vec::new()).1,
        draining: CancellationToken::new(),
    });
    let of_series = super::series::Door::new(series.clone());
    let (alerting, alerts) = watch::channel(crate::alerts::Status::default());
    let door_of_queue = Door::new(queue.clone(), 3);
    let state = ReceiverState::new(common.clone(), door, door_of_queue, of_series.clone(), alerts);
    Receiver { router: router(&state), common, queue, series, door: of_series, alerting, _dir: dir }
}

fn batch(node: &str, first_seq: u64, bodies: &[Value]) -> String {
    let records: Vec<_> = bodies
        .iter()
        .map(|body| {
            let mut record = body.clone();
            record["at_ns"] = json!(NOW_NS - 2_000_000_000);
            record["boot_id"] = json!("b");
            record
        })
        .collect();
    let accounts = json!({"produced": 10, "acknowledged": 0, "spooled": bodies.len(), "spooled_bytes": 1,
        "dropped": {"spool_full": 2}, "oldest_at_ns": null});
    json!({"version": 1, "node": node, "boot_id": "b", "spool_id": "s", "first_seq": first_seq,
        "accounts": accounts, "records": records})
    .to_string()
}

fn pods() -> Value {
    json!({"kind": "pods", "body": Pods::from(&samples::pods())})
}

#[test]
fn the_openapi_document_is_golden() {
    let golden = expect_test::expect_file!["../../../../tests/golden/openapi-receiver.json"];
    golden.assert_eq(&crate::http::openapi::to_json(&document()));
}

#[tokio::test]
async fn a_batch_is_stored_once_and_seen_everywhere() {
    let receiver = receiver().await;
    let body = batch("worker-7", 1, &[pods(), json!({"kind": "bss_posted", "body": {"nr_queued": 5}})]);
    let ack = post(&receiver.router, "/api/v1/ingest", body.clone()).await;
    assert_eq!((ack.status, ack.text()), (StatusCode::OK, r#"{"acked_seq":2,"stored":2,"duplicates":0}"#));
    let again = post(&receiver.router, "/api/v1/ingest", body).await;
    assert_eq!(again.text(), r#"{"acked_seq":2,"stored":0,"duplicates":2}"#);

    let nodes = get(&receiver.router, "/api/v1/nodes").await.json();
    let node = &nodes["nodes"][0];
    assert_eq!((&node["node"], &node["stored"], &node["pods"]), (&json!("worker-7"), &json!(2), &json!(2)));
    assert_eq!(node["lag_seconds"], 2.0);
    let latest = get(&receiver.router, "/api/v1/metrics").await.json();
    assert_eq!((&latest["success"], &latest["data"]["nr_queued"]), (&json!(true), &json!(5)));

    let metrics = get(&receiver.router, "/metrics").await;
    for line in [
        "sextant_nodes 1",
        "sextant_node_stored_records_total{node=\"worker-7\"} 2",
        "sextant_node_dropped_records_total{node=\"worker-7\",reason=\"spool_full\"} 2",
    ] {
        assert!(metrics.text().lines().any(|have| have == line), "{line} is missing:\n{}", metrics.text());
    }
}

#[tokio::test]
async fn the_fleets_pods_are_the_references_with_their_node() {
    let receiver = receiver().await;
    let empty = get(&receiver.router, "/api/v1/pods/pids").await.json();
    assert_eq!((&empty["success"], &empty["pods"]), (&json!(true), &json!([])));
    for node in ["a", "b", "c"] {
        let pods = if node == "b" { json!({"kind": "pods", "body": Pods::default()}) } else { pods() };
        let ack = post(&receiver.router, "/api/v1/ingest", batch(node, 1, &[pods])).await;
        assert_eq!(ack.status, StatusCode::OK, "{}", ack.text());
    }
    let all = get(&receiver.router, "/api/v1/pods/pids").await.json();
    let nodes: Vec<_> =
        all["pods"].as_array().expect("a list").iter().map(|pod| pod["node"].clone()).collect();
    assert_eq!(nodes, ["a", "a", "c", "c"], "a node without pods breaks no comma");
    let mut first = all["pods"][0].clone();
    first.as_object_mut().expect("an object").remove("node");
    assert_eq!(first["pod_name"], "loki-0");
    assert_eq!(first["processes"][0], json!({"pid": 717_720, "command": "pause", "ppid": 717_576}));
    let one = get(&receiver.router, "/api/v1/pods/pids?node=c").await.json();
    assert_eq!(one["pods"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn the_fleets_pods_are_asked_for_within_limits() {
    let receiver = receiver().await;
    let pair = samples::runqueues();
    let record = NodeRunqueue::new(&samples::pods(), &pair);
    for node in ["a", "b"] {
        let records = [json!({"kind": "runqueue", "body": record})];
        let ack = post(&receiver.router, "/api/v1/ingest", batch(node, 1, &records)).await;
        assert_eq!(ack.status, StatusCode::OK, "{}", ack.text());
    }
    let all = get(&receiver.router, "/api/v1/pods").await.json();
    assert_eq!(
        (&all["matching"], &all["left_out"], &all["pods"][1]["node"]),
        (&json!(2), &json!(0), &json!("b"))
    );
    let pod = &all["pods"][0];
    assert_eq!((&pod["name"], &pod["runqueue"]["waits"]), (&json!("loki-0"), &json!(5_100)));
    assert_eq!((&pod["usage"], &pod["runqueue"]["recent"]), (&json!(null), &json!(null)));
    let count = |path: &str| {
        let (router, path) = (receiver.router.clone(), path.to_owned());
        async move {
            let answer = get(&router, &path).await.json();
            (answer["pods"].as_array().map(Vec::len), answer["left_out"].clone())
        }
    };
    assert_eq!(count("/api/v1/pods?limit=1&sort=wait").await, (Some(1), json!(1)));
    assert_eq!(count("/api/v1/pods?node=b&namespace=monitoring&pod=loki-0").await, (Some(1), json!(0)));
    assert_eq!(count("/api/v1/pods?node=none").await, (Some(0), json!(0)));
    for bad in ["limit=0", "limit=1001", "limit=-1", "limit=x", "sort=size", "node=a&node=b"] {
        let refused = get(&receiver.router, &format!("/api/v1/pods?{bad}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn what_happened_to_a_nodes_scheduler_is_told_by_its_name() {
    let receiver = receiver().await;
    let warning = json!({"at_ns": 7, "ops": "rustland", "enable_seq": 3, "waiting": 2, "timeout_ns": 5_000_000_000_u64,
        "longest": {"tid": 9, "pid": 8, "comm": "worker", "cgroup_id": 4, "wait_ns": 2_500_000_000_u64}});
    let event = json!({"at_ns": 6, "since_ns": 5, "ops": "rustland", "enable_seq": 3,
        "name": "SCX_EV_SELECT_CPU_FALLBACK", "delta": 2, "total": 40});
    let exit = json!({"ops": "rustland", "enable_seq": 3, "kind": "error_stall", "kind_code": 1026, "exit_code": 0,
        "reason": "runnable task stall", "msg": "m", "detail": "d", "noticed_at_ns": 8});
    let bodies = [
        json!({"kind": "scheduler_event", "body": event}),
        json!({"kind": "scheduler_warning", "body": warning}),
        json!({"kind": "scheduler_exit", "body": exit}),
    ];
    let ack = post(&receiver.router, "/api/v1/ingest", batch("worker-7", 1, &bodies)).await;
    assert_eq!(ack.text(), r#"{"acked_seq":3,"stored":3,"duplicates":0}"#);
    let told = get(&receiver.router, "/api/v1/nodes/worker-7/scheduler").await.json();
    let expected = json!({"node": "worker-7", "scheduler": null, "exits": [exit], "warnings": [warning], "events": [event]});
    assert_eq!(told, expected);
    post(&receiver.router, "/api/v1/metrics", r#"{"nr_queued":9}"#).await;
    for unknown in ["worker-8", "posted:local"] {
        let answer = get(&receiver.router, &format!("/api/v1/nodes/{unknown}/scheduler")).await;
        assert_eq!(
            (answer.status, &answer.json()["success"]),
            (StatusCode::NOT_FOUND, &json!(false)),
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn a_refused_batch_names_what_is_wrong() {
    let receiver = receiver().await;
    let bad_record = batch("worker-7", 1, &[pods(), json!({"kind": "nonsense", "body": 1})]);
    let refused = post(&receiver.router, "/api/v1/ingest", bad_record).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        (&refused.json()["success"], &refused.json()["refused"]),
        (&json!(false), &json!({"record": 1}))
    );
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\0",
        r#"{"version":1}"#,
        &batch("../etc", 1, &[pods()]),
        &batch("n", 0, &[pods()]),
    ] {
        let refused = post(&receiver.router, "/api/v1/ingest", body.to_owned()).await;
        assert_eq!(
            (refused.status, &refused.json()["refused"]),
            (StatusCode::BAD_REQUEST, &json!("envelope")),
            "{body}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(post(&receiver.router, "/api/v1/ingest", deep).await.status, StatusCode::BAD_REQUEST);
    let long =
        post(&receiver.router, "/api/v1/ingest", vec![b' '; Config::default().ingest_body_bytes + 1]).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(get(&receiver.router, "/api/v1/nodes").await.json()["nodes"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn posted_records_are_stored_here_too() {
    let receiver = receiver().await;
    assert_eq!(
        get(&receiver.router, "/api/v1/metrics").await.json()["message"],
        "No metrics data available yet"
    );
    let taken = post(&receiver.router, "/api/v1/metrics", r#"{"usersched_last_run_at":9}"#).await;
    assert_eq!(
        taken.text(),
        r#"{"success":true,"message":"Metrics received successfully","timestamp":"2025-06-19T10:30:00Z"}"#
    );
    let refused = post(&receiver.router, "/api/v1/metrics", r#"{"nr_queued":-9}"#).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(get(&receiver.router, "/api/v1/metrics").await.json()["data"]["usersched_last_run_at"], 9);
    assert_eq!(
        get(&receiver.router, "/api/v1/nodes").await.json()["nodes"],
        json!([]),
        "a sender is no node"
    );
    assert_eq!(get(&receiver.router, "/status").await.status, StatusCode::NOT_FOUND, "a node's route");
}

#[tokio::test(start_paused = true)]
async fn bodies_wait_for_their_turn_and_then_are_told_to_come_again() {
    let receiver = receiver_with(Config { max_bodies: 0, ..Config::default() }).await;
    for path in ["/api/v1/ingest", "/api/v1/metrics"] {
        let busy = post(&receiver.router, path, "{}").await;
        assert_eq!((busy.status, busy.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
    }
    assert_eq!(get(&receiver.router, "/health").await.status, StatusCode::OK, "reading needs no turn");
}

impl Receiver {
    /// Requests to `POST path` that were answered with `status`.
    fn answered(&self, path: &'static str, status: u16) -> u64 {
        let labels = metrics::RequestLabels { route: path.into(), method: "POST", status };
        self.common.metrics.requests.get_or_create(&labels).get()
    }
}

#[tokio::test]
async fn ten_thousand_random_batches_get_200_or_400_and_no_panic() {
    let receiver = receiver().await;
    let good = batch("worker-7", 1, &[json!({"kind": "bss_posted", "body": {"nr_queued": 5}})]);
    bombard(&receiver.router, "POST", "/api/v1/ingest", &good, 10_000, &[200, 400]).await;
    let taken = receiver.answered("/api/v1/ingest", 200);
    assert!(taken > 100 && taken < 9_900, "neither all good nor all bad: {taken}");
    assert_eq!(receiver.common.metrics.panics.get(), 0);
    // It still works, and what was spoiled has not spoilt it.
    let ack = post(&receiver.router, "/api/v1/ingest", batch("worker-8", 1, &[pods()])).await;
    assert_eq!(ack.text(), r#"{"acked_seq":1,"stored":1,"duplicates":0}"#);
    let nodes = get(&receiver.router, "/api/v1/nodes").await.json();
    assert!(nodes["nodes"].as_array().expect("a list").iter().any(|node| node["node"] == "worker-8"));
}

#[tokio::test]
async fn ten_thousand_random_records_get_200_or_400_and_no_panic() {
    let receiver = receiver().await;
    let good = r#"{"metrics":[{"usersched_pid":1,"nr_queued":2},{"nr_running":3}]}"#;
    bombard(&receiver.router, "POST", "/api/v1/metrics", good, 10_000, &[200, 400]).await;
    let taken = receiver.answered("/api/v1/metrics", 200);
    assert!(taken > 100 && taken < 9_900, "neither all good nor all bad: {taken}");
    assert_eq!(receiver.common.metrics.panics.get(), 0);
}

/// The others read no body, so a thousand each show what ten thousand would.
#[tokio::test]
async fn random_bodies_to_every_other_endpoint() {
    let receiver = receiver().await;
    post(&receiver.router, "/api/v1/ingest", batch("worker-7", 1, &[pods()])).await;
    let routes = get(&receiver.router, "/").await.json()["routes"].clone();
    let takes_bodies = ["/api/v1/ingest", "/api/v1/metrics", "/event", "/telemetry"];
    for route in routes.as_array().expect("a list") {
        let path = route["path"].as_str().expect("text").replace("{node}", "worker-7");
        let elsewhere = [&queue_routes::PATHS[..], &write::PATHS].concat();
        if takes_bodies.contains(&path.as_str()) || elsewhere.contains(&path.as_str()) {
            continue;
        }
        bombard(&receiver.router, "POST", &path, "{}", 1_000, &[405]).await;
        let request = Request::get(&*path).body(Body::empty()).expect("a request");
        let expected = match &*path {
            "/api/v1/gpus/{id}/telemetry" => StatusCode::NOT_FOUND,
            "/api/v1/samples" | "/api/v1/samples/stream" | "/api/v1/statistics" => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        };
        assert_eq!(status(&receiver.router, request).await, expected, "{path}");
    }
    let odd = "/api/v1/nodes/%ff%00%2e%2e/scheduler";
    bombard(&receiver.router, "GET", odd, "{}", 1_000, &[404]).await;
    bombard(&receiver.router, "GET", "/api/v1/ingest", "{}", 1_000, &[405]).await;
    let event = r#"{"labels":{"a":"b"},"value":1}"#;
    bombard(&receiver.router, "POST", "/event", event, 1_000, &[200, 400, 415]).await;
    bombard(&receiver.router, "GET", "/api/v1/pods/pids?node=%ff%00&node=%", "{}", 1_000, &[400]).await;
    assert_eq!(receiver.common.metrics.panics.get(), 0);
}

#[tokio::test]
async fn the_history_has_what_was_said_here_and_at_nodes_each_once() {
    let receiver = receiver().await;
    post(&receiver.router, "/event", r#"{"labels":{"type":"deploy","where":"here"}}"#).await;
    let said = |ms: i64| {
        let body = json!({"timestamp_ms": NOW_NS / 1_000_000 + ms, "name": "events_to_metrics",
            "labels": {"type": "source_lost"}, "value": 1.0});
        json!({"kind": "event", "body": body})
    };
    // A node that was killed says the second again.
    let records = [said(1), said(2), said(2)];
    let taken = post(&receiver.router, "/api/v1/ingest", batch("worker-7", 1, &records)).await;
    assert_eq!(taken.status, StatusCode::OK, "{}", taken.text());
    let asked = |query: &str| format!("/api/v1/events{query}");
    let found = |json: Value| json["events"].as_array().expect("a list").clone();
    let all = found(get(&receiver.router, &asked("")).await.json());
    let nodes: Vec<_> = all.iter().map(|event| event["node"].clone()).collect();
    assert_eq!(nodes, [json!("worker-7"), json!("worker-7"), Value::Null], "newest first");
    for (query, count) in [
        ("?type=deploy", 1),
        ("?node=worker-7", 2),
        ("?node=-", 1),
        ("?node=other", 0),
        ("?limit=1", 1),
        ("?type=source_lost&to_ms=1750329000001", 1),
    ] {
        assert_eq!(found(get(&receiver.router, &asked(query)).await.json()).len(), count, "{query}");
    }
}
