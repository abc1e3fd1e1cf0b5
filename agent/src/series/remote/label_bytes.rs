//! What the labels of a body become in memory. A body names them once, in a table or before a line's fields, and may then
//! repeat them for a few bytes each time: its own size says nothing about theirs.

use crate::domain::series::Labels;
use crate::series::limit::{Over, at_most};

/// Bytes of the labels of one body: 35,000 series of 20 labels, of 30 letters each; senders write 10,000 samples at once.
pub(super) const MAX_LABEL_BYTES: usize = 64 << 20;

/// Of a pair beside its letters: two pointers with lengths, and what an allocation costs, twice.
const PAIR_BYTES: usize = 64;

/// Counted while a body is read, before they are copied where a few bytes can stand for many.
#[derive(Debug, Default)]
pub(super) struct LabelBytes(usize);

impl LabelBytes {
    /// Counts one series' pairs, by the lengths of names and values.
    pub(super) fn take(&mut self, pairs: impl IntoIterator<Item = (usize, usize)>) -> Result<(), Over> {
        for (name, value) in pairs {
            self.0 = self.0.saturating_add(name).saturating_add(value).saturating_add(PAIR_BYTES);
            // At each of them: a series may have millions.
            at_most("bytes of labels in a body", self.0, MAX_LABEL_BYTES)?;
        }
        Ok(())
    }

    /// Counts a series that is there already.
    pub(super) fn take_labels(&mut self, labels: &Labels) -> Result<(), Over> {
        self.take(labels.iter().map(|(name, value)| (name.len(), value.len())))
    }
}
