//! A batch whose node cannot be told what is wrong with it: what can be read is stored.

use super::*;

#[tokio::test]
async fn records_that_cannot_be_read_are_left_out_and_counted() {
    let disk = tempfile::tempdir().unwrap();
    let (ingest, store) = receiver(&disk).await;
    let nonsense = || record(0, &json!({ "kind": "nonsense", "body": 1 }));
    // First, in the middle, twice in a row, last.
    let records = [nonsense(), posted(0, 2), nonsense(), nonsense(), posted(0, 5), posted(0, 6), nonsense()];
    let body = serde_json::to_vec(&batch(1, &records)).unwrap();
    assert!(matches!(ingest.ingest(body.clone()).await, Err(IngestError::Record { index: 0, .. })));
    // The second time all of it is known.
    for _ in 0..2 {
        ingest.ingest_readable(body.clone()).await.unwrap();
        let node = ingest.fleet().nodes(NOW_NS).nodes.remove(0);
        assert_eq!((node.stored, node.missing), (3, 3), "the last one may still come: {node:?}");
    }
    let kept: Vec<_> = store.read(0, 100, usize::MAX).await.unwrap().into_iter().map(|one| one.seq).collect();
    assert_eq!(kept, [2, 5, 6]);
    ingest.ingest_readable(serde_json::to_vec(&batch(8, &[posted(0, 8)])).unwrap()).await.unwrap();
    assert_eq!(ingest.fleet().nodes(NOW_NS).nodes[0].stored, 4);
    // The control: an envelope that is wrong is refused as ever, and so is what is no batch.
    let mut wrong = batch(9, &[posted(0, 9)]);
    wrong["version"] = json!(7);
    for body in [serde_json::to_vec(&wrong).unwrap(), b"{".to_vec(), Vec::new()] {
        assert!(matches!(ingest.ingest_readable(body).await, Err(IngestError::Invalid(_))));
    }
}
