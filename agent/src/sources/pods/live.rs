//! All processes of the node, kept up to date by what the kernel tells, and set right by walks of the kernel.
//!
//! Nothing here asks the kernel: events, walks and groups are arguments. Invariants:
//! - an event about a process changes only that very process: the same pid with the same start;
//! - a process that has ended is never made again by an event that comes late;
//! - what a walk finds and no event explains is a correction, and counted; since an event may be on its way while the
//!   walk is under way, it is counted only when the events after the walk have been seen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use agent_ebpf::process::{Event, Kind};
use agent_ebpf::task::TaskRecord;

use super::tree::Place;
use crate::domain::pod::{Churn, Host, Leaf, Task, TaskKey};

/// `/proc` counts starts in ticks of 10 ms on every machine (`USER_HZ`).
const TICK_NS: u64 = 10_000_000;

/// Groups remembered in which something happened and whose place is not known yet. They are asked for within a second.
const MAX_UNPLACED: usize = 1_024;

/// What was wrong before a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Correction {
    /// A process that no event had told of.
    Start,
    /// A process had ended, and no event had told of it.
    End,
    /// A pid belonged to another process.
    Reuse,
    /// A process was in another group.
    Move,
}

impl Correction {
    pub(super) const ALL: [Self; 4] = [Self::Start, Self::End, Self::Reuse, Self::Move];

    /// Word for labels.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
            Self::Reuse => "reuse",
            Self::Move => "move",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    start_ns: u64,
    ppid: u32,
    threads: u32,
    group: u64,
    comm: Arc<str>,
}

/// A process's identity for as long as the kernel runs.
type Key = (u32, u64);

/// What changed since the map was made last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Something in a pod or container.
    pub(super) places: bool,
    /// The number of processes elsewhere, or only what happened: it can wait.
    pub(super) host: bool,
    /// Groups came or went, or a process is in one that is not known.
    pub(super) groups: bool,
}

/// The processes and where they are.
#[derive(Debug, Default)]
pub(super) struct Live {
    processes: HashMap<u32, Process>,
    places: Vec<Place>,
    /// The place of every known group, or none.
    owners: HashMap<u64, Option<usize>>,
    /// What happened in each place, by its id, since the source began.
    churn: HashMap<u64, Churn>,
    unplaced: HashMap<u64, Churn>,
    /// Groups that no walk of the tree found: not looked for again before the next walk of the kernel.
    nowhere: HashSet<u64>,
    suspects: HashMap<Key, Correction>,
    /// Processes that came since the last map was made: one that goes before the next one never was in any.
    unseen: HashSet<u32>,
    changed: Changed,
    walked: bool,
    limit: usize,
    beyond: u64,
}

impl Live {
    /// At most `limit` processes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes over the groups of a walk of the tree.
    pub(super) fn set_groups(&mut self, places: Vec<Place>, owners: HashMap<u64, Option<usize>>) {
        let had: HashSet<u64> = self.places.iter().map(|place| place.cgroup_id).collect();
        self.changed.places |=
            had.len() != places.len() || places.iter().any(|place| !had.contains(&place.cgroup_id));
        let alive: HashSet<u64> = places.iter().map(|place| place.cgroup_id).collect();
        self.churn.retain(|id, _| alive.contains(id));
        self.places = places;
        self.owners = owners;
        self.changed.groups = false;
        self.nowhere.clear();
        for (group, churn) in std::mem::take(&mut self.unplaced) {
            match self.owners.get(&group) {
                Some(&owner) => self.count(owner, churn),
                // It came and went between two walks: nobody will ask for it again.
                None => _ = self.nowhere.insert(group),
            }
        }
        for process in self.processes.values().filter(|process| !self.owners.contains_key(&process.group)) {
            self.nowhere.insert(process.group);
        }
    }

