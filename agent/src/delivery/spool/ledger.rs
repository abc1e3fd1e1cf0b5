//! The spool's accounts: pure arithmetic, kept in the same transaction as the records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Seq;

/// Why a record was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The oldest, at the spool's limit.
    SpoolFull,
    /// The disk did not take it.
    DiskError,
    /// It came faster than the disk takes records.
    Backpressure,
    /// Larger than a record may be.
    TooLarge,
    /// No receiver takes it.
    Refused,
    /// Its bytes on disk were damaged.
    Damaged,
    /// It came after the spool was closed.
    Closed,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SpoolFull,
        Self::DiskError,
        Self::Backpressure,
        Self::TooLarge,
        Self::Refused,
        Self::Damaged,
        Self::Closed,
    ];

    /// Name in accounts and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SpoolFull => "spool_full",
            Self::DiskError => "disk_error",
            Self::Backpressure => "backpressure",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
            Self::Closed => "closed",
        }
    }
}

/// What a spool file knows about its records; the row `ledger` of its table `meta`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Version of the file's format: 1.
    pub format: u32,
    /// Identity of the file.
    pub spool_id: String,
    /// The number the next record takes.
    pub next_seq: Seq,
    /// Records a receiver confirmed.
    pub acknowledged: u64,
    /// Records on disk.
    pub spooled: u64,
    /// Their bytes, [`super::table::cost`] of each.
    pub spooled_bytes: u64,
    /// Records lost.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Records that each receiver confirmed, by its address; less than `acknowledged` in a file that is older than this
    /// field. The addresses are those of configurations past and present, at most [`MAX_RECEIVERS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub confirmed_by: BTreeMap<String, u64>,
}

/// Addresses that are remembered, twice as many as can be configured. Of more, the one that confirmed least is forgotten:
/// its count begins again.
const MAX_RECEIVERS: usize = 32;

impl Default for Ledger {
    fn default() -> Self {
        Self {
            format: Self::FORMAT,
            spool_id: String::new(),
            next_seq: 1,
            acknowledged: 0,
            spooled: 0,
            spooled_bytes: 0,
            dropped: BTreeMap::new(),
            confirmed_by: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// The format this build reads and writes.
    pub const FORMAT: u32 = 1;

    /// Records made: every one took a number.
    #[must_use]
    pub fn produced(&self) -> u64 {
        self.next_seq - 1
    }

    /// `produced = acknowledged + spooled + dropped`.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let dropped = self.dropped.values().sum::<u64>();
        self.next_seq >= 1 && self.produced() == self.acknowledged + self.spooled + dropped
    }

    /// A record is kept; returns its number.
    pub(super) fn keep(&mut self, cost: u64) -> Seq {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.spooled += 1;
        self.spooled_bytes += cost;
        seq
    }

    /// Records that were never kept: they take numbers all the same.
    pub(super) fn never_kept(&mut self, reason: DropReason, count: u64) {
        self.next_seq += count;
        *self.dropped.entry(reason).or_default() += count;
    }

    /// Kept records leave the disk because this receiver has them.
    pub(super) fn confirm(&mut self, count: u64, cost: u64, receiver: &str) {
        self.leave(count, cost);
        self.acknowledged += count;
        if let Some(confirmed) = self.confirmed_by.get_mut(receiver) {
            *confirmed += count;
            return;
        }
        if self.confirmed_by.len() >= MAX_RECEIVERS
            && let Some(least) =
                self.confirmed_by.iter().min_by_key(|(_, count)| **count).map(|(name, _)| name.clone())
        {
            self.confirmed_by.remove(&least);
        }
        self.confirmed_by.insert(receiver.to_owned(), count);
    }

    /// Kept records leave the disk undelivered.
    pub(super) fn lose(&mut self, reason: DropReason, count: u64, cost: u64) {
        self.leave(count, cost);
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    fn leave(&mut self, count: u64, cost: u64) {
        self.spooled = self.spooled.saturating_sub(count);
        self.spooled_bytes = self.spooled_bytes.saturating_sub(cost);
    }
}
