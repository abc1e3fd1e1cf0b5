//! Which pods get series of their own when there are more than an exposition should carry.
//!
//! The heaviest do. Those that had series before count twice, so that two of nearly the same weight do not take turns:
//! each change ends one set of series and begins another.

use std::collections::BTreeSet;

/// At most `limit` of the candidates: the heaviest, those in `kept` with twice their weight; of equals the lesser key.
pub fn top<K: Ord + Clone>(
    kept: &BTreeSet<K>,
    candidates: impl IntoIterator<Item = (K, u64)>,
    limit: usize,
) -> BTreeSet<K> {
    let favoured = |(key, weight): (K, u64)| {
        let weight = if kept.contains(&key) { weight.saturating_mul(2) } else { weight };
        (std::cmp::Reverse(weight), !kept.contains(&key), key)
    };
    let mut ranked: Vec<_> = candidates.into_iter().map(favoured).collect();
    if ranked.len() > limit {
        ranked.select_nth_unstable(limit);
        ranked.truncate(limit);
    }
    ranked.into_iter().map(|(.., key)| key).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_heaviest_come_in_and_a_little_heavier_is_not_enough() {
        let all = |weights: [u64; 3]| ["a", "b", "c"].into_iter().zip(weights);
        let none = BTreeSet::new();
        assert_eq!(top(&none, all([1, 9, 5]), 2), BTreeSet::from(["b", "c"]));
        let kept = BTreeSet::from(["c"]);
        assert_eq!(top(&kept, all([0, 9, 5]), 1), kept, "9 is less than twice 5");
        assert_eq!(top(&kept, all([0, 11, 5]), 1), BTreeSet::from(["b"]));
        assert_eq!(top(&none, all([0, 9, 5]), 1), BTreeSet::from(["b"]), "the control: nothing was kept");
        assert_eq!(top(&kept, all([0, 0, 0]), 1), kept, "idle ones do not take turns either");
        assert!(top(&kept, all([1, 2, 3]), 0).is_empty());
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_and_never_less_than_there_are(
            weights in prop::collection::btree_map(0u16..200, any::<u64>(), 0..100),
            kept in prop::collection::btree_set(0u16..200, 0..50),
            limit in 0usize..120,
        ) {
            let chosen = top(&kept, weights.clone(), limit);
            prop_assert_eq!(chosen.len(), limit.min(weights.len()));
            prop_assert!(chosen.iter().all(|key| weights.contains_key(key)));
            prop_assert_eq!(&top(&chosen, weights, limit), &chosen, "a second look changes nothing");
        }
    }
}
