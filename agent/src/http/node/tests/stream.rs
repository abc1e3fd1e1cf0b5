//! The node's stream: present first, then changes; a slow client gets the latest and hears what it missed.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::harness::{Node, node};
use crate::http::metrics::KindLabel;
use crate::http::stream::tests::Client;
use crate::http::testing::{NOW_NS, get, samples};

/// A node whose samples are numbered, with everything but the scheduler set.
async fn following() -> (Node, CancellationToken) {
    let node = node();
    node.pods.send_replace(Arc::new(samples::pods()));
    node.usage.send_replace(Arc::new(samples::usage()));
    node.runqueues.send_replace(Arc::new(samples::runqueues()));
    let stop = CancellationToken::new();
    tokio::spawn({
        let (state, stop) = (node.state.clone(), stop.clone());
        async move { state.follow(stop).await }
    });
    settle().await;
    (node, stop)
}

/// Time for the follower to see what was set.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

async fn read(node: &Node, mono_ns: u64, at_ns: i64) {
    let mut reading = samples::reading(mono_ns, mono_ns);
    reading.at_ns = at_ns;
    node.scheduler.send_replace(Arc::new(reading));
    settle().await;
}

fn skipped(node: &Node, kind: &'static str) -> u64 {
    node.common.metrics.stream_skipped.get_or_create(&KindLabel { kind }).get()
}

#[tokio::test(start_paused = true)]
async fn the_scheduler_is_what_its_own_endpoint_says() {
    let (node, _stop) = following().await;
    let mut early = Client::open(&node.router, "/api/v1/stream?kind=scheduler", None).await;
    read(&node, 2_000_000_000, NOW_NS).await;
    let got = early.next().await.expect("an event");
    assert_eq!((&*got.event, &got.id), ("scheduler", &NOW_NS.to_string()));
    assert_eq!(got.json(), get(&node.router, "/api/v1/schedulers").await.json());
    let mut late = Client::open(&node.router, "/api/v1/stream?kind=scheduler", None).await;
    assert_eq!(late.next().await.expect("the present").json()["at_ns"], NOW_NS);

    let id = NOW_NS.to_string();
    let mut again = Client::open(&node.router, "/api/v1/stream?kind=scheduler", Some(&id)).await;
    read(&node, 3_000_000_000, NOW_NS + 1).await;
    assert_eq!(again.next().await.expect("the next").json()["at_ns"], NOW_NS + 1, "not what it has");
    assert_eq!(skipped(&node, "scheduler"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_gets_the_latest_and_hears_what_it_missed() {
    let (node, _stop) = following().await;
    read(&node, 1, NOW_NS).await;
    let mut slow = Client::open(&node.router, "/api/v1/stream?kind=scheduler", None).await;
    let mut quick = Client::open(&node.router, "/api/v1/stream?kind=scheduler", None).await;
    for at in 0..100 {
        if at > 0 {
            read(&node, 1, NOW_NS + at).await;
        }
        assert_eq!(quick.next().await.expect("each").json()["at_ns"], NOW_NS + at);
    }
    assert_eq!(skipped(&node, "scheduler"), 0, "the control: who reads misses nothing");
    // It had not read even the first.
    assert_eq!(slow.next().await.expect("the latest").json()["at_ns"], NOW_NS + 99);
    for at in 100..110 {
        read(&node, 1, NOW_NS + at).await;
    }
    let told = slow.next().await.expect("an event");
    assert_eq!((&*told.event, told.json()["samples"].as_u64()), ("skipped", Some(9)));
    assert_eq!(slow.next().await.expect("the latest").json()["at_ns"], NOW_NS + 109);
    assert_eq!(skipped(&node, "scheduler"), 9);
}

#[tokio::test(start_paused = true)]
async fn pods_come_whole_at_first_and_then_only_those_that_changed() {
    let (node, _stop) = following().await;
    let mut client =
        Client::open(&node.router, "/api/v1/stream?kind=pods", Some("9999999999999999999")).await;
    let first = client.next().await.expect("the present");
    let all = get(&node.router, "/api/v1/pods").await.json();
    assert_eq!((&first.json()["pods"], &first.json()["complete"]), (&all["pods"], &true.into()));
    assert_eq!(first.id, (NOW_NS - 1_000_000).to_string(), "the newest reading's");

    // Another walk and another reading of the same, a millisecond later than it should be: nothing to say.
    let mut later = samples::runqueues();
    let now = Arc::make_mut(&mut later.now);
    (now.at_ns, now.mono_ns) = (now.at_ns + 1, now.mono_ns + 1_000_000);
    node.runqueues.send_replace(Arc::new(later));
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    // One pod renamed, one gone.
    let mut pods = samples::pods();
    pods.pods[0].name = Some("loki-1".to_owned());
    let gone = pods.pods.pop().expect("two").uid.0;
    node.pods.send_replace(Arc::new(pods));
    let next = client.next().await.expect("a change").json();
    assert_eq!((next["complete"].clone(), next["gone"].clone()), (false.into(), serde_json::json!([gone])));
    assert_eq!(next["pods"].as_array().map(Vec::len), Some(1));
    assert_eq!(next["pods"][0]["name"], "loki-1");
    assert_eq!(next["pods"][0]["runqueue"]["recent"]["interval_ms"], 5_001, "what is sent is whole");
    assert_eq!(skipped(&node, "pods"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_filter_leaves_out_what_was_not_asked_for() {
    let (node, _stop) = following().await;
    read(&node, 1, NOW_NS).await;
    let only = "/api/v1/stream?kind=pods&namespace=monitoring&pod=loki-0";
    let mut client = Client::open(&node.router, only, None).await;
    let first = client.next().await.expect("the present");
    assert_eq!(first.json()["pods"].as_array().map(Vec::len), Some(1));
    // It leaves the filter: for this stream it is gone. The other one does not concern it.
    let mut pods = samples::pods();
    pods.pods[0].namespace = Some("elsewhere".to_owned());
    pods.pods[1].namespace = Some("elsewhere".to_owned());
    node.pods.send_replace(Arc::new(pods));
    let next = client.next().await.expect("a change").json();
    assert_eq!(
        (next["pods"].clone(), next["gone"].as_array().map(Vec::len)),
        (serde_json::json!([]), Some(1))
    );

    let mut nobody = Client::open(&node.router, "/api/v1/stream?kind=pods&pod=nobody", None).await;
    assert_eq!(nobody.next().await.expect("that there is none").json()["pods"], serde_json::json!([]));
    for bad in ["kind=pod", "kind=runqueue", "kind=pods&kind=pods"] {
        let refused = get(&node.router, &format!("/api/v1/stream?{bad}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

/// Sixty maps a second are one sample a second, and the last of them is told.
#[tokio::test(start_paused = true)]
async fn pods_have_a_pace() {
    let (node, _stop) = following().await;
    let mut client = Client::open(&node.router, "/api/v1/stream?kind=pods", None).await;
    client.next().await.expect("the present");
    let since = tokio::time::Instant::now();
    let follower = tokio::spawn({
        let sender = node.pods.clone();
        async move {
            for n in 1..=180_u64 {
                let mut pods = samples::pods();
                pods.pods[0].name = Some(n.to_string());
                sender.send_replace(Arc::new(pods));
                tokio::time::sleep(std::time::Duration::from_millis(16)).await;
            }
        }
    });
    let mut events = 0;
    loop {
        events += 1;
        if client.next().await.expect("an event").json()["pods"][0]["name"] == "180" {
            break;
        }
    }
    follower.await.expect("no panic");
    assert!((3..=5).contains(&events), "{events} in {:?}", since.elapsed());
}
