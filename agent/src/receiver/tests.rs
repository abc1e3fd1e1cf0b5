//! The receiver's door and its view of the fleet, over a real store.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::fleet::{Fleet, MAX_EVENTS, MAX_EXITS, MAX_WARNINGS};
use super::ingest::{Ingest, IngestError, Metrics};
use crate::api::batch::{Ack, MAX_BODY_BYTES, MAX_RECORDS, Refused};
use crate::api::bss;
use crate::store::{self, Store};

mod elsewhere;
mod gpus;
mod pods;
mod readable;
mod readings;

const NOW_NS: i64 = 1_750_000_000_000_000_000;

async fn receiver(disk: &TempDir) -> (Ingest, Store) {
    let store = Store::open(disk.path(), &store::Config::default(), store::Metrics::default()).unwrap();
    let fleet = Arc::new(Fleet::restore(&store).await.unwrap());
    (Ingest::new(store.clone(), fleet, Metrics::default(), || NOW_NS), store)
}

fn record(at_s: i64, body: &Value) -> Value {
    let mut record = json!({ "at_ns": NOW_NS + at_s * 1_000_000_000, "boot_id": "boot" });
    record.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    record
}

fn posted(at_s: i64, nr_queued: u64) -> Value {
    record(at_s, &json!({ "kind": "bss_posted", "body": { "nr_queued": nr_queued } }))
}

fn exit(at_s: i64) -> Value {
    let body = json!({
        "ops": "rustland", "enable_seq": 1, "kind": "error_stall", "kind_code": 1026, "exit_code": 0,
        "reason": "runnable task stall", "msg": format!("{at_s}"), "detail": "", "noticed_at_ns": 0,
    });
    record(at_s, &json!({ "kind": "scheduler_exit", "body": body }))
}

fn warning(at_s: i64) -> Value {
    let longest = json!({ "tid": 2, "pid": 1, "comm": "worker", "cgroup_id": 1, "wait_ns": 3 });
    let body = json!({
        "at_ns": at_s, "ops": "rustland", "enable_seq": 1, "longest": longest, "waiting": 1, "timeout_ns": 5,
    });
    record(at_s, &json!({ "kind": "scheduler_warning", "body": body }))
}

fn counted(at_s: i64) -> Value {
    let body = json!({
        "at_ns": at_s, "since_ns": 0, "ops": "rustland", "enable_seq": 1, "name": "SCX_EV_BYPASS_ACTIVATE",
        "delta": 1, "total": 2,
    });
    record(at_s, &json!({ "kind": "scheduler_event", "body": body }))
}

fn pods(at_s: i64, names: &[&str]) -> Value {
    let pod = |name: &&str| {
        json!({
            "uid": "u", "is_static": false, "name": name, "namespace": "ns", "labels": {}, "qos": "burstable",
            "named_by": "files", "tasks": 1, "threads": 1,
            "containers": [{
                "id": "c", "name": "main", "runtime": "containerd", "kind": "container", "cgroup": "/c",
                "cgroup_id": 1, "threads": 1,
                "processes": [{ "pid": 7, "starttime_ticks": 1, "ppid": 1, "comm": "app", "threads": 1 }],
            }],
        })
    };
    let pods: Vec<_> = names.iter().map(pod).collect();
    let host = json!({ "tasks": 0, "threads": 0, "containers": [] });
    record(
        at_s,
        &json!({ "kind": "pods", "body": { "at_ns": 0, "pods": pods, "host": host, "skipped": {} } }),
    )
}

fn batch(first_seq: u64, records: &[Value]) -> Value {
    let produced = first_seq + records.len() as u64 - 1;
    json!({
        "version": 1, "node": "node-1", "boot_id": "boot", "spool_id": "spool", "first_seq": first_seq,
        "accounts": {
            "produced": produced, "acknowledged": first_seq - 1, "spooled": records.len(),
            "spooled_bytes": 1, "dropped": {}, "oldest_at_ns": NOW_NS,
        },
        "records": records,
    })
}

