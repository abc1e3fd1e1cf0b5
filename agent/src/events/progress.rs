//! How far somebody is who is not sent everything in its order: a position before which all is done, and what is done
//! beyond it.

use std::collections::{BTreeSet, HashSet};

use super::window::{Event, Seq, Window};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    base: Seq,
    beyond: BTreeSet<Seq>,
}

impl Progress {
    /// Nothing from here on is done.
    pub(super) fn at(base: Seq) -> Self {
        Self { base, beyond: BTreeSet::new() }
    }

    pub(super) const fn base(&self) -> Seq {
        self.base
    }

    fn is_done(&self, seq: Seq) -> bool {
        seq < self.base || self.beyond.contains(&seq)
    }

    pub(super) fn mark(&mut self, seq: Seq) {
        if seq >= self.base {
            self.beyond.insert(seq);
            while self.beyond.remove(&self.base) {
                self.base += 1;
            }
        }
    }

    /// What is done there is done here, too.
    pub(super) fn join(&mut self, other: &Self) {
        self.base = self.base.max(other.base);
        self.beyond.extend(&other.beyond);
        self.close_up();
    }

    /// The base is behind all that is done without a gap.
    fn close_up(&mut self) {
        self.beyond = self.beyond.split_off(&self.base);
        while self.beyond.remove(&self.base) {
            self.base += 1;
        }
    }

    /// The oldest of each series that is not done, at most `max`: a series' next one waits until this one is done.
    pub(super) fn next(&mut self, window: &Window, max: usize) -> Vec<(Seq, Event)> {
        if self.base < window.first() {
            self.base = window.first();
            self.close_up();
        }
        let mut taken = HashSet::new();
        let open = window.range(self.base, Seq::MAX).filter(|(seq, _)| !self.is_done(*seq));
        let first_of_series = open.filter(|(_, event)| taken.insert(event.series.as_ptr()));
        first_of_series.map(|(seq, event)| (seq, event.clone())).take(max).collect()
    }

    /// For the journal: numbers, 8 bytes each, LE.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        std::iter::once(&self.base).chain(&self.beyond).flat_map(|seq| seq.to_le_bytes()).collect()
    }

    /// From the journal.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| Seq::from_le_bytes(*number));
        let base = numbers.next().filter(|_| rest.is_empty())?;
        Some(Self { base, beyond: numbers.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::window::Totals;

    #[test]
    fn a_series_waits_for_its_older_one_and_nobody_else_does() {
        let mut window = Window::new(1, Totals::default(), 0);
        for series in ["a", "a", "b", "c"] {
            window.push(Event { ts_ms: 1, value: 0.0, series: series.into(), id: None });
        }
        let mut progress = Progress::at(1);
        let seqs = |progress: &mut Progress, window: &Window| {
            progress.next(window, 9).into_iter().map(|(seq, _)| seq).collect::<Vec<_>>()
        };
        assert_eq!(seqs(&mut progress, &window), [1, 3, 4]);
        progress.mark(3);
        assert_eq!(Progress::from_bytes(&progress.to_bytes()), Some(progress.clone()));
        assert_eq!(seqs(&mut progress, &window), [1, 4]);
        progress.mark(1);
        assert_eq!((progress.base(), seqs(&mut progress, &window)), (2, vec![2, 4]));
        progress.mark(2);
        assert_eq!(progress.base(), 4);
        window.expire(4);
        assert_eq!(seqs(&mut progress, &window), [4]);
        let of = |base, beyond: &[Seq]| Progress { base, beyond: beyond.iter().copied().collect() };
        for (mut one, mut other, both) in [
            (of(2, &[4, 7]), of(3, &[5]), of(3, &[4, 5, 7])),
            (of(2, &[3, 9]), of(5, &[]), of(5, &[9])),
            (of(1, &[3]), of(3, &[4]), of(5, &[])),
        ] {
            let before = one.clone();
            one.join(&other);
            other.join(&before);
            assert_eq!((&one, &other), (&both, &both));
        }
        assert_eq!(Progress::from_bytes(b"1234567"), None);
        assert_eq!(Progress::from_bytes(b""), None);
    }
}
