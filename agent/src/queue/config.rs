//! `[queue]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MAX_PARTITIONS, jetstream};

/// Smallest limit that holds some of the largest batches.
const MIN_SIZE_BYTES: u64 = 32 << 20;

/// A consumer that needs longer than a day is not coming back.
const MAX_VISIBILITY_MS: u64 = 86_400_000;

/// Where the queue is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// In one file of the receiver's own.
    #[default]
    Embedded,
    /// On the servers of `[queue.jetstream]`.
    JetStream,
}

/// Settings of the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the queue is kept: `embedded` or `jetstream`.
    pub engine: EngineKind,
    /// Partitions that a topic has from its making on, 1 to 256; a change counts for topics made later.
    pub partitions_per_topic: u32,
    /// Records of a partition that its slowest group has still to acknowledge (all, while there is no group);
    /// beyond it producing is refused.
    pub queue_size: u64,
    /// Time in which a delivered record is to be acknowledged before it is delivered again, ms; 100 to a day.
    pub visibility_timeout_ms: u64,
    /// Deliveries of a record to a group before it goes to the dead-letter topic.
    pub max_deliveries: u32,
    /// Records of a partition in flight to one group, 1 to 10000: they are what memory is needed for.
    pub max_in_flight: usize,
    /// A message id is remembered for at least so long, ms.
    pub dedup_window_ms: u64,
    /// Bytes of everything kept, beyond which producing is refused; at least 32 MiB. The file may be larger.
    pub max_size_bytes: u64,
    /// Records older than this are dropped even if a group has not acknowledged them, ms; 0 keeps them for ever.
    pub retention_age_ms: u64,
    /// Records of a partition kept after every group has acknowledged them, for groups to come.
    pub retention_records: u64,
    /// Bytes of everything kept, beyond which records that every group has acknowledged are dropped.
    pub retention_bytes: u64,
    /// Bytes of everything kept from which on each commit also writes which pages are free, and syncs twice, so that the start
    /// after a crash does not grow with the file. Below it that start reads all of them: half a second at the default.
    pub quick_repair_bytes: u64,
    /// Memory for the file's pages, bytes.
    pub cache_bytes: usize,
    /// Consumers' streams open at once: a quarter of the connections.
    pub max_streams: usize,
    /// The way to the servers, for `engine = "jetstream"`.
    pub jetstream: jetstream::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: EngineKind::Embedded,
            // The first four are what the reference documents.
            partitions_per_topic: 4,
            queue_size: 2_000,
            visibility_timeout_ms: 30_000,
            // A consumer that fails five times on a record will fail the sixth time.
            max_deliveries: 5,
            max_in_flight: 1_000,
            // Longer than a client tries again.
            dedup_window_ms: 120_000,
            max_size_bytes: 2 << 30,
            // A group that nobody reads for gives its records up after a week.
            retention_age_ms: 7 * 86_400_000,
            retention_records: 10_000,
            retention_bytes: 512 << 20,
            quick_repair_bytes: 192 << 20,
            cache_bytes: 32 << 20,
            max_streams: 128,
            jetstream: jetstream::Settings::default(),
        }
    }
}

impl Config {
    /// Everything that cannot be, in one sentence.
    ///
    /// # Errors
    /// What is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        let in_range = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name}: {value} is outside {min} to {max}"))
            }
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        in_range("partitions_per_topic", self.partitions_per_topic.into(), 1, MAX_PARTITIONS.into())?;
        in_range("queue_size", self.queue_size, 1, 1_000_000_000)?;
        in_range("visibility_timeout_ms", self.visibility_timeout_ms, 100, MAX_VISIBILITY_MS)?;
        in_range("max_deliveries", self.max_deliveries.into(), 1, 1_000_000)?;
        in_range("max_in_flight", size(self.max_in_flight), 1, 10_000)?;
        in_range("dedup_window_ms", self.dedup_window_ms, 1_000, MAX_VISIBILITY_MS)?;
        in_range("max_size_bytes", self.max_size_bytes, MIN_SIZE_BYTES, u64::MAX)?;
        in_range("cache_bytes", size(self.cache_bytes), 0, 1 << 30)?;
        in_range("max_streams", size(self.max_streams), 1, 10_000)?;
        match self.engine {
            EngineKind::Embedded => Ok(()),
            EngineKind::JetStream => self.jetstream.check().map_err(|words| format!("jetstream: {words}")),
        }
    }

    /// Time in which a delivered record is to be acknowledged.
    #[must_use]
    pub const fn visibility_timeout(&self) -> Duration {
        Duration::from_millis(self.visibility_timeout_ms)
    }

    /// Longest time that a consumer may ask for.
    pub(super) const MAX_EXTENSION: Duration = Duration::from_millis(MAX_VISIBILITY_MS);
}