async fn send(ingest: &Ingest, batch: &Value) -> Result<Ack, IngestError> {
    ingest.ingest(serde_json::to_vec(batch).unwrap()).await
}

#[tokio::test]
async fn a_batch_is_stored_once_and_seen_in_the_fleet() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let first = batch(1, &[posted(-9, 1), exit(-8), pods(-7, &["a", "b"])]);
    assert_eq!(send(&ingest, &first).await.unwrap(), Ack { acked_seq: 3, stored: 3, duplicates: 0 });
    assert_eq!(send(&ingest, &first).await.unwrap(), Ack { acked_seq: 3, stored: 0, duplicates: 3 });
    send(&ingest, &batch(4, &[pods(-6, &["c"]), posted(-5, 2)])).await.unwrap();

    // Before and after a restart alike.
    let (again, _) = {
        let before = ingest.fleet().nodes(NOW_NS);
        store.close().await;
        let (again, store) = receiver(&disk).await;
        assert_eq!(again.fleet().nodes(NOW_NS), before);
        (again, store)
    };
    let nodes = again.fleet().nodes(NOW_NS);
    let node = &nodes.nodes[0];
    assert_eq!((nodes.nodes.len(), node.node.as_str(), node.boot_id.as_str()), (1, "node-1", "boot"));
    assert_eq!((node.produced, node.stored, node.spooled, node.duplicates, node.missing), (5, 5, 0, 3, 0));
    assert!(node.adds_up);
    assert!((node.lag_seconds - 5.0).abs() < 1e-6, "{}", node.lag_seconds);
    assert_eq!(node.last_exit.as_ref().unwrap().kind, "error_stall");
    assert_eq!(node.pods, Some(1));
    let pids = again.fleet().pod_pids();
    assert_eq!((pids[0].0.as_str(), pids[0].1[0].pod_name.as_str()), ("node-1", "c"));
    assert_eq!(pids[0].1[0].processes[0].pid, 7);
    let latest = again.fleet().latest_posted().unwrap();
    assert_eq!((latest.record.nr_queued, latest.by.as_str()), (Some(2), "node-1"));
}

#[tokio::test]
async fn a_nodes_usage_is_summed_by_the_names_of_its_fields() {
    let usage = |at_s: i64, fields: &Value, rows: &[Value]| {
        let pod =
            |row: &Value| json!({ "uid": "u", "namespace": "ns", "name": "a", "row": row, "containers": [] });
        let pods: Vec<_> = rows.iter().map(pod).collect();
        let body = json!({ "at_ns": 7, "fields": fields, "pods": pods, "left_out": 0 });
        record(at_s, &json!({ "kind": "usage", "body": body }))
    };
    let row = |values: &Value| json!({ "epoch": 1, "values": values });
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    // A newer node knows more fields, in another order.
    let fields = json!(["newer", "memory_working_set_bytes", "usage_usec"]);
    let rows = [row(&json!([9, 5, 100])), row(&json!([null, null, 20]))];
    send(&ingest, &batch(1, &[usage(-9, &json!([]), &[]), usage(-8, &fields, &rows)])).await.unwrap();
    store.close().await;
    let (again, _store) = receiver(&disk).await;
    let sum = again.fleet().nodes(NOW_NS).nodes[0].usage.unwrap();
    assert_eq!((sum.at_ns, sum.pods, sum.usage_usec), (7, 2, Some(120)));
    assert_eq!(sum.memory_working_set_bytes, None, "one pod does not know it");
    // Rows that are shorter than they should be are not known, and no panic.
    let short = usage(-7, &fields, &[row(&json!([])), json!(null)]);
    send(&again, &batch(3, &[short])).await.unwrap();
    assert_eq!(again.fleet().nodes(NOW_NS).nodes[0].usage.unwrap().usage_usec, None);
}

