//! A node's database and workloads: the latest of each, over a restart too.

use super::*;
use crate::receiver::changes::{Kind, Sample};

fn database(at_s: i64, qps: f64) -> Value {
    let body = json!({ "at_ns": at_s, "fields": ["qps", "tps"], "values": [qps, null], "tenant_fields": [],
        "tenants": [], "left_out": 0 });
    record(at_s, &json!({ "kind": "database", "body": body }))
}

fn workloads(at_s: i64, state: &str) -> Value {
    let row = json!({ "id": "batch_1", "kind": "batch", "threads": 1, "state": state, "phase": "running",
        "reason": null, "started_at_ns": 1, "ended_at_ns": null, "report": null });
    let body = json!({ "at_ns": at_s, "active": 1, "workloads": [row], "kinds": [], "left_out": 0 });
    record(at_s, &json!({ "kind": "workloads", "body": body }))
}

/// What a stream of both is told from the beginning, as JSON.
fn told(ingest: &Ingest) -> Vec<(&'static str, Value)> {
    let (mut told, mut last) = (Vec::new(), i64::MIN);
    let wanted = |_: &str, kind| matches!(kind, Kind::Database | Kind::Workloads);
    while let Ok((change, sample)) = ingest.fleet().next_change(last, wanted) {
        let body = match sample {
            Sample::Database(database) => serde_json::to_value(&*database),
            Sample::Workloads(workloads) => serde_json::to_value(&*workloads),
            other => panic!("{change:?}: {other:?}"),
        };
        told.push((change.kind.name(), body.unwrap()));
        last = change.id;
    }
    told
}

#[tokio::test]
async fn the_latest_of_each_replaces_the_one_before_and_survives_a_restart() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let all = [database(-4, 1.0), workloads(-3, "running"), database(-2, 2.5), workloads(-1, "stopping")];
    send(&ingest, &batch(1, &all)).await.unwrap();
    let now = told(&ingest);
    let wanted = [("database", all[2]["body"].clone()), ("workloads", all[3]["body"].clone())];
    assert_eq!(now, wanted, "word for word, null as null");
    store.close().await;
    let (again, _store) = receiver(&disk).await;
    assert_eq!(told(&again), wanted);
}

/// The control: a figure that is no number is refused, with the place of its record, and not read as none or as 0.
#[tokio::test]
async fn a_figure_that_is_no_number_is_refused() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, _store) = receiver(&disk).await;
    let mut wrong = database(-1, 1.0);
    wrong["body"]["values"][0] = json!("fast");
    let sent = send(&ingest, &batch(1, &[database(-2, 1.0), wrong])).await;
    assert!(matches!(sent, Err(IngestError::Record { index: 1, .. })), "{sent:?}");
    assert_eq!(told(&ingest), []);
}
