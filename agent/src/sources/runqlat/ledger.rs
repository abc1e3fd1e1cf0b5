//! Totals that outlive their cgroups.
//!
//! What a removed group had counted goes to its nearest ancestor that still exists: sums over a subtree, and so those
//! of a pod, never go backwards while the subtree's root lives.

use std::collections::HashMap;

use crate::domain::runqueue::{CgroupRun, RunTotals};

/// What removed groups left, by the path of the ancestor that has it now.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    inherited: HashMap<Box<str>, RunTotals>,
}

impl Ledger {
    /// The group at `path` is gone: what it counted and had inherited goes to the nearest ancestor that `lives`.
    pub(super) fn fold(&mut self, path: &str, totals: &RunTotals, lives: impl Fn(&str) -> bool) {
        let mut sum = self.inherited.remove(path).unwrap_or_default();
        sum.add(totals);
        // A wait of the past must not look recent for as long as the heir lives.
        sum.longest_recent_wait_ns = 0;
        let heir = ancestors(path).find(|path| *path == "/" || lives(path)).unwrap_or("/");
        self.inherited.entry(heir.into()).or_default().add(&sum);
    }

    /// Folds what vanished groups had inherited.
    pub(super) fn sweep(&mut self, lives: impl Fn(&str) -> bool) {
        let gone: Vec<_> =
            self.inherited.keys().filter(|path| &***path != "/" && !lives(path)).cloned().collect();
        for path in gone {
            self.fold(&path, &RunTotals::default(), &lives);
        }
    }

    /// The living groups with what they inherited, and heirs that count nothing of their own; ascending by path.
    pub(super) fn settle(&self, mut living: Vec<CgroupRun>) -> Vec<CgroupRun> {
        let mut left: HashMap<&str, &RunTotals> =
            self.inherited.iter().map(|(path, sum)| (&**path, sum)).collect();
        for group in &mut living {
            if let Some(sum) = left.remove(&*group.path) {
                group.totals.add(sum);
            }
        }
        living.extend(left.into_iter().map(|(path, sum)| CgroupRun {
            cgroup_id: 0,
            path: path.into(),
            totals: *sum,
        }));
        living.sort_by(|a, b| a.path.cmp(&b.path));
        living
    }
}

/// `/a/b/c`: `/a/b`, `/a`, `/`.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(path), |path| parent(path))
}

fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path == "/" => None,
        0 => Some("/"),
        at => Some(&path[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(on_cpu_ns: u64) -> RunTotals {
        RunTotals { on_cpu_ns, longest_recent_wait_ns: on_cpu_ns, ..RunTotals::default() }
    }

    fn group(path: &str, on_cpu_ns: u64) -> CgroupRun {
        CgroupRun { cgroup_id: 7, path: path.into(), totals: ran(on_cpu_ns) }
    }

    fn said(groups: &[CgroupRun]) -> Vec<(&str, u64)> {
        groups.iter().map(|group| (&*group.path, group.totals.on_cpu_ns)).collect()
    }

    #[test]
    fn the_nearest_living_ancestor_inherits() {
        let mut ledger = Ledger::default();
        ledger.fold("/pod/app/job", &ran(5), |path| path == "/pod");
        ledger.fold("/pod/side", &ran(2), |path| path == "/pod");
        ledger.fold("/other", &ran(3), |_| false);
        let settled = ledger.settle(vec![group("/pod", 10), group("/pod/new", 1)]);
        assert_eq!(said(&settled), [("/", 3), ("/pod", 17), ("/pod/new", 1)]);
        assert_eq!(settled[1].totals.longest_recent_wait_ns, 10, "old waits are not recent");
    }

    #[test]
    fn nothing_is_lost_when_heirs_go_too() {
        let mut ledger = Ledger::default();
        ledger.fold("/a/b/c", &ran(5), |path| path == "/a/b");
        ledger.sweep(|path| path == "/a");
        assert_eq!(said(&ledger.settle(Vec::new())), [("/a", 5)]);
        ledger.fold("/a", &ran(1), |_| false);
        ledger.sweep(|_| false);
        assert_eq!(said(&ledger.settle(vec![group("/", 1)])), [("/", 7)], "the root is always there");
    }
}
