//! Batches into the queue that receivers share on NATS servers ([`crate::queue::jetstream`]), without a receiver between.
//!
//! A batch is one record of the topic [`NODES`], packed with gzip; the node's name is its key, so that batches of one node
//! keep their order. Its id is the spool's and its first and last number: what is sent again is kept once. The servers'
//! acknowledgement is the batch's, so they have to sync always, or to be replicated, exactly as for the queue; who says
//! otherwise gets no records. A receiver with `nodes_from_queue` makes the topic and stores what comes; until then, and
//! while the topic is full, records stay in the spool.

use std::io::Write as _;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::OnceCell;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{SendError, Transport};
use crate::api::batch::{Ack, Batch};
use crate::queue::jetstream::{JetStream as Engine, Settings};
use crate::queue::{Config, EngineKind, Error, Metrics, NODES, NewMessage, Produce};

/// Between two looks whether the servers have been reached for the first time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a topic that is full is left alone: batches of all nodes wait there for a receiver.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// The servers; clones share the connection.
#[derive(Clone, Debug)]
pub struct JetStream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    target: String,
    /// Once they were reached, and are what they have to be.
    engine: OnceCell<Engine>,
}

impl JetStream {
    /// A way to these servers; nobody is asked before the first batch.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let config =
            Config { engine: EngineKind::JetStream, jetstream: settings.clone(), ..Config::default() };
        let target = format!("{} {NODES}", settings.servers.join(","));
        Self(Arc::new(Inner { config, target, engine: OnceCell::new() }))
    }

    /// Asks the servers every minute whether they still sync, until the token is cancelled.
    pub async fn keep(&self, stop: CancellationToken) {
        let looking = async {
            loop {
                match self.0.engine.get() {
                    Some(engine) => return engine.keep_time(stop.clone()).await,
                    None => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = looking => {}
        }
    }

    async fn engine(&self) -> Result<&Engine, Error> {
        self.0.engine.get_or_try_init(|| Engine::open_as_guest(&self.0.config, Metrics::default())).await
    }
}

impl Transport for JetStream {
    async fn send(&self, batch: &Batch) -> Result<Ack, SendError> {
        let engine = self.engine().await.map_err(|error| judge(&error))?;
        // To whom it goes nobody knows yet: none of them is told that it has confirmed anything.
        let plain = batch.to_json("").map_err(|error| unavailable(error.to_string()))?;
        let packing = tokio::task::spawn_blocking(move || {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(&plain).and_then(|()| packed.finish())
        });
        let packed = packing.await.map_err(|error| unavailable(error.to_string()))?;
        let payload = packed.map_err(|error| unavailable(error.to_string()))?;
        let count = batch.records.len() as u64;
        let acked_seq = (batch.first_seq + count).saturating_sub(1);
        let produce = Produce {
            topic: NODES.to_owned(),
            partition: None,
            id: Some(format!("{}:{}-{acked_seq}", batch.spool_id, batch.first_seq)),
            messages: vec![NewMessage { key: Some(batch.node.clone()), payload }],
        };
        let produced = engine.produce(produce).await.map_err(|error| judge(&error))?;
        let (stored, duplicates) = if produced.duplicate { (0, count) } else { (count, 0) };
        Ok(Ack { acked_seq, stored, duplicates })
    }

    async fn ready(&self) -> bool {
        self.engine().await.is_ok_and(|engine| engine.status().borrow().degraded.is_none())
    }

    fn target(&self) -> String {
        self.0.target.clone()
    }
}

fn unavailable(words: String) -> SendError {
    SendError::Unavailable { words }
}

fn judge(error: &Error) -> SendError {
    let words = error.to_string();
    match error {
        // Smaller batches may fit.
        Error::TooLarge { .. } => SendError::Refused { refused: None, words },
        Error::Full(_) => SendError::Busy { retry_after: Some(FULL_RETRY), words },
        Error::Busy => SendError::Busy { retry_after: None, words },
        _ => unavailable(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_large_is_sent_in_halves() {
        let large = Error::TooLarge { what: "payload", size: 9, limit: 1 };
        assert!(matches!(judge(&large), SendError::Refused { refused: None, .. }));
        assert!(matches!(judge(&Error::Full(String::new())), SendError::Busy { retry_after: Some(_), .. }));
        for other in [Error::Closed, Error::Disk("x".to_owned()), Error::Servers("lazy".to_owned())] {
            assert!(matches!(judge(&other), SendError::Unavailable { .. }), "{other}");
        }
    }

    #[test]
    fn the_target_names_servers_and_topic_and_no_secret() {
        let settings = Settings {
            servers: vec!["nats://a:4222".to_owned(), "nats://b:4222".to_owned()],
            user: "u".to_owned(),
            ..Settings::default()
        };
        assert_eq!(JetStream::new(&settings).target(), "nats://a:4222,nats://b:4222 sextant.nodes");
    }
}