#[tokio::test]
async fn what_does_not_add_up_is_seen() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, _store) = receiver(&disk).await;
    let mut lossy = batch(1, &[posted(0, 1)]);
    lossy["accounts"]["produced"] = json!(10);
    send(&ingest, &lossy).await.unwrap();
    assert!(!ingest.fleet().nodes(NOW_NS).nodes[0].adds_up);

    // Nine numbers skipped, nine dropped and named: that adds up.
    let disk = tempfile::tempdir().unwrap();
    let (ingest, _store) = receiver(&disk).await;
    let mut counted = batch(10, &[posted(0, 1)]);
    counted["accounts"]["acknowledged"] = json!(0);
    counted["accounts"]["dropped"] = json!({ "spool_full": 9 });
    send(&ingest, &counted).await.unwrap();
    let node = &ingest.fleet().nodes(NOW_NS).nodes[0];
    assert!(node.adds_up, "{node:?}");
    assert_eq!((node.missing, node.stored), (9, 1));
}

#[tokio::test]
async fn what_happened_to_a_scheduler_is_the_last_of_it_over_a_restart() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let happened: Vec<_> = (0..80).flat_map(|at_s| [counted(at_s), warning(at_s), exit(at_s)]).collect();
    send(&ingest, &batch(1, &happened)).await.unwrap();
    store.close().await;
    for ingest in [ingest, receiver(&disk).await.0] {
        let history = ingest.fleet().scheduler("node-1").unwrap();
        let exits: Vec<_> = history.exits.iter().map(|exit| exit.msg.as_str()).collect();
        assert_eq!((exits.len(), exits[0], exits[31]), (MAX_EXITS, "48", "79"));
        let warnings: Vec<_> = history.warnings.iter().map(|warning| warning.at_ns).collect();
        assert_eq!((warnings.len(), warnings[0], warnings[31]), (MAX_WARNINGS, 48, 79));
        let events: Vec<_> = history.events.iter().map(|change| change.at_ns).collect();
        assert_eq!((events.len(), events[0], events[63]), (MAX_EVENTS, 16, 79), "they push nothing else out");
    }
}

#[tokio::test]
async fn wrong_batches_are_refused_by_name_and_leave_nothing() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let good = batch(1, &[posted(0, 1), posted(0, 2)]);
    let with = |path: &str, value: Value| {
        let mut wrong = good.clone();
        *wrong.pointer_mut(path).unwrap() = value;
        wrong
    };
    let cases = [
        (with("/version", json!(2)), "version 2 is not known"),
        (with("/node", json!("")), "node is not"),
        (with("/node", json!("a:b")), "node is not"),
        (with("/node", json!("n\u{0}")), "node is not"),
        (with("/node", json!("n".repeat(254))), "node is not"),
        (with("/spool_id", json!("s".repeat(65))), "spool_id is not"),
        (with("/boot_id", json!("\n")), "boot_id is not"),
        (with("/first_seq", json!(0)), "first_seq 0"),
        (with("/first_seq", json!(u64::MAX)), "first_seq 18446744073709551615"),
        (with("/first_seq", json!(u64::MAX - 1)), "first_seq"),
        (with("/first_seq", json!(-1)), "no batch"),
        (with("/records", json!([])), "records is empty"),
        (with("/records", json!({})), "no batch"),
        (with("/accounts/dropped", json!({ "a b": 1 })), "reason to drop"),
        (json!([]), "no batch"),
    ];
    for (wrong, words) in cases {
        let error = send(&ingest, &wrong).await.unwrap_err();
        assert!(matches!(error, IngestError::Invalid(_)), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.refusal().refused, Refused::Envelope);
    }
    for record in [json!(null), json!({}), json!({ "kind": "no_such" }), json!("x"), json!([[[[1]]]])] {
        let error = send(&ingest, &with("/records/1", record)).await.unwrap_err();
        assert_eq!(error.refusal().refused, Refused::Record(1), "{error}");
    }
    let many = batch(1, &vec![posted(0, 1); MAX_RECORDS + 1]);
    assert!(matches!(send(&ingest, &many).await, Err(IngestError::TooLarge { .. })));
    let large = ingest.ingest(vec![b' '; MAX_BODY_BYTES + 1]).await;
    assert!(matches!(large, Err(IngestError::TooLarge { .. })));
    let mut deep = b"{\"records\":".to_vec();
    deep.extend(vec![b'['; 100_000]);
    for body in [deep, b"\xff\xfe".to_vec(), Vec::new()] {
        assert!(matches!(ingest.ingest(body).await, Err(IngestError::Invalid(_))));
    }
    assert_eq!(store.status().borrow().totals.records, 0);
    assert!(ingest.fleet().nodes(NOW_NS).nodes.is_empty());
}

