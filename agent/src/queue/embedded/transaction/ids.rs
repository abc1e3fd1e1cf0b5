//! Ids of batches: remembered in two tables by turns, so that forgetting costs one row.

use std::time::Duration;

use redb::{Database, ReadableTable};

use super::super::ledger::Ledger;
use super::super::table::{self, IDS, META};
use super::super::{Config, MAX_BATCH, MessageId, Now, Produce};
use super::{ROW_BYTES, Work};

/// partition (4) | first offset (8) | records (4)
const RUN_BYTES: usize = 16;

/// When both tables of ids are a window old, the older one is dropped whole and written from now on.
pub(super) fn rotate(
    database: &Database,
    ledger: &mut Ledger,
    config: &Config,
    now: Now,
) -> Result<(), redb::Error> {
    let age_ns = now.wall_ns.saturating_sub(ledger.ids.since_ns);
    let window_ns = i64::try_from(Duration::from_millis(config.dedup_window_ms).as_nanos());
    // A clock that was set back begins a window anew.
    if (0..window_ns.unwrap_or(i64::MAX)).contains(&age_ns) || ledger.ids.bytes == [0, 0] && age_ns >= 0 {
        return Ok(());
    }
    let mut ids = ledger.ids;
    ids.current = (ids.current + 1) % IDS.len();
    let freed = std::mem::take(&mut ids.bytes[ids.current]);
    ids.since_ns = now.wall_ns;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.delete_table(IDS[ids.current])?;
    transaction.open_table(IDS[ids.current])?;
    ledger.ids = ids;
    ledger.size_bytes = ledger.size_bytes.saturating_sub(freed);
    table::write_meta(&mut transaction.open_table(META)?, ledger)?;
    transaction.commit()?;
    Ok(())
}

impl Work<'_> {
    /// The names of the records that came with this id before.
    pub(super) fn remembered(&self, batch: &Produce) -> Result<Option<Vec<MessageId>>, redb::Error> {
        let Some(id) = &batch.id else { return Ok(None) };
        for table in &self.ids {
            if let Some(runs) = table.get((batch.topic.as_str(), id.as_str()))? {
                return Ok(Some(decode(self.ledger.epoch, runs.value())));
            }
        }
        Ok(None)
    }

    pub(super) fn remember(&mut self, batch: &Produce, ids: &[MessageId]) -> Result<(), redb::Error> {
        let Some(id) = &batch.id else { return Ok(()) };
        let runs = encode(ids);
        let current = self.ledger.ids.current;
        self.ids[current].insert((batch.topic.as_str(), id.as_str()), runs.as_slice())?;
        let cost = (batch.topic.len() + id.len() + runs.len()) as u64 + ROW_BYTES;
        self.ledger.ids.bytes[current] += cost;
        self.ledger.size_bytes += cost;
        Ok(())
    }
}

fn encode(ids: &[MessageId]) -> Vec<u8> {
    let mut runs: Vec<(u32, u64, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((partition, first, count))
                if *partition == id.partition && *first + u64::from(*count) == id.offset =>
            {
                *count += 1;
            }
            _ => runs.push((id.partition, id.offset, 1)),
        }
    }
    let mut bytes = Vec::with_capacity(runs.len() * RUN_BYTES);
    for (partition, first, count) in runs {
        bytes.extend_from_slice(&partition.to_le_bytes());
        bytes.extend_from_slice(&first.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes
}

fn decode(epoch: u32, bytes: &[u8]) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for run in bytes.as_chunks::<RUN_BYTES>().0 {
        let [p0, p1, p2, p3, o0, o1, o2, o3, o4, o5, o6, o7, c0, c1, c2, c3] = *run;
        let partition = u32::from_le_bytes([p0, p1, p2, p3]);
        let first = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        // A damaged row never makes more than a batch can have had.
        let count = u64::from(u32::from_le_bytes([c0, c1, c2, c3])).min(MAX_BATCH as u64);
        let offsets = (0..count).map(|n| first.saturating_add(n));
        ids.extend(offsets.map(|offset| MessageId { epoch, partition, offset }));
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_they_were() {
        let id = |partition, offset| MessageId { epoch: 9, partition, offset };
        let ids = [id(0, 7), id(0, 8), id(1, 0), id(0, 9), id(0, 11)];
        assert_eq!(decode(9, &encode(&ids)), ids);
        assert_eq!(encode(&ids).len(), 4 * RUN_BYTES);
        assert_eq!(decode(9, &[1; 15]), []);
    }
}
