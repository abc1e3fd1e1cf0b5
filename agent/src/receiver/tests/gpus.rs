//! GPUs of the fleet: the latest reading of a node, over a restart too.

use super::*;
use crate::api::gpu::NodeGpu;
use crate::receiver::changes::{Kind, Sample};

fn gpus(at_s: i64, value: f64) -> Value {
    let device = json!({ "UUID": "GPU-1", "Hostname": "n1", "workers": 0, "values": [value, null] });
    record(at_s, &json!({ "kind": "gpu", "body": { "at_ns": 1, "fields": ["a", "b"], "devices": [device] } }))
}

/// What a stream of GPUs is told from the beginning.
fn told(ingest: &Ingest) -> Vec<Arc<NodeGpu>> {
    let (mut told, mut last) = (Vec::new(), i64::MIN);
    while let Ok((change, sample)) = ingest.fleet().next_change(last, |_, kind| kind == Kind::Gpu) {
        let Sample::Gpu(gpus) = sample else { panic!("{change:?}: {sample:?}") };
        told.push(gpus);
        last = change.id;
    }
    told
}

#[tokio::test]
async fn the_latest_reading_replaces_the_one_before_and_survives_a_restart() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    send(&ingest, &batch(1, &[gpus(-2, 1.0), posted(-2, 5), gpus(-1, 2.0)])).await.unwrap();
    let now = told(&ingest);
    assert_eq!((now.len(), &*now[0].devices[0].values), (1, &[Some(2.0), None][..]));
    store.close().await;
    let (again, _store) = receiver(&disk).await;
    assert_eq!(told(&again), now);
    // The control: nodes say it in these very words.
    assert!(serde_json::to_string(&*now[0]).unwrap().contains("\"UUID\":\"GPU-1\""));
}
