//! The topic of GPU telemetry: what `sextant replay`, the reference's streamers and `POST /telemetry` produce.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::{Metrics, PAUSE};
use crate::api::telemetry::TelemetryRecord;
use crate::domain::series::{Labels, Sample, SeriesSamples};
use crate::queue::{MAX_PULL, Message, MessageId, Pull, Queue, Settle, Verdict};
use crate::receiver::telemetry::{Unfit, to_series};
use crate::series::{Brought, Series};

/// The topic, as the reference's streamers name it. It is not made here: who produces to it first makes it.
pub const TOPIC: &str = "telemetry";

/// The group that reads it into the store.
pub const GROUP: &str = "collector";

/// Bytes of messages taken at once.
const PULL_BYTES: usize = 4 << 20;

/// Between two looks whether the topic is there.
const LOOK: Duration = Duration::from_millis(250);

/// While the store does not take them, messages are held: one that came again for that would count as delivered, and end
/// among the dead letters though nothing is wrong with it.
const HOLD_EVERY: Duration = Duration::from_secs(5);
const HOLD: Duration = Duration::from_secs(30);

/// Who brought a series that came over the queue: a host with this before its name, so that no host takes the place of
/// another, nor of a node of its name.
const SOURCE: &str = "topic:";

/// Takes messages until the queue is closed.
pub async fn run(queue: Queue, series: Series, metrics: Metrics) {
    // A queue that does not answer is asked by every pull: the first look is only for the topic.
    while !queue.topics(false).await.is_ok_and(|topics| topics.iter().any(|topic| topic.name == TOPIC)) {
        sleep(LOOK).await;
    }
    loop {
        let pull = Pull {
            topic: TOPIC.to_owned(),
            group: GROUP.to_owned(),
            partition: None,
            max_messages: MAX_PULL,
            max_bytes: PULL_BYTES,
            wait: true,
            make: true,
            consumer: 0,
            credit: MAX_PULL,
            after: None,
        };
        match queue.pull(pull).await {
            Ok(parcel) => take(&queue, &series, &metrics, parcel.take_all()).await,
            Err(error) => {
                warn!("cannot take telemetry out of the queue: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn take(queue: &Queue, series: &Series, metrics: &Metrics, messages: Vec<Message>) {
    let reading = tokio::task::spawn_blocking(move || Read::of(messages));
    let Ok(read) = reading.await else { return };
    metrics.left_out(Metrics::BLANK, read.blank);
    metrics.left_out(Metrics::UNREADABLE, u64::try_from(read.unreadable.len()).unwrap_or(u64::MAX));
    if let Some(words) = &read.words {
        warn!(messages = read.unreadable.len(), "telemetry that cannot be read, the first: {words}");
    }
    let mut storing = pin!(super::store(series, read.brought));
    let stored = loop {
        tokio::select! {
            biased;
            stored = &mut storing => break stored,
            () = sleep(HOLD_EVERY) => settle(queue, Verdict::Extend(Some(HOLD)), read.readable.clone()).await,
        }
    };
    // The receiver is stopping: they come again.
    let Some(samples) = stored else { return };
    metrics.samples.inc_by(samples);
    metrics.points.inc_by(samples);
    settle(queue, Verdict::Ack, read.readable).await;
    settle(queue, Verdict::Nak(PAUSE), read.unreadable).await;
}

async fn settle(queue: &Queue, verdict: Verdict, ids: Vec<MessageId>) {
    if ids.is_empty() {
        return;
    }
    let (topic, group) = (TOPIC.to_owned(), GROUP.to_owned());
    if let Err(error) = queue.settle(Settle { topic, group, partition: None, verdict, ids }).await {
        // They come again, and a sample that is there already is no second one.
        warn!("cannot settle telemetry: {error}");
    }
}

/// Messages, read.
#[derive(Default)]
struct Read {
    brought: Vec<Brought>,
    blank: u64,
    readable: Vec<MessageId>,
    unreadable: Vec<MessageId>,
    /// What is wrong with the first of those.
    words: Option<String>,
}

impl Read {
    fn of(messages: Vec<Message>) -> Self {
        let mut this = Self::default();
        // By labels: the same messages are the same batch when they come again.
        let mut series: BTreeMap<Labels, Vec<Sample>> = BTreeMap::new();
        for Message { id, payload, .. } in messages {
            let record = serde_json::from_slice::<TelemetryRecord>(&payload);
            let sample =
                record.map_err(|cause| Unfit::Wrong(cause.to_string())).and_then(|record| to_series(&record));
            match sample {
                Ok(SeriesSamples { labels, samples }) => {
                    series.entry(labels).or_default().extend(samples);
                    this.readable.push(id);
                }
                Err(Unfit::Blank) => {
                    this.blank += 1;
                    this.readable.push(id);
                }
                Err(Unfit::Wrong(words)) => {
                    this.words.get_or_insert(words);
                    this.unreadable.push(id);
                }
            }
        }
        let mut hosts: BTreeMap<Arc<str>, Vec<SeriesSamples>> = BTreeMap::new();
        for (labels, samples) in series {
            let host = format!("{SOURCE}{}", labels.get("Hostname").unwrap_or_default());
            hosts.entry(host.into()).or_default().push(SeriesSamples { labels, samples });
        }
        this.brought = hosts.into_iter().map(|(source, series)| Brought { source, series }).collect();
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::OURSELVES;

    fn message(offset: u64, payload: &str) -> Message {
        let id = MessageId { epoch: 0, partition: 0, offset };
        Message { id, at_ns: 1, deliveries: 1, origin: None, payload: payload.as_bytes().to_vec() }
    }

    /// Each host is a source of its own: none takes the place of another.
    #[test]
    fn hosts_are_sources_and_what_cannot_be_read_is_apart() {
        let record = |host: &str, second: u32| {
            format!(
                r#"{{"metric":"m","value":1,"time":"2025-09-25T10:30:{second:02}Z","uuid":"u","hostname":"{host}"}}"#
            )
        };
        let texts = [record("b", 2), record("a", 1), record("b", 1), "no record".to_owned()];
        let messages = (1..).zip(&texts).map(|(offset, text)| message(offset, text)).collect();
        let read = Read::of(messages);
        let sources: Vec<_> =
            read.brought.iter().map(|one| (&*one.source, one.series[0].samples.len())).collect();
        assert_eq!(sources, [("topic:a", 1), ("topic:b", 2)]);
        assert!(read.brought.iter().all(|one| *one.source != *OURSELVES));
        let offsets = |ids: &[MessageId]| ids.iter().map(|id| id.offset).collect::<Vec<_>>();
        assert_eq!((offsets(&read.readable), offsets(&read.unreadable)), (vec![1, 2, 3], vec![4]));
    }
}
