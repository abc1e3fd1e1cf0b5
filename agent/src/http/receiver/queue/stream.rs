//! `GET /consume` as a stream.
//!
//! ```text
//! id: 00c0ffee-3-17
//! data: {"id":"00c0ffee-3-17","payload":"...","created_at":"2025-06-19T10:30:00Z","topic":"telemetry","partition":3}
//! partition: 3
//! ```
//!
//! - Each record is a frame of its own, flushed when nothing else is there to send.
//! - A stream asks the queue for records when its client has taken those before, as far as its credit goes. When the
//!   client goes, nothing more is asked for, and what it was not sent goes back at once.
//! - Where there is nothing to send a comment keeps the connection alive.
//! - It ends when the process begins to stop, or when its group is forgotten.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::{ReceiverState, shown};
use crate::http::metrics::Metrics;
use crate::http::stream::KEEP_ALIVE;
use crate::queue::{Consumer, Error, Message, Parcel, Pull, Queue};

/// Records fetched at a time: few enough that other consumers of the group get theirs.
pub(super) const PAGE: usize = 32;

/// Their bytes: with every stream open, 32 MiB.
pub(super) const PAGE_BYTES: usize = 256 << 10;

/// After a failure of the disk.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// A stream that is open.
struct Open {
    queue: Queue,
    pull: Pull,
    parcel: Parcel,
    greeted: bool,
    draining: CancellationToken,
    metrics: Metrics,
    /// Known to the queue as long as the stream is open.
    _consumer: Consumer,
    _slot: OwnedSemaphorePermit,
}

/// The answer that carries it.
pub(super) fn respond(
    receiver: &ReceiverState,
    pull: Pull,
    first: Parcel,
    consumer: Consumer,
    slot: OwnedSemaphorePermit,
) -> Response {
    receiver.common.metrics.streams.inc();
    let open = Open {
        queue: receiver.queue.queue.clone(),
        pull,
        parcel: first,
        greeted: false,
        draining: receiver.common.draining.clone(),
        metrics: receiver.common.metrics.clone(),
        _consumer: consumer,
        _slot: slot,
    };
    let frames = stream::unfold(open, |mut open| async move {
        let frame = open.next().await?;
        Some((Ok::<_, Infallible>(frame), open))
    });
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-cache"),
        // Proxies of nginx's kind hold an answer back until it is long enough.
        ("x-accel-buffering", "no"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

impl Open {
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.greeted, true) {
            // Headers alone would wait in a buffer until the first record.
            return Some(Bytes::from_static(b": open\n\n"));
        }
        loop {
            if let Some(message) = self.parcel.take() {
                return Some(frame(&self.pull.topic, message));
            }
            let pulled = tokio::select! {
                biased;
                () = self.draining.cancelled() => return None,
                pulled = self.queue.pull(self.pull.clone()) => pulled,
                () = sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b": nothing new\n\n")),
            };
            match pulled {
                Ok(parcel) => self.parcel = parcel,
                Err(Error::Disk(_)) => sleep(DISK_PAUSE).await,
                Err(error) => {
                    tracing::debug!(topic = self.pull.topic, group = self.pull.group, %error, "consumer's stream ends");
                    return None;
                }
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.streams.dec();
    }
}

fn frame(topic: &str, message: Message) -> Bytes {
    let (id, partition) = (message.id, message.id.partition);
    // Strings and numbers: there is nothing that could fail.
    let data = serde_json::to_string(&shown(topic, message)).unwrap_or_default();
    Bytes::from(format!("id: {id}\ndata: {data}\npartition: {partition}\n\n"))
}
