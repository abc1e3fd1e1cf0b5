//! Finds the record that a receiver refuses: halves the refused range until one record is left.

use super::Seq;

/// What is known of a refused range: its records up to `end` hold at least one that is refused.
#[derive(Debug, Default)]
pub(super) struct Probe {
    suspect: Option<Suspect>,
}

#[derive(Debug)]
struct Suspect {
    until: Seq,
    end: Seq,
}

impl Probe {
    /// Last record of the next batch, while something is suspected.
    pub(super) fn until(&self) -> Option<Seq> {
        self.suspect.as_ref().map(|suspect| suspect.until)
    }

    /// `first` to `last` was refused; true if that is a single record, found.
    pub(super) fn refused(&mut self, first: Seq, last: Seq) -> bool {
        if first >= last {
            self.suspect = None;
            return true;
        }
        self.suspect = Some(Suspect { until: first + (last - first) / 2, end: last });
        false
    }

    /// Everything up to `acked` was taken: what is refused lies behind it.
    pub(super) fn accepted(&mut self, acked: Seq) {
        self.suspect = match self.suspect.take() {
            Some(Suspect { end, .. }) if acked < end => {
                let first = acked + 1;
                Some(Suspect { until: first + (end - first) / 2, end })
            }
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends 1..=count to a receiver that refuses any batch holding a poisoned record.
    fn send(count: Seq, poison: &[Seq]) -> (Vec<Seq>, u32) {
        let (mut probe, mut dropped, mut next, mut requests) = (Probe::default(), Vec::new(), 1, 0);
        while next <= count {
            let last = probe.until().unwrap_or(count).min(count);
            requests += 1;
            if !poison.iter().any(|seq| (next..=last).contains(seq)) {
                probe.accepted(last);
                next = last + 1;
            } else if probe.refused(next, last) {
                dropped.push(next);
                next += 1;
            }
            assert!(requests < 10_000, "never ends");
        }
        (dropped, requests)
    }

    proptest! {
        #[test]
        fn exactly_the_poison_is_dropped(count in 1..1_000u64, poison in prop::collection::btree_set(1..1_000u64, 0..8)) {
            let poison: Vec<_> = poison.into_iter().filter(|seq| *seq <= count).collect();
            let (dropped, requests) = send(count, &poison);
            prop_assert_eq!(&dropped, &poison);
            // log2(1000) halvings, a request for each half, per poisoned record
            prop_assert!(requests as usize <= 1 + poison.len() * 22, "{} requests", requests);
        }
    }
}