    /// Takes over what happened, in order.
    pub(super) fn apply(&mut self, events: &[Event]) {
        for event in events {
            let Some(kind) = event.kind() else { continue };
            if matches!(kind, Kind::Mkdir | Kind::Rmdir) {
                self.changed.groups = true;
                continue;
            }
            let task = &event.task;
            self.suspects.remove(&(task.pid, task.start_boottime_ns));
            self.happened(task.cgroup_id, kind);
            match kind {
                Kind::Fork => self.start(task),
                Kind::Exec => self.exec(task),
                Kind::Exit => self.end(task),
                _ => self.moved(task),
            }
        }
    }

    /// Takes over what a walk of the kernel saw; `after` are the events that were read behind it.
    pub(super) fn reconcile(&mut self, records: impl Iterator<Item = TaskRecord>, after: &[Event]) {
        let mut before = std::mem::take(&mut self.processes);
        self.beyond = 0;
        let first = !std::mem::replace(&mut self.walked, true);
        for record in records.filter(|record| record.live > 0) {
            let process = Process::of(&record);
            let known = before.remove(&record.pid);
            if known.as_ref() != Some(&process) {
                self.changed.places = true;
                let wrong = match &known {
                    None => Some(Correction::Start),
                    Some(known) if known.start_ns != process.start_ns => Some(Correction::Reuse),
                    Some(known) if known.group != process.group => Some(Correction::Move),
                    // A name, a parent or a number of threads: no event tells of those.
                    Some(_) => None,
                };
                if let Some(wrong) = wrong.filter(|_| !first) {
                    self.suspects.insert((record.pid, record.start_boottime_ns), wrong);
                }
            }
            self.insert(record.pid, process);
        }
        for (pid, process) in before {
            self.changed.places = true;
            if !first {
                self.suspects.insert((pid, process.start_ns), Correction::End);
            }
        }
        self.apply(after);
    }

    /// The corrections that no event has explained by now.
    pub(super) fn settle(&mut self) -> Vec<Correction> {
        std::mem::take(&mut self.suspects).into_values().collect()
    }

    /// Corrections wait to be settled.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// What changed since this was asked last; that groups changed stays so until they are set.
    pub(super) fn take_changed(&mut self) -> Changed {
        let changed = self.changed();
        self.unseen.clear();
        self.changed = Changed { groups: changed.groups, ..Changed::default() };
        changed
    }

    /// What changed, left to be asked again.
    pub(super) fn changed(&self) -> Changed {
        let in_place = |pid: &u32| self.processes.get(pid).is_some_and(|it| self.owner(it.group).is_some());
        let places = self.changed.places || self.unseen.iter().any(in_place);
        Changed { places, host: self.changed.host || !self.unseen.is_empty(), ..self.changed }
    }

    /// Processes beyond the limit.
    pub(super) const fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Every place, without its processes.
    pub(super) fn groups(&self) -> Vec<Leaf> {
        let leaf = |place: &Place| Leaf {
            place: place.place.clone(),
            cgroup: place.cgroup.clone(),
            cgroup_id: place.cgroup_id,
            tasks: Vec::new(),
            churn: Some(self.churn.get(&place.cgroup_id).copied().unwrap_or_default()),
        };
        self.places.iter().map(leaf).collect()
    }

    /// Every place with its processes, and the rest.
    pub(super) fn leaves(&self) -> (Vec<Leaf>, Host) {
        let mut leaves = self.groups();
        let mut host = Host::default();
        for (&pid, process) in &self.processes {
            match self.owner(process.group).and_then(|at| leaves.get_mut(at)) {
                Some(leaf) => leaf.tasks.push(process.task(pid)),
                None => {
                    host.tasks += 1;
                    host.threads += u64::from(process.threads);
                }
            }
        }
        (leaves, host)
    }

    fn start(&mut self, task: &TaskRecord) {
        match self.processes.get(&task.pid) {
            // The walk saw it already, or a later one with its pid.
            Some(known) if known.start_ns >= task.start_boottime_ns => {}
            Some(known) => {
                let group = known.group;
                self.touch(task.pid, group);
                self.insert(task.pid, Process::of(task));
            }
            None => self.insert(task.pid, Process::of(task)),
        }
    }

