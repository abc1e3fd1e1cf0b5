//! Figures of the fleet's pods: what is between two records, and what is not.

use serde_json::{Value, json};

use super::{NOW_NS, batch, receiver, record, send};
use crate::api::fleet_pods::FleetPods;
use crate::receiver::ingest::Ingest;
use crate::receiver::pods::{PodQuery, fleet_pods};

/// One pod per name, each having waited `wait_ns` in 4 waits per 1,000 ns.
fn waited(at_s: i64, since_ns: i64, pods: &[(&str, u64)]) -> Value {
    let row = |wait_ns: u64| json!({ "values": [wait_ns, 2 * wait_ns], "waits": [0, 0, 0, 0, 0, 0, 0, 0, wait_ns / 250] });
    let pod = |(name, wait_ns): &(&str, u64)| {
        json!({
            "uid": format!("uid-{name}"), "namespace": "ns", "name": name, "row": row(*wait_ns),
            "neighbours": [{ "name": "/loud", "wait_ns": 5 }],
            "containers": [{ "id": "c", "name": "main", "row": row(*wait_ns) }],
        })
    };
    let body = json!({
        "at_ns": at_s * 1_000_000_000, "mono_ns": at_s * 1_000_000_000, "since_ns": since_ns,
        "fields": ["wait_ns", "on_cpu_ns"], "pods": pods.iter().map(pod).collect::<Vec<_>>(), "left_out": 0,
    });
    record(0, &json!({ "kind": "runqueue", "body": body }))
}

fn used(at_s: i64, epoch: u64, usage_usec: u64) -> Value {
    let row = json!({ "epoch": epoch, "values": [usage_usec, 10 * at_s, at_s] });
    let container = json!({ "id": "c", "name": "main", "row": row });
    let pod = json!({
        "uid": "uid-a", "namespace": null, "name": null, "row": row, "containers": [container],
    });
    let fields = json!(["usage_usec", "nr_periods", "nr_throttled"]);
    let body = json!({ "at_ns": at_s * 1_000_000_000, "fields": fields, "pods": [pod], "left_out": 0 });
    record(0, &json!({ "kind": "usage", "body": body }))
}

fn ask(ingest: &Ingest, query: &PodQuery) -> FleetPods {
    fleet_pods(&ingest.fleet().figures(None), query, NOW_NS)
}

fn all() -> PodQuery {
    PodQuery { limit: 10, ..PodQuery::default() }
}

#[tokio::test]
async fn what_happened_between_two_records_is_told_and_survives_a_restart() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let first = [waited(10, 1, &[("a", 1_000)]), used(10, 1, 1_000_000)];
    send(&ingest, &batch(1, &first)).await.unwrap();
    let pod = &ask(&ingest, &all()).pods[0];
    assert!(pod.runqueue.as_ref().unwrap().totals.recent.is_none(), "one record has no interval");
    let second = [waited(20, 1, &[("a", 5_000)]), used(20, 1, 6_000_000)];
    send(&ingest, &batch(3, &second)).await.unwrap();
    let before = ask(&ingest, &all());
    store.close().await;
    let (again, _store) = receiver(&disk).await;
    assert_eq!(ask(&again, &all()), before, "before and after a restart alike");

    let pod = &before.pods[0];
    assert_eq!(
        (pod.node.as_str(), pod.namespace.as_deref(), pod.name.as_deref()),
        ("node-1", Some("ns"), Some("a"))
    );
    for runqueue in [&pod.runqueue, &pod.containers[0].runqueue] {
        let totals = &runqueue.as_ref().unwrap().totals;
        let recent = totals.recent.as_ref().unwrap();
        assert_eq!((totals.waits, totals.wait_ns, totals.on_cpu_ns), (20, 5_000, 10_000));
        assert_eq!((recent.interval_ms, recent.waits, recent.wait_ns), (10_000, 16, 4_000));
        assert!((256..512).contains(&recent.p50_ns.unwrap()), "{recent:?}");
    }
    let of_pod = pod.runqueue.as_ref().unwrap();
    assert_eq!(of_pod.totals.recent.as_ref().unwrap().neighbours[0].name, "/loud");
    let usage = pod.usage.as_ref().unwrap();
    assert_eq!((usage.cpu_cores, usage.throttled_ratio), (Some(0.5), Some(0.1)));
    assert_eq!(usage.values["usage_usec"], Some(6_000_000));
}

/// The node was restarted, or its programs were loaded anew, or its clock or counters lie: nothing is ever negative.
#[tokio::test]
async fn counters_that_began_anew_are_no_reading() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, _store) = receiver(&disk).await;
    let steps = [
        (waited(20, 1, &[("a", 5_000)]), used(20, 1, 5_000_000), "the first"),
        (waited(30, 2, &[("a", 1_000)]), used(30, 2, 1_000_000), "less, of another life"),
        (waited(40, 3, &[("a", 9_000)]), used(40, 3, 9_000_000), "more, of another life"),
        (waited(50, 3, &[("a", 1_000)]), used(50, 3, 1_000_000), "backwards within one life"),
        (waited(45, 3, &[("a", 2_000)]), used(45, 3, 2_000_000), "time backwards"),
        (waited(45, 3, &[("a", 2_000)]), used(45, 3, 2_000_000), "no time"),
    ];
    for (seq, (waited, used, what)) in (0_u64..).zip(steps) {
        send(&ingest, &batch(1 + 2 * seq, &[waited, used])).await.unwrap();
        let pod = &ask(&ingest, &all()).pods[0];
        assert!(pod.runqueue.as_ref().unwrap().totals.recent.is_none(), "{what}");
        assert_eq!(pod.usage.as_ref().unwrap().cpu_cores, None, "{what}");
    }
    // The control: one more of the same life.
    send(&ingest, &batch(13, &[waited(46, 3, &[("a", 2_500)]), used(46, 3, 2_000_000)])).await.unwrap();
    let pod = &ask(&ingest, &all()).pods[0];
    assert_eq!(pod.runqueue.as_ref().unwrap().totals.recent.as_ref().unwrap().wait_ns, 500);
    assert_eq!(pod.usage.as_ref().unwrap().cpu_cores, Some(0.0));
    assert!(ingest.fleet().nodes(NOW_NS).nodes[0].adds_up);
}

#[tokio::test]
async fn pods_are_found_by_name_and_those_that_wait_most_come_first() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, _store) = receiver(&disk).await;
    let before = [("a", 0), ("b", 0), ("c", 0)];
    // The order of a node's pods differs between records.
    let after = [("c", 2_000), ("a", 1_000), ("b", 3_000), ("new", 90_000)];
    send(&ingest, &batch(1, &[waited(10, 1, &before), waited(20, 1, &after)])).await.unwrap();
    let names = |query: &PodQuery| {
        let found = ask(&ingest, query);
        let names: Vec<_> = found.pods.iter().map(|pod| pod.name.clone().unwrap()).collect();
        (names.join(" "), found.matching, found.left_out)
    };
    assert_eq!(names(&all()), ("a b c new".to_owned(), 4, 0));
    let by_wait = PodQuery { by_wait: true, limit: 2, ..all() };
    assert_eq!(names(&by_wait), ("b c".to_owned(), 4, 2), "a new pod's past is no recent wait");
    assert_eq!(names(&PodQuery { pod: Some("c".into()), ..all() }), ("c".to_owned(), 1, 0));
    assert_eq!(names(&PodQuery { namespace: Some("other".into()), ..all() }), (String::new(), 0, 0));
    assert!(ingest.fleet().figures(Some("nobody")).is_empty());
}
