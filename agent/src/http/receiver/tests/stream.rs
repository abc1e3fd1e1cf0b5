//! The receiver's stream: what is stored is told, once, the latest of each.

use serde_json::{Value, json};
use tokio::time::{Duration, timeout};

use super::{Receiver, batch, pods, receiver};
use crate::api::runqueue::record::NodeRunqueue;
use crate::http::metrics::KindLabel;
use crate::http::stream::tests::{Client, Got};
use crate::http::testing::{get, post, samples};

async fn send(receiver: &Receiver, node: &str, first_seq: u64, bodies: &[Value]) {
    let ack = post(&receiver.router, "/api/v1/ingest", batch(node, first_seq, bodies)).await;
    assert_eq!(ack.status, 200, "{}", ack.text());
}

fn exit(n: u64) -> Value {
    let body = json!({
        "ops": "rustland", "enable_seq": n, "kind": "error_stall", "kind_code": 1026, "exit_code": 0,
        "reason": "runnable task stall", "msg": "", "detail": "", "noticed_at_ns": 0,
    });
    json!({ "kind": "scheduler_exit", "body": body })
}

fn runqueue() -> Value {
    json!({"kind": "runqueue", "body": NodeRunqueue::new(&samples::pods(), &samples::runqueues())})
}

/// The next event's kind, node and body.
async fn next(client: &mut Client) -> (String, String, Value) {
    let got = soon(client).await;
    let mut json = got.json();
    (got.event, json["node"].as_str().expect("a node").to_owned(), json["body"].take())
}

async fn soon(client: &mut Client) -> Got {
    timeout(Duration::from_secs(20), client.next()).await.expect("in time").expect("an event")
}

async fn nothing_comes(client: &mut Client) {
    assert!(timeout(Duration::from_millis(200), client.next()).await.is_err());
}

#[tokio::test]
async fn what_is_stored_is_told_and_what_was_stored_before_is_not_told_again() {
    let receiver = receiver().await;
    let mut client = Client::open(&receiver.router, "/api/v1/stream", None).await;
    nothing_comes(&mut client).await;
    send(&receiver, "a", 1, &[pods(), exit(1), exit(2)]).await;
    let (kind, node, body) = next(&mut client).await;
    assert_eq!((&*kind, &*node), ("pods", "a"));
    assert_eq!(body, pods()["body"], "the record's own body");
    assert_eq!(next(&mut client).await.2["enable_seq"], 1, "exits replace nothing");
    assert_eq!(next(&mut client).await.2["enable_seq"], 2);
    // The same batch again is stored no second time, and a refused one never.
    send(&receiver, "a", 1, &[pods(), exit(1), exit(2)]).await;
    post(&receiver.router, "/api/v1/ingest", batch("a", 4, &[json!({"kind": "nonsense"})])).await;
    nothing_comes(&mut client).await;
    let warning = json!({"at_ns": 7, "ops": "rustland", "enable_seq": 3, "waiting": 2, "timeout_ns": 5_000_000_000_u64,
        "longest": {"tid": 9, "pid": 8, "comm": "worker", "cgroup_id": 4, "wait_ns": 2_500_000_000_u64}});
    let event = json!({"at_ns": 6, "since_ns": 5, "ops": "rustland", "enable_seq": 3, "name": "SCX_EV_X",
        "delta": 2, "total": 40});
    let both = [("scheduler_warning", warning), ("scheduler_event", event)];
    let records = both.each_ref().map(|(kind, body)| json!({"kind": kind, "body": body}));
    send(&receiver, "a", 4, &[&records[..], &[runqueue()]].concat()).await;
    for (kind, body) in both {
        assert_eq!(next(&mut client).await, (kind.to_owned(), "a".to_owned(), body));
    }
    assert_eq!(next(&mut client).await.0, "runqueue", "the control: what is new is told");
}

#[tokio::test]
async fn a_slow_client_gets_the_latest_of_each_node() {
    let receiver = receiver().await;
    let mut client = Client::open(&receiver.router, "/api/v1/stream?kind=pods,scheduler_exit", None).await;
    send(&receiver, "a", 1, &[pods(), runqueue()]).await;
    assert_eq!(next(&mut client).await.0, "pods");
    for seq in 3..53 {
        send(&receiver, "a", seq, &[pods()]).await;
    }
    send(&receiver, "b", 1, &[pods()]).await;
    send(&receiver, "a", 53, &[exit(1)]).await;
    let told = soon(&mut client).await;
    assert_eq!((&*told.event, &*told.data), ("skipped", "{\"samples\":49}"));
    let rest = [next(&mut client).await, next(&mut client).await, next(&mut client).await];
    let names: Vec<_> = rest.iter().map(|(kind, node, _)| (&**kind, &**node)).collect();
    assert_eq!(names, [("pods", "a"), ("pods", "b"), ("scheduler_exit", "a")]);
    nothing_comes(&mut client).await;
    let label = KindLabel { kind: "pods" };
    assert_eq!(receiver.common.metrics.stream_skipped.get_or_create(&label).get(), 49);
}

#[tokio::test]
async fn a_stream_begins_with_the_present_or_with_what_came_after_the_last_event() {
    let receiver = receiver().await;
    send(&receiver, "a", 1, &[pods()]).await;
    send(&receiver, "b", 1, &[runqueue()]).await;
    let open = |last_id| Client::open(&receiver.router, "/api/v1/stream", last_id);
    let mut first = open(None).await;
    let id = soon(&mut first).await.id;
    assert_eq!(next(&mut first).await.1, "b");
    assert_eq!(next(&mut open(Some(&id)).await).await.1, "b", "it has the first");
    for none in ["x", "9223372036854775807", ""] {
        assert_eq!(next(&mut open(Some(none)).await).await.1, "a", "`{none}` is no id of ours");
    }
}

#[tokio::test]
async fn filters_cut_what_is_told_to_the_pods_that_were_asked_for() {
    let receiver = receiver().await;
    send(&receiver, "a", 1, &[pods(), runqueue(), exit(1)]).await;
    send(&receiver, "b", 1, &[pods()]).await;
    let mut node = Client::open(&receiver.router, "/api/v1/stream?node=b", None).await;
    assert_eq!(next(&mut node).await.1, "b");
    nothing_comes(&mut node).await;
    let mut pod = Client::open(&receiver.router, "/api/v1/stream?node=a&namespace=monitoring", None).await;
    let (kind, _, body) = next(&mut pod).await;
    assert_eq!((&*kind, body["pods"].as_array().map(Vec::len)), ("pods", Some(1)), "of two");
    assert_eq!(next(&mut pod).await.0, "runqueue");
    assert_eq!(next(&mut pod).await.0, "scheduler_exit", "which has no pods");
    let mut nobody =
        Client::open(&receiver.router, "/api/v1/stream?kind=pods,runqueue&pod=nobody", None).await;
    nothing_comes(&mut nobody).await;
    assert_eq!(get(&receiver.router, "/api/v1/stream?kind=bss_posted").await.status, 400);
}
