//! What the worker tells of its doings: metrics and status.

use super::super::ledger::Ledger;
use super::super::metrics::{GroupLabels, PartitionLabels, TopicLabel};
use super::super::transaction::Outcome;
use super::Worker;

impl Worker {
    pub(super) fn show(&mut self, outcome: &Outcome) {
        let metrics = &self.metrics;
        metrics.commits.inc();
        for (topic, count) in &outcome.produced {
            metrics.produced.get_or_create(&TopicLabel { topic: topic.clone() }).inc_by(*count);
        }
        for ((topic, group), count) in &outcome.consumed {
            let labels = GroupLabels { topic: topic.clone(), group: group.clone() };
            metrics.consumed.get_or_create(&labels).inc_by(*count);
        }
        outcome.took_s.iter().for_each(|took_s| metrics.processing.observe(*took_s));
        for (counter, count) in [
            (&metrics.duplicates, outcome.duplicates),
            (&metrics.given_back, outcome.given_back),
            (&metrics.timed_out, outcome.timed_out),
            (&metrics.dead, outcome.dead),
            (&metrics.expired, outcome.expired),
        ] {
            counter.inc_by(count);
        }
        for (topic, index) in &outcome.touched {
            self.show_depth(topic, *index);
        }
        self.show_size();
    }

    pub(super) fn show_all(&mut self) {
        self.metrics.healthy.set(1);
        let all = self.ledger.as_ref().map(Ledger::all_partitions).unwrap_or_default();
        for (topic, index) in all {
            self.show_depth(&topic, index);
        }
        self.show_size();
    }

    fn show_depth(&self, topic: &str, index: u32) {
        let partition = self.ledger.as_ref().and_then(|ledger| ledger.partition(topic, index));
        if let Some(depth) = partition.map(|partition| partition.depth()) {
            let labels = PartitionLabels { topic: topic.to_owned(), partition: index };
            self.metrics.depth.get_or_create(&labels).set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
    }

    fn show_size(&self) {
        let file_bytes = self.keeper.size_bytes();
        let size_bytes = self.ledger.as_ref().map_or(0, |ledger| ledger.size_bytes);
        self.metrics.size_bytes.set(i64::try_from(size_bytes).unwrap_or(i64::MAX));
        self.metrics.file_bytes.set(i64::try_from(file_bytes).unwrap_or(i64::MAX));
        // Whoever waits for a change waits for trouble, not for every record.
        self.status.send_if_modified(|status| {
            (status.size_bytes, status.file_bytes) = (size_bytes, file_bytes);
            false
        });
    }
}
