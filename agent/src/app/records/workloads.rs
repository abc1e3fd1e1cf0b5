//! What the receiver is told of workloads: that one began, reported, went on to another phase, or is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::workloads::record::NodeWorkloads;
use crate::domain::workload::{Phase, State, Workload};
use crate::workloads::Handle;

type List = Arc<Vec<Arc<Workload>>>;

/// How far the receiver was told of one of them: which, by its start, since `prepare` comes again under its name; how it
/// stood; at which of its seconds it had reported.
type Told = (i64, State, Phase, Option<u32>);

/// The node's workloads, and what was told of them: a line for each in the owner's list, which has a limit.
#[derive(Default)]
pub(crate) struct Workloads {
    owner: Option<(Handle, watch::Receiver<List>)>,
    told: BTreeMap<String, Told>,
}

impl Workloads {
    /// Of this owner; of none, nothing ever changes.
    pub(crate) fn new(owner: Option<&Handle>) -> Self {
        let owner = owner.map(|handle| (handle.clone(), handle.follow()));
        Self { owner, told: BTreeMap::new() }
    }

    /// Waits until one of them changed; none when their owner has ended.
    pub(super) async fn changed(&mut self) -> Option<()> {
        match &mut self.owner {
            Some((_, list)) => list.changed().await.ok(),
            None => std::future::pending().await,
        }
    }

    /// What is new since this was asked last, if anything is. Of reports that came in between it has the latest.
    pub(super) fn news(&mut self, at_ns: i64) -> Option<NodeWorkloads> {
        let (handle, list) = self.owner.as_mut()?;
        let list = Arc::clone(&list.borrow_and_update());
        let (told, shown) = compare(&self.told, &list);
        self.told = told;
        let shown = shown?;
        let kinds: BTreeSet<_> = shown.iter().map(|(workload, _)| workload.kind).collect();
        let mut record = NodeWorkloads::new(at_ns, shown);
        record.kinds = kinds.into_iter().map(|kind| (&handle.sums(kind)).into()).collect();
        Some(record)
    }
}

/// A workload, and whether it has reported since it was told of.
type Shown<'a> = (&'a Workload, bool);

/// What will have been told, and what is shown for it: those that run, and those that are over since; nothing if nothing
/// has changed.
fn compare<'a>(
    before: &BTreeMap<String, Told>,
    list: &'a [Arc<Workload>],
) -> (BTreeMap<String, Told>, Option<Vec<Shown<'a>>>) {
    let (mut told, mut shown, mut news) = (BTreeMap::new(), Vec::new(), false);
    for workload in list {
        let reported_s = workload.latest.map(|latest| latest.at_s);
        let now = (workload.started_at_ns, workload.state, workload.phase, reported_s);
        let known = before.get(&workload.id).filter(|(started_at_ns, ..)| *started_at_ns == now.0);
        let changed = known != Some(&now);
        news |= changed;
        if changed || workload.state.is_active() {
            let reported = reported_s.is_some() && known.is_none_or(|(.., before_s)| *before_s != reported_s);
            shown.push((&**workload, reported));
        }
        told.insert(workload.id.clone(), now);
    }
    (told, news.then_some(shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::workload::{Builtin, Figures, Kind, Totals};

    fn workload(id: &str, state: State, reported_s: Option<u32>) -> Arc<Workload> {
        Arc::new(Workload {
            id: id.to_owned(),
            kind: Kind::Builtin(Builtin::Batch),
            threads: 1,
            duration_s: 60,
            rate: None,
            state,
            phase: if state.is_active() { Phase::Running } else { Phase::Stopped },
            progress: None,
            reason: None,
            pid: None,
            started_at_ns: 1,
            ended_at_ns: None,
            latest: reported_s.map(|at_s| Figures { at_s, ..Figures::default() }),
            series: Vec::new(),
            totals: Totals::default(),
        })
    }

    #[test]
    fn each_beginning_report_and_end_is_told_once() {
        use State::{Ended, Running, Stopped};
        let mut told = BTreeMap::new();
        let mut news = |list: &[(&str, State, Option<u32>)]| {
            let list: Vec<_> = list.iter().map(|(id, state, at_s)| workload(id, *state, *at_s)).collect();
            let (now, shown) = compare(&told, &list);
            told = now;
            assert_eq!(told.len(), list.len(), "nothing is kept of what the owner forgot");
            shown.map(|shown| {
                shown.iter().map(|(one, reported)| (one.id.clone(), one.state, *reported)).collect::<Vec<_>>()
            })
        };
        let said = |id: &str, state, reported| (id.to_owned(), state, reported);
        assert_eq!(news(&[]), None);
        assert_eq!(news(&[("a", Running, None)]), Some(vec![said("a", Running, false)]));
        assert_eq!(news(&[("a", Running, None)]), None, "the same again is no news");
        assert_eq!(news(&[("a", Running, Some(1))]), Some(vec![said("a", Running, true)]));
        let both = [("b", Running, None), ("a", Running, Some(1))];
        assert_eq!(news(&both), Some(vec![said("b", Running, false), said("a", Running, false)]));
        let over = [("b", Running, None), ("a", Ended, Some(2))];
        assert_eq!(news(&over), Some(vec![said("b", Running, false), said("a", Ended, true)]));
        assert_eq!(news(&over), None);
        // One began and ended between two looks; what is over is not told again.
        let quick = [("c", Stopped, Some(1)), ("a", Ended, Some(2))];
        assert_eq!(news(&quick), Some(vec![said("c", Stopped, true)]));
        assert_eq!(news(&[("c", Stopped, Some(1))]), None, "the owner forgot one");
    }

    #[test]
    fn a_preparation_that_comes_again_under_its_name_is_another_one() {
        let list = [workload("prepare", State::Ended, None)];
        let (told, _) = compare(&BTreeMap::new(), &list);
        assert!(compare(&told, &list).1.is_none());
        let mut again = list;
        Arc::make_mut(&mut again[0]).started_at_ns = 2;
        assert_eq!(compare(&told, &again).1.map(|shown| shown.len()), Some(1));
    }
}
