//! What a batch says of its node, and which of the node's records are not here.

use serde::{Deserialize, Serialize};

use crate::api::batch::Accounts;
use crate::store::Stream;

/// What a batch says of its node beside the records; kept with the stream in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::receiver) struct Note {
    /// The kernel's boot id.
    pub(in crate::receiver) boot_id: String,
    /// The node's accounts when it sent, the batch taken off what waits.
    pub(in crate::receiver) accounts: Accounts,
    /// First number of that batch; 0 in notes that are older than this field.
    #[serde(default)]
    pub(in crate::receiver) first_seq: u64,
    /// Its records.
    #[serde(default)]
    pub(in crate::receiver) records: u64,
    /// The newest record, ns since the epoch.
    pub(in crate::receiver) newest_at_ns: i64,
}

impl Note {
    /// Records that only other receivers have. Whatever is before the batch was acknowledged or dropped: of what was
    /// acknowledged, the rest is elsewhere. What was acknowledged here and is not stored is not elsewhere, but lost.
    pub(super) fn elsewhere(&self, stream: &Stream) -> u64 {
        let Some(here) = self.accounts.acknowledged_here.filter(|_| self.first_seq > 0) else { return 0 };
        let stored = stream.stored_below(self.first_seq);
        self.accounts.acknowledged.saturating_sub(stored.max(here))
    }

    /// Records that wait at the node and are not here. Some behind the batch may be: they came before it, and the node
    /// never had the answer.
    pub(super) fn spooled(&self, stream: &Stream) -> u64 {
        if self.first_seq == 0 {
            return self.accounts.spooled;
        }
        let behind =
            stream.stored.saturating_sub(stream.stored_below(self.first_seq.saturating_add(self.records)));
        self.accounts.spooled.saturating_sub(behind)
    }
}
