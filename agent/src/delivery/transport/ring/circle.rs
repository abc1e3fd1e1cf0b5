//! The order in which a node asks receivers: a pure function of their names, the same on every machine and version.

use sha2::{Digest as _, Sha256};

/// Indexes of `receivers`, the home of `node` first, each once.
pub(super) fn order(node: &str, receivers: &[String], points: u32) -> Vec<usize> {
    let mut circle: Vec<(u64, usize)> = receivers
        .iter()
        .enumerate()
        .flat_map(|(at, receiver)| (0..points).map(move |point| (place(&[receiver, &point.to_string()]), at)))
        .collect();
    circle.sort_unstable();
    let start = circle.partition_point(|&(place_of, _)| place_of < place(&[node]));
    let mut order = Vec::with_capacity(receivers.len());
    for &(_, at) in circle.iter().cycle().skip(start).take(circle.len()) {
        if !order.contains(&at) {
            order.push(at);
        }
    }
    order
}

/// The first eight bytes of SHA-256 over the words, each ended by a NUL, which none of them holds.
fn place(words: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word);
        hash.update([0]);
    }
    let digest: [u8; 32] = hash.finalize().into();
    digest.iter().take(8).fold(0, |place, &byte| place << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn receivers(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("http://10.0.0.{at}:8080/api/v1/ingest")).collect()
    }

    #[test]
    fn the_order_is_the_same_for_ever() {
        assert_eq!(order("node7", &receivers(3), 150), ORDER_OF_NODE7);
        assert_eq!(order("node7", &[], 150), Vec::<usize>::new());
        assert_eq!(order("node7", &receivers(1), 150), [0]);
    }

    /// Whoever changes the hash moves every node of every fleet.
    const ORDER_OF_NODE7: [usize; 3] = [0, 1, 2];

    #[test]
    fn nodes_spread_and_few_move_when_one_comes() {
        const NODES: usize = 10_000;
        let home = |count: usize| -> Vec<usize> {
            let receivers = receivers(count);
            (0..NODES).map(|node| order(&format!("node{node}"), &receivers, 150)[0]).collect()
        };
        let (ten, eleven) = (home(10), home(11));
        let mut shares = HashMap::new();
        ten.iter().for_each(|at| *shares.entry(at).or_insert(0_usize) += 1);
        assert!(
            shares.len() == 10 && shares.values().all(|share| (700..1_400).contains(share)),
            "{shares:?}"
        );
        let moved: Vec<_> = ten.iter().zip(&eleven).filter(|(before, after)| before != after).collect();
        assert!((600..1_300).contains(&moved.len()), "{} of {NODES} moved", moved.len());
        assert!(moved.iter().all(|(_, after)| **after == 10), "only to the new one");
    }

    #[test]
    fn the_nodes_of_one_that_failed_spread_over_the_others() {
        let receivers = receivers(5);
        let mut heirs = HashMap::new();
        for node in 0..5_000 {
            let order = order(&format!("node{node}"), &receivers, 150);
            if order[0] == 2 {
                *heirs.entry(order[1]).or_insert(0) += 1;
            }
        }
        // The control, one point each, has a single heir.
        assert!(heirs.len() == 4 && heirs.values().all(|heir| *heir > 50), "{heirs:?}");
        let one_point: std::collections::HashSet<_> = (0..5_000)
            .map(|node| order(&format!("node{node}"), &receivers, 1))
            .filter(|order| order[0] == 2)
            .map(|order| order[1])
            .collect();
        assert!(one_point.len() <= 1, "{one_point:?}");
    }
}
