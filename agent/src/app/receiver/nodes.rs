//! What nodes put into the shared queue themselves: taken out of it, stored as if it had come over HTTP, and acknowledged
//! when it is on disk. Receivers that share a queue share the nodes' batches too.
//!
//! A batch that cannot be read goes to the dead letters after some tries, as any record does that nobody can take.

use std::io::Read as _;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use tokio::time::Duration;
use tracing::warn;

use crate::api::batch::MAX_BODY_BYTES;
use crate::queue::{Message, MessageId, NODES, Pull, Queue, Settle, Verdict};
use crate::receiver::ingest::{Ingest, IngestError};

/// Receivers are one group: each batch goes to one of them.
const GROUP: &str = "store";

/// Batches taken at once: with the largest ones unpacked, one after another, the memory of one.
const AT_ONCE: usize = 16;

/// After a failure of the queue, or of the store.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes batches until the queue is closed.
pub(super) async fn take(queue: Queue, ingest: Arc<Ingest>) {
    loop {
        let pull = Pull {
            topic: NODES.to_owned(),
            group: GROUP.to_owned(),
            partition: None,
            max_messages: AT_ONCE,
            max_bytes: MAX_BODY_BYTES,
            wait: true,
            make: true,
            consumer: 0,
            credit: AT_ONCE,
            after: None,
        };
        match queue.pull(pull).await {
            Ok(parcel) => store(&queue, &ingest, parcel.take_all()).await,
            Err(error) => {
                warn!("cannot take nodes' batches out of the queue: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Stores what can be stored, and says of each batch what became of it.
async fn store(queue: &Queue, ingest: &Ingest, messages: Vec<Message>) {
    let (mut stored, mut failed) = (Vec::new(), Vec::new());
    for Message { id, payload, .. } in messages {
        match store_one(ingest, payload).await {
            Ok(()) => stored.push(id),
            Err(words) => {
                warn!(%id, "a node's batch is not stored: {words}");
                failed.push(id);
            }
        }
    }
    let settle = |verdict, ids: Vec<MessageId>| async move {
        if ids.is_empty() {
            return;
        }
        let (topic, group) = (NODES.to_owned(), GROUP.to_owned());
        if let Err(error) = queue.settle(Settle { topic, group, partition: None, verdict, ids }).await {
            // They come again, and are known by their numbers.
            warn!("cannot acknowledge nodes' batches: {error}");
        }
    };
    settle(Verdict::Ack, stored).await;
    settle(Verdict::Nak(PAUSE), failed).await;
}

async fn store_one(ingest: &Ingest, payload: Vec<u8>) -> Result<(), String> {
    let unpacking = tokio::task::spawn_blocking(move || unpack(&payload));
    let body = unpacking.await.map_err(|error| error.to_string())??;
    loop {
        match ingest.ingest_readable(body.clone()).await {
            // It has to wait for its disk, and so has the batch: giving it back would count as a delivery.
            Err(IngestError::Busy { .. } | IngestError::Storage { .. }) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error.to_string()),
            Ok(_) => return Ok(()),
        }
    }
}

fn unpack(payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(payload).take(limit).read_to_end(&mut body).map_err(|error| error.to_string())?;
    if body.len() > MAX_BODY_BYTES {
        return Err(format!("more than {MAX_BODY_BYTES} bytes"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn pack(plain: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(plain).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn what_is_no_packed_batch_is_said_to_be_none() {
        assert_eq!(unpack(&pack(b"batch")).unwrap(), b"batch");
        let bomb = pack(&vec![b' '; MAX_BODY_BYTES + 1]);
        assert!(unpack(&bomb).unwrap_err().contains("more than"));
        let whole = pack(b"batch");
        for broken in [&b"plain"[..], &whole[..whole.len() - 1], &[]] {
            assert!(unpack(broken).is_err(), "{broken:?}");
        }
    }
}
