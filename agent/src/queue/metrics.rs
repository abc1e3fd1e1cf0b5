//! What the queue tells of itself in numbers: under our own names, and under those that the reference documents.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Labels of a partition; bounded by the limits on topics and partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartitionLabels {
    pub(super) topic: String,
    pub(super) partition: u32,
}

/// Label of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TopicLabel {
    pub(super) topic: String,
}

/// Labels of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct GroupLabels {
    pub(super) topic: String,
    pub(super) group: String,
}

/// Metrics of the queue.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Records that the slowest group has still to acknowledge.
    pub(super) depth: Family<PartitionLabels, Gauge>,
    pub(super) produced: Family<TopicLabel, Counter>,
    pub(super) consumed: Family<GroupLabels, Counter>,
    pub(super) processing: Histogram,
    pub(super) healthy: Gauge,
    pub(super) size_bytes: Gauge,
    pub(super) file_bytes: Gauge,
    pub(super) delivered: Counter,
    pub(super) duplicates: Counter,
    pub(super) given_back: Counter,
    pub(super) timed_out: Counter,
    pub(super) dead: Counter,
    pub(super) expired: Counter,
    pub(super) damaged_chunks: Counter,
    pub(super) full: Counter,
    pub(super) busy: Counter,
    pub(super) commits: Counter,
    pub(super) commit_duration: Histogram,
    pub(super) disk_errors: Counter,
    pub(super) damaged_files: Counter,
    pub(super) pull_restarts: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        // From an answer at once to several timeouts; from a sync of a fast disk to one that is in trouble.
        let processing = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0];
        let commits = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0];
        Self {
            depth: Family::default(),
            produced: Family::default(),
            consumed: Family::default(),
            processing: Histogram::new(processing),
            healthy: Gauge::default(),
            size_bytes: Gauge::default(),
            file_bytes: Gauge::default(),
            delivered: Counter::default(),
            duplicates: Counter::default(),
            given_back: Counter::default(),
            timed_out: Counter::default(),
            dead: Counter::default(),
            expired: Counter::default(),
            damaged_chunks: Counter::default(),
            full: Counter::default(),
            busy: Counter::default(),
            commits: Counter::default(),
            commit_duration: Histogram::new(commits),
            disk_errors: Counter::default(),
            damaged_files: Counter::default(),
            pull_restarts: Counter::default(),
        }
    }
}

impl Metrics {
    /// Registers what is ours as `queue_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("queue_delivered_records", "Records delivered, each time", &this.delivered);
        counter("queue_duplicate_batches", "Batches that came again with their id", &this.duplicates);
        counter("queue_returned_records", "Records that consumers gave back", &this.given_back);
        counter("queue_timed_out_records", "Deliveries that were not acknowledged in time", &this.timed_out);
        counter("queue_dead_records", "Records that went to a dead-letter topic", &this.dead);
        let help = "Records dropped for their age before every group had acknowledged them";
        counter("queue_expired_records", help, &this.expired);
        let help = "Times that a group came upon damaged records and went on behind them";
        counter("queue_damaged_chunks", help, &this.damaged_chunks);
        counter("queue_full", "Batches refused because groups are behind", &this.full);
        counter("queue_busy", "Requests refused because the disk is behind", &this.busy);
        counter("queue_commits", "Synced transactions", &this.commits);
        counter("queue_disk_errors", "Failures of the disk", &this.disk_errors);
        counter("queue_damaged_files", "Files found damaged and set aside", &this.damaged_files);
        let help = "Times that a group's pulls were begun anew because the servers were silent";
        counter("queue_pull_restarts", help, &this.pull_restarts);
        registry.register("queue_size_bytes", "Bytes of everything kept", this.size_bytes.clone());
        registry.register("queue_file_bytes", "Bytes of the queue's file", this.file_bytes.clone());
        let help = "Time of a transaction with its sync";
        registry.register_with_unit("queue_commit", help, Unit::Seconds, this.commit_duration.clone());
        this
    }

    /// Registers what the reference documents, under its bare names.
    pub fn register_reference(&self, registry: &mut Registry) {
        let help = "Records of a partition that its slowest group has still to acknowledge";
        registry.register("message_queue_size", help, self.depth.clone());
        registry.register("messages_produced", "Records produced and synced", self.produced.clone());
        registry.register("messages_consumed", "Records acknowledged by groups", self.consumed.clone());
        let help = "Time from a record's last delivery to its acknowledgement";
        registry.register_with_unit(
            "message_processing_duration",
            help,
            Unit::Seconds,
            self.processing.clone(),
        );
        let help = "1 while the queue's disk takes records, 0 while it does not";
        registry.register("broker_health_status", help, self.healthy.clone());
    }
}