    fn exec(&mut self, task: &TaskRecord) {
        match self.processes.get_mut(&task.pid) {
            Some(known) if known.start_ns > task.start_boottime_ns => {}
            Some(known) if known.start_ns == task.start_boottime_ns => {
                let group = known.group;
                *known = Process::of(task);
                self.touch(task.pid, group);
                self.touch(task.pid, task.cgroup_id);
            }
            // Its start got lost.
            _ => self.insert(task.pid, Process::of(task)),
        }
    }

    fn end(&mut self, task: &TaskRecord) {
        let same = |known: &Process| known.start_ns == task.start_boottime_ns;
        if self.processes.get(&task.pid).is_some_and(same)
            && let Some(gone) = self.processes.remove(&task.pid)
        {
            self.touch(task.pid, gone.group);
            self.unseen.remove(&task.pid);
        }
    }

    /// Never makes a process: this event may come behind its end.
    fn moved(&mut self, task: &TaskRecord) {
        if let Some(known) = self.processes.get_mut(&task.pid)
            && known.start_ns == task.start_boottime_ns
            && known.group != task.cgroup_id
        {
            let from = std::mem::replace(&mut known.group, task.cgroup_id);
            self.touch(task.pid, from);
            self.touch(task.pid, task.cgroup_id);
        }
    }

    fn insert(&mut self, pid: u32, process: Process) {
        if self.processes.len() >= self.limit && !self.processes.contains_key(&pid) {
            self.beyond += 1;
            return;
        }
        let group = process.group;
        if self.processes.insert(pid, process).is_none() {
            self.unseen.insert(pid);
        }
        self.touch(pid, group);
    }

    /// Something changed with this process in this group. What no map has shown yet needs no other one to be changed.
    fn touch(&mut self, pid: u32, group: u64) {
        let owner = self.owners.get(&group);
        self.changed.groups |= owner.is_none() && !self.nowhere.contains(&group);
        if !self.unseen.contains(&pid) {
            self.changed.places |= matches!(owner, Some(Some(_)));
            self.changed.host |= !matches!(owner, Some(Some(_)));
        }
    }

    fn happened(&mut self, group: u64, kind: Kind) {
        let one = Churn {
            forks: u64::from(kind == Kind::Fork),
            execs: u64::from(kind == Kind::Exec),
            exits: u64::from(kind == Kind::Exit),
        };
        match self.owners.get(&group) {
            Some(&owner) => self.count(owner, one),
            None if self.nowhere.contains(&group) => {}
            None if self.unplaced.len() < MAX_UNPLACED || self.unplaced.contains_key(&group) => {
                self.unplaced.entry(group).or_default().add(one);
                self.changed.groups = true;
            }
            None => {}
        }
    }

    fn count(&mut self, owner: Option<usize>, churn: Churn) {
        if let Some(place) = owner.and_then(|at| self.places.get(at)) {
            self.churn.entry(place.cgroup_id).or_default().add(churn);
            self.changed.host = true;
        }
    }

    fn owner(&self, group: u64) -> Option<usize> {
        self.owners.get(&group).copied().flatten()
    }
}

impl Process {
    fn of(task: &TaskRecord) -> Self {
        let end = task.comm.iter().position(|&byte| byte == 0).unwrap_or(task.comm.len());
        Self {
            start_ns: task.start_boottime_ns,
            ppid: task.ppid,
            threads: task.nr_threads,
            group: task.cgroup_id,
            comm: String::from_utf8_lossy(&task.comm[..end]).into(),
        }
    }

    fn task(&self, pid: u32) -> Task {
        let starttime_ticks = self.start_ns / TICK_NS;
        Task {
            key: TaskKey { pid, starttime_ticks },
            ppid: self.ppid,
            comm: Arc::clone(&self.comm),
            threads: self.threads,
        }
    }
}

#[cfg(test)]
mod tests;
