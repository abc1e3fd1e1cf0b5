//! When to ask again for a name that was not there: soon at first, rarely later.

use std::collections::HashMap;
use std::hash::Hash;

/// First pause, ns. A cgroup is made before its runtime writes and lists it.
const FIRST_NS: i64 = 1_000_000_000;

/// Longest pause, ns: a name that is not there after a minute will hardly come.
const LONGEST_NS: i64 = 64_000_000_000;

/// Pauses by id, doubling. Bounded by the ids that are alive: see [`Retry::retain`].
#[derive(Debug)]
pub(super) struct Retry<K>(HashMap<K, Pause>);

#[derive(Debug)]
struct Pause {
    length_ns: i64,
    until_ns: i64,
}

impl<K> Default for Retry<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Retry<K> {
    /// True when `key` should be asked for now, which starts its next pause.
    pub(super) fn due(&mut self, key: &K, at_ns: i64) -> bool {
        let Some(pause) = self.0.get_mut(key) else {
            self.0
                .insert(key.clone(), Pause { length_ns: FIRST_NS, until_ns: at_ns.saturating_add(FIRST_NS) });
            return true;
        };
        // A wall clock that was set back must not make the pause longer than it can be.
        if at_ns < pause.until_ns && pause.until_ns.saturating_sub(at_ns) <= LONGEST_NS {
            return false;
        }
        pause.length_ns = (pause.length_ns * 2).min(LONGEST_NS);
        pause.until_ns = at_ns.saturating_add(pause.length_ns);
        true
    }

    /// Forgets every key that `keep` refuses.
    pub(super) fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_survive_a_clock_set_back() {
        let mut retry = Retry::default();
        let seconds: Vec<i64> = (0..300).filter(|second| retry.due(&"x", second * 1_000_000_000)).collect();
        assert_eq!(seconds, [0, 1, 3, 7, 15, 31, 63, 127, 191, 255]);
        assert!(retry.due(&"x", -1_000_000_000_000), "set back by far");
        assert!(!retry.due(&"x", -1_000_000_000_000));
        retry.retain(|_| false);
        assert!(retry.due(&"x", 0), "forgotten");
    }
}