#[tokio::test]
async fn posted_records_are_stored_under_their_sender() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let posted = |nr_queued| bss::Record { nr_queued: Some(nr_queued), ..bss::Record::default() };
    for index in 0..400 {
        ingest.post_bss(&format!("2001:db8::{index}"), vec![posted(index), posted(index + 1)]).await.unwrap();
    }
    assert_eq!(store.status().borrow().totals.records, 800);
    // 256 senders, and one name for all others.
    assert_eq!(store.status().borrow().totals.nodes, 257);
    store.close().await;
    let (ingest, store) = receiver(&disk).await;
    let latest = ingest.fleet().latest_posted().unwrap();
    assert!(latest.by.starts_with("posted:"), "{}", latest.by);
    assert!(ingest.fleet().nodes(NOW_NS).nodes.is_empty());
    ingest.post_bss("10.0.0.1", vec![posted(7)]).await.unwrap();
    assert_eq!(store.status().borrow().totals.nodes, 257);
    assert_eq!(ingest.fleet().latest_posted().unwrap().record, posted(7));
    store.close().await;
    let refused = ingest.post_bss("10.0.0.1", vec![posted(8)]).await;
    assert!(matches!(refused, Err(IngestError::Storage { .. })));
    assert_eq!(ingest.fleet().latest_posted().unwrap().record, posted(7));
}

/// A client that comes back to a receiver which was restarted meanwhile hears nothing twice, and what is new.
#[tokio::test]
async fn what_a_stream_has_carried_is_not_repeated_after_a_restart() {
    let of = |node: &str, first_seq, records: &[Value]| {
        let mut batch = batch(first_seq, records);
        batch["node"] = json!(node);
        batch["spool_id"] = json!(node);
        batch
    };
    let told = |ingest: &Ingest, after: i64| -> (Vec<String>, i64) {
        let (mut told, mut last) = (Vec::new(), after);
        while let Ok((change, _)) = ingest.fleet().next_change(last, |_, _| true) {
            told.push(format!("{} {}", change.node, change.kind.name()));
            last = change.id;
        }
        (told, last)
    };
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    send(&ingest, &of("node-2", 1, &[exit(-3), exit(-2), pods(-1, &["a"])])).await.unwrap();
    send(&ingest, &of("node-1", 1, &[exit(-9), warning(-8)])).await.unwrap();
    let (before, last) = told(&ingest, i64::MIN);
    assert_eq!(before.len(), 5);
    store.close().await;

    let (again, _store) = receiver(&disk).await;
    assert_eq!(told(&again, last), (Vec::new(), last), "it has them all");
    let whole = told(&again, i64::MIN).0;
    let oldest_first = ["node-1 scheduler_exit", "node-1 scheduler_warning", "node-2 scheduler_exit"];
    assert_eq!((&whole[..3], whole.len()), (&oldest_first.map(str::to_owned)[..], 5), "others hear of all");
    send(&again, &of("node-1", 3, &[exit(0)])).await.unwrap();
    assert_eq!(told(&again, last).0, ["node-1 scheduler_exit"], "and of what is new");
    assert!(last <= *again.fleet().changed().borrow(), "an id that was given is never from the future");
}
