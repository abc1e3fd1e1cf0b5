//! The topic of GPU telemetry: what `sextant replay`, the reference's streamers and `POST /telemetry` produce.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use super::Metrics;
use crate::api::telemetry::TelemetryRecord;
use crate::domain::series::{Labels, Sample, SeriesSamples};
use crate::queue::{MAX_PULL, Message, MessageId, Pull, Queue, Settle, Verdict};
use crate::receiver::telemetry::{Unfit, to_series};
use crate::series::Series;

/// The topic, as the reference's streamers name it. It is not made here: who produces to it first makes it.
pub const TOPIC: &str = "telemetry";

/// The group that reads it into the store.
pub const GROUP: &str = "collector";

/// Bytes of messages taken at once.
const PULL_BYTES: usize = 4 << 20;

/// After a failure of the queue or the store, and before a message that cannot be read comes again.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two looks whether the topic is there.
const LOOK: Duration = Duration::from_millis(250);

/// Who brought series that came over the queue: their hosts are their labels, and may be thousands.
const SOURCE: &str = "topic:telemetry";

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
    let samples: usize = read.series.iter().map(|series| series.samples.len()).sum();
    let samples = u64::try_from(samples).unwrap_or(u64::MAX);
    let appended = series.append(SOURCE, read.series).await;
    let stored = match appended {
        Ok(_) => {
            metrics.samples.inc_by(samples);
            metrics.points.inc_by(samples);
            Verdict::Ack
        }
        Err(cause) => {
            warn!("telemetry is not stored, and comes again: {cause}");
            sleep(PAUSE).await;
            Verdict::Nak(Duration::ZERO)
        }
    };
    settle(queue, stored, read.readable).await;
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
    series: Vec<SeriesSamples>,
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
        this.series = series.into_iter().map(|(labels, samples)| SeriesSamples { labels, samples }).collect();
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_messages_are_the_same_batch() {
        let message = |n: u64| {
            let record = serde_json::json!({"metric": "m", "value": 1.0, "time": "2025-09-25T00:00:00Z", "uuid": format!("GPU-{n:02}")});
            let id = MessageId { partition: 0, epoch: 0, offset: n };
            Message { id, at_ns: 0, deliveries: 1, origin: None, payload: record.to_string().into_bytes() }
        };
        let read = || Read::of((0..50).rev().map(message).collect());
        let series = read().series;
        assert_eq!(series.len(), 50);
        assert!(series.is_sorted_by_key(|one| &one.labels));
        assert_eq!(series, read().series);
    }
}
