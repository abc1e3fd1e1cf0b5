//! Recorded and random streams of events, against what is really so.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::pod::{CgroupKind, CgroupRef};

const POD: u64 = 100;
const BELOW: u64 = 101;
const HOST: u64 = 1;

fn record(pid: u32, start: u64, group: u64, name: &str) -> TaskRecord {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    TaskRecord { pid, live: 1, ppid: 1, nr_threads: 1, start_boottime_ns: start, cgroup_id: group, comm }
}

fn event(kind: Kind, task: TaskRecord) -> Event {
    Event { task, kind: kind as u32, reserved: 0 }
}

fn groups() -> (Vec<Place>, HashMap<u64, Option<usize>>) {
    let place = CgroupRef { kind: CgroupKind::Container, ..CgroupRef::default() };
    let place = Place { place, cgroup: "/pod/container".to_owned(), cgroup_id: POD, pids: Vec::new() };
    (vec![place], [(HOST, None), (POD, Some(0)), (BELOW, Some(0))].into())
}

/// After a first walk that saw `records`.
fn live(records: Vec<TaskRecord>) -> Live {
    let mut live = Live::new(1_000);
    let (places, owners) = groups();
    live.set_groups(places, owners);
    live.reconcile(records.into_iter(), &[]);
    assert!(!live.is_unsettled(), "the first walk corrects nothing");
    live.take_changed();
    live
}

/// (pid, start in ticks, name) of the container's processes, and how many are elsewhere.
fn seen(live: &Live) -> (Vec<(u32, u64, String)>, u64) {
    let (leaves, host) = live.leaves();
    let task = |task: &Task| (task.key.pid, task.key.starttime_ticks, task.comm.to_string());
    let mut tasks: Vec<_> = leaves[0].tasks.iter().map(task).collect();
    tasks.sort_unstable();
    (tasks, host.tasks)
}

fn churn(live: &Live) -> Churn {
    live.leaves().0[0].churn.unwrap()
}

#[test]
fn a_runtime_forks_moves_and_execs() {
    let mut live = live(vec![record(1, 10, HOST, "systemd")]);
    live.apply(&[event(Kind::Fork, record(50, 20_000_000, HOST, "runc"))]);
    assert_eq!(live.take_changed(), Changed { host: true, ..Changed::default() });
    live.apply(&[
        event(Kind::Attach, record(50, 20_000_000, POD, "runc")),
        event(Kind::Exec, record(50, 20_000_000, POD, "nginx")),
    ]);
    assert_eq!(live.take_changed(), Changed { places: true, host: true, groups: false });
    assert_eq!(seen(&live), (vec![(50, 2, "nginx".to_owned())], 1));
    live.apply(&[event(Kind::Exit, record(50, 20_000_000, POD, "nginx"))]);
    assert_eq!(seen(&live), (vec![], 1));
    assert_eq!(churn(&live), Churn { forks: 0, execs: 1, exits: 1 });
    assert_eq!(live.take_changed(), Changed { places: true, host: true, groups: false });
}

#[test]
fn one_that_no_map_has_shown_needs_no_map_to_vanish_from() {
    let task = record(50, 20, POD, "true");
    let mut live = live(vec![]);
    live.apply(&[event(Kind::Fork, task), event(Kind::Exec, task), event(Kind::Exit, task)]);
    assert_eq!(live.take_changed(), Changed { host: true, ..Changed::default() }, "its account can wait");
    assert_eq!(churn(&live), Churn { forks: 1, execs: 1, exits: 1 });
    // The control: one that was shown.
    live.apply(&[event(Kind::Fork, task)]);
    assert!(live.take_changed().places);
    live.apply(&[event(Kind::Exit, task)]);
    assert!(live.take_changed().places);
}

#[test]
fn an_event_changes_no_other_process_of_its_pid() {
    let mut live = live(vec![record(50, 30, POD, "new")]);
    for late in [Kind::Exit, Kind::Attach, Kind::Fork, Kind::Exec] {
        live.apply(&[event(late, record(50, 20, HOST, "old"))]);
        assert_eq!(seen(&live).0, [(50, 0, "new".to_owned())], "{late:?}");
    }
    // Behind its end a move brings nothing back.
    live.apply(&[
        event(Kind::Exit, record(50, 30, POD, "new")),
        event(Kind::Attach, record(50, 30, POD, "new")),
    ]);
    assert_eq!(seen(&live), (vec![], 0));
    // The control: a fork with the pid does.
    live.apply(&[event(Kind::Fork, record(50, 40, POD, "next"))]);
    assert_eq!(seen(&live).0.len(), 1);
}

#[test]
fn what_a_walk_finds_and_no_event_explains_is_a_correction() {
    let before = vec![record(2, 1, POD, "gone"), record(3, 1, POD, "reused"), record(4, 1, POD, "moved")];
    let after = [record(3, 9, POD, "other"), record(4, 1, HOST, "moved"), record(5, 9, POD, "missed")];
    let mut unexplained = live(before.clone());
    unexplained.reconcile(after.into_iter(), &[]);
    let mut corrections: Vec<_> = unexplained.settle().into_iter().map(Correction::name).collect();
    corrections.sort_unstable();
    assert_eq!(corrections, ["end", "move", "reuse", "start"]);
    assert_eq!(unexplained.take_changed(), Changed { places: true, host: true, groups: false });

    // The control: the same with the events that the walk has overtaken, one batch of them later still.
    let mut explained = live(before);
    let events = [
        event(Kind::Exit, record(2, 1, POD, "gone")),
        event(Kind::Exit, record(3, 1, POD, "reused")),
        event(Kind::Fork, record(3, 9, POD, "other")),
        event(Kind::Attach, record(4, 1, HOST, "moved")),
        event(Kind::Fork, record(5, 9, POD, "missed")),
    ];
    explained.reconcile(after.into_iter(), &events[..3]);
    explained.apply(&events[3..]);
    assert!(explained.settle().is_empty());
    assert_eq!(seen(&explained), seen(&unexplained));
}

