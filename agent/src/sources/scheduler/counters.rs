//! Which of the kernel's event counters moved: the first move is told at once, further ones as a sum at an interval, the
//! rest when the scheduler ends. So each counter makes at most one event per interval.

use std::collections::BTreeMap;

use crate::domain::event::CounterChange;

/// A counter of the life at hand.
#[derive(Clone, Copy, Debug)]
struct Counter {
    /// What was told of it.
    told: u64,
    /// Wall time until which it is told, and whether a move was told then.
    told_at_ns: i64,
    moved: bool,
    /// The last look.
    seen: u64,
}

/// Every counter of one life; bounded by what is parsed of the file.
#[derive(Debug)]
pub(super) struct Counters {
    interval_ns: i64,
    began_at_ns: i64,
    /// Whether the life began under our eyes: then its counters began at zero.
    from_zero: bool,
    known: BTreeMap<String, Counter>,
}

impl Counters {
    /// A life that was first seen at a wall time. One that was there before us has a past that is not news.
    pub(super) fn new(interval_ms: u64, began_at_ns: i64, from_zero: bool) -> Self {
        let interval_ns = i64::try_from(interval_ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        Self { interval_ns, began_at_ns, from_zero, known: BTreeMap::new() }
    }

    /// Takes in a look.
    pub(super) fn see(&mut self, events: &[(String, u64)], at_ns: i64) {
        for (name, value) in events {
            let first = if self.from_zero { 0 } else { *value };
            let new = Counter { told: first, told_at_ns: self.began_at_ns, moved: false, seen: first };
            let counter = self.known.entry(name.clone()).or_insert(new);
            if *value < counter.seen {
                // It went backwards, so it is another one: nothing can be said of what it was.
                *counter = Counter { told: *value, told_at_ns: at_ns, moved: false, seen: *value };
            }
            counter.seen = *value;
        }
    }

    /// What is to be told of the life `(ops, enable_seq)` now.
    pub(super) fn due(&mut self, life: (&str, u64), at_ns: i64) -> Vec<CounterChange> {
        let interval_ns = self.interval_ns;
        let due = self.known.iter_mut().filter(|(_, counter)| {
            // A clock that was set back must not keep anything untold for long.
            !counter.moved || !(0..interval_ns).contains(&at_ns.saturating_sub(counter.told_at_ns))
        });
        due.filter_map(|(name, counter)| counter.tell(name, life, at_ns)).collect()
    }

    /// What was seen and not told, when the life ends.
    pub(super) fn end(&mut self, life: (&str, u64), at_ns: i64) -> Vec<CounterChange> {
        let known = self.known.iter_mut();
        known.filter_map(|(name, counter)| counter.tell(name, life, at_ns)).collect()
    }
}

impl Counter {
    fn tell(&mut self, name: &str, (ops, enable_seq): (&str, u64), at_ns: i64) -> Option<CounterChange> {
        let delta = self.seen - self.told;
        let since_ns = self.told_at_ns;
        if delta == 0 {
            // Nothing in a whole interval: the next move is told at once again.
            self.moved = false;
            return None;
        }
        *self = Self { told: self.seen, told_at_ns: at_ns, moved: true, ..*self };
        let (name, ops) = (name.to_owned(), ops.to_owned());
        Some(CounterChange { at_ns, since_ns, ops, enable_seq, name, delta, total: self.seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Looks at one counter each second; `(second, delta, since)` of what is told.
    fn told(counters: &mut Counters, values: &[u64]) -> Vec<(i64, u64, i64)> {
        let mut told = Vec::new();
        for (second, value) in (1_i64..).zip(values) {
            let events = [("SCX_EV_SELECT_CPU_FALLBACK".to_owned(), *value)];
            counters.see(&events, second * SECOND);
            let changes = counters.due(("rustland", 3), second * SECOND);
            told.extend(changes.iter().map(|it| (it.at_ns / SECOND, it.delta, it.since_ns / SECOND)));
        }
        told
    }

    #[test]
    fn the_first_move_is_told_at_once_and_the_rest_summed() {
        let mut counters = Counters::new(5_000, 0, true);
        let steady: Vec<u64> = (1..=13).collect();
        assert_eq!(told(&mut counters, &steady), [(1, 1, 0), (6, 5, 1), (11, 5, 6)]);
        let rest = counters.end(("rustland", 3), 14 * SECOND);
        assert_eq!((rest.len(), rest[0].delta, rest[0].total, rest[0].enable_seq), (1, 2, 13, 3));
        assert!(counters.end(("rustland", 3), 15 * SECOND).is_empty(), "told once");
    }

    #[test]
    fn after_a_quiet_interval_a_move_is_told_at_once_again() {
        let mut counters = Counters::new(3_000, 0, true);
        assert_eq!(told(&mut counters, &[1, 1, 1, 1, 1, 1, 2]), [(1, 1, 0), (7, 1, 1)]);
    }

    #[test]
    fn the_past_of_a_life_that_was_there_before_us_is_not_news() {
        let values = [40, 40, 42];
        assert_eq!(told(&mut Counters::new(5_000, 0, false), &values), [(3, 2, 0)]);
        assert_eq!(told(&mut Counters::new(5_000, 0, true), &values)[0], (1, 40, 0), "control");
    }

    #[test]
    fn a_counter_that_goes_backwards_is_another_one() {
        assert_eq!(told(&mut Counters::new(1_000, 0, true), &[9, 3, 4]), [(1, 9, 0), (3, 1, 2)]);
    }
}
