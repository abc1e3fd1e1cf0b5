//! The order in which a node asks receivers: a pure function of their names, the same on every machine and version.

use sha2::{Digest as _, Sha256};

/// The points of all receivers.
pub(super) struct Circle {
    /// Sorted.
    points: Vec<(u64, usize)>,
    receivers: usize,
}

impl Circle {
    pub(super) fn new(receivers: &[String], points: u32) -> Self {
        let of = |(at, receiver): (usize, &String)| {
            (0..points).map(|point| (place(&[receiver, &point.to_string()]), at)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = receivers.iter().enumerate().flat_map(of).collect();
        all.sort_unstable();
        Self { points: all, receivers: receivers.len() }
    }

    /// Indexes of the receivers, the home of `node` first, each once.
    pub(super) fn order(&self, node: &str) -> Vec<usize> {
        let from = place(&[node]);
        let start = self.points.partition_point(|&(point, _)| point < from);
        let mut order = Vec::with_capacity(self.receivers);
        for &(_, at) in self.points.iter().cycle().skip(start).take(self.points.len()) {
            if !order.contains(&at) {
                order.push(at);
            }
            if order.len() == self.receivers {
                break;
            }
        }
        order
    }
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
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn receivers(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("http://10.0.0.{at}:8080/api/v1/ingest")).collect()
    }

    #[test]
    fn the_order_is_the_same_for_ever() {
        assert_eq!(Circle::new(&receivers(3), 150).order("node7"), ORDER_OF_NODE7);
        assert_eq!(Circle::new(&[], 150).order("node7"), Vec::<usize>::new());
        assert_eq!(Circle::new(&receivers(1), 150).order("node7"), [0]);
    }

    /// Whoever changes the hash moves every node of every fleet.
    const ORDER_OF_NODE7: [usize; 3] = [2, 0, 1];

    #[test]
    fn nodes_spread_and_few_move_when_one_comes() {
        const NODES: usize = 10_000;
        let home = |count: usize| -> Vec<usize> {
            let circle = Circle::new(&receivers(count), 150);
            (0..NODES).map(|node| circle.order(&format!("node{node}"))[0]).collect()
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
        let circle = Circle::new(&receivers(5), 150);
        let mut heirs = HashMap::new();
        for node in 0..5_000 {
            let order = circle.order(&format!("node{node}"));
            if order[0] == 2 {
                *heirs.entry(order[1]).or_insert(0) += 1;
            }
        }
        // The control, one point each, has a single heir.
        assert!(heirs.len() == 4 && heirs.values().all(|heir| *heir > 50), "{heirs:?}");
        let circle = Circle::new(&receivers(5), 1);
        let one_point: HashSet<_> = (0..5_000)
            .map(|node| circle.order(&format!("node{node}")))
            .filter(|order| order[0] == 2)
            .map(|order| order[1])
            .collect();
        assert!(one_point.len() <= 1, "{one_point:?}");
    }
}