#[test]
fn one_that_has_ended_is_no_process_though_nobody_has_waited_for_it() {
    let mut live = live(vec![record(2, 1, POD, "a")]);
    live.apply(&[event(Kind::Exit, record(2, 1, POD, "a"))]);
    let zombie = TaskRecord { live: 0, ..record(2, 1, POD, "a") };
    live.reconcile([zombie].into_iter(), &[]);
    assert!(!live.is_unsettled() && seen(&live).0.is_empty());
    // The control: an iterator that knows no difference would bring it back.
    live.reconcile([record(2, 1, POD, "a")].into_iter(), &[]);
    assert!(live.is_unsettled());
}

#[test]
fn a_group_nobody_knows_is_asked_for_once() {
    let mut live = live(vec![]);
    live.apply(&[event(Kind::Mkdir, record(0, 0, 7, ""))]);
    assert!(live.take_changed().groups && live.changed().groups, "until it is answered");
    live.apply(&[event(Kind::Fork, record(2, 1, 7, "a")), event(Kind::Exit, record(3, 1, 8, "b"))]);
    assert_eq!(seen(&live), (vec![], 1));
    let (places, mut owners) = groups();
    owners.insert(7, Some(0));
    live.set_groups(places, owners);
    assert_eq!(seen(&live).0.len(), 1);
    assert_eq!(churn(&live).forks, 1, "what happened before it was known counts");
    // 8 is nowhere to be found: it came and went.
    live.take_changed();
    live.apply(&[event(Kind::Exit, record(4, 1, 8, "b"))]);
    assert!(!live.changed().groups, "not asked for again");
}

#[test]
fn the_limit_is_counted() {
    let mut live = Live::new(2);
    live.reconcile((1..=5).map(|pid| record(pid, 1, HOST, "a")), &[]);
    assert_eq!((live.beyond(), live.leaves().1.tasks), (3, 2));
    live.apply(&[event(Kind::Fork, record(9, 2, HOST, "b"))]);
    assert_eq!((live.beyond(), live.leaves().1.tasks), (4, 2));
}

/// What is really so, and what the kernel told of it.
#[derive(Default)]
struct Truth {
    processes: BTreeMap<u32, TaskRecord>,
    clock: u64,
    told: Vec<Event>,
}

impl Truth {
    fn step(&mut self, action: u8, pid: u32, group: u64) {
        self.clock += TICK_NS;
        let known = self.processes.get(&pid).copied();
        let (kind, task) = match (action % 4, known) {
            (0, None) => (Kind::Fork, record(pid, self.clock, group, "fork")),
            (1, Some(task)) => (Kind::Exec, TaskRecord { comm: record(0, 0, 0, "exec").comm, ..task }),
            (2, Some(task)) => (Kind::Attach, TaskRecord { cgroup_id: group, ..task }),
            (3, Some(task)) => (Kind::Exit, task),
            _ => return,
        };
        if kind == Kind::Exit {
            self.processes.remove(&pid);
        } else {
            self.processes.insert(pid, task);
        }
        self.told.push(event(kind, task));
    }

    fn is_what(&self, live: &Live) -> bool {
        let expected: HashMap<u32, Process> =
            self.processes.iter().map(|(&pid, task)| (pid, Process::of(task))).collect();
        live.processes == expected
    }
}

proptest! {
    /// Walks at any moment, with any number of events on their way: the state is the truth, and nothing is called a
    /// correction. With events lost, the next walk makes it the truth.
    #[test]
    fn any_stream_ends_in_the_truth(
        steps in prop::collection::vec((any::<u8>(), 2..8_u32, 0..3_usize, 0..20_u8), 1..200),
        lossy in any::<bool>(),
    ) {
        let mut live = live(vec![]);
        let mut truth = Truth::default();
        let mut corrections = Vec::new();
        for (action, pid, group, moment) in steps {
            truth.step(action, pid, [HOST, POD, BELOW][group]);
            match moment {
                0 => {
                    // Events before the walk, the walk, and one thing that happens behind it.
                    live.apply(&std::mem::take(&mut truth.told));
                    corrections.extend(live.settle());
                    let records: Vec<_> = truth.processes.values().copied().collect();
                    truth.step(action / 4, pid, POD);
                    live.reconcile(records.into_iter(), &std::mem::take(&mut truth.told));
                    prop_assert!(truth.is_what(&live));
                }
                // A walk overtakes the events before it, which are read only then. If the end of a process is lost
                // and its start is not, it comes back until the next walk.
                1 => {
                    let records: Vec<_> = truth.processes.values().copied().collect();
                    live.reconcile(records.into_iter(), &std::mem::take(&mut truth.told));
                    prop_assert!(lossy || truth.is_what(&live));
                }
                2..4 => {
                    live.apply(&std::mem::take(&mut truth.told));
                    prop_assert!(lossy || truth.is_what(&live));
                }
                4 if lossy => _ = truth.told.pop(),
                _ => {}
            }
        }
        live.apply(&std::mem::take(&mut truth.told));
        corrections.extend(live.settle());
        prop_assert!(lossy || (truth.is_what(&live) && corrections.is_empty()), "{corrections:?}");
        live.reconcile(truth.processes.values().copied(), &[]);
        prop_assert!(truth.is_what(&live));
    }
}
