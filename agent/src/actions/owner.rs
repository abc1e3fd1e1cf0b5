//! The one owner of every anomaly: from the request to the last undo.
//!
//! Invariants: what was begun is in the journal before its first step; a step is undone after every later one; an anomaly
//! is over only when every step that was done is undone, and until then each tick tries again; after a stop of the node
//! nothing begins. Time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::executor::{Executor, Key, Took};
use super::journal::{Begin, Journal};
use super::plan::{self, Step};
use super::{Config, Error, Metrics, place, protect};
use crate::domain::action::{Anomaly, Asked, Fault, Kind, Of, Point, State, Target};
use crate::domain::pod::PodMap;
use crate::host::HostRoots;

/// Anomalies that are over and still told of.
const MAX_PAST: usize = 64;
/// A worker reports every second; a point of less would be two workers' rounding.
const POINT_NS: u64 = 1_000_000_000;
/// A worker's own deadline comes first by design of neither side; one of them may be this early.
const EARLY_NS: u64 = 100_000_000;

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Wall time, ns since the epoch.
    pub(super) wall_ns: i64,
    /// Since boot, sleep included.
    pub(super) boot_ns: u64,
}

/// What the owner needs to know of the node.
pub(super) struct World {
    pub(super) config: Config,
    pub(super) roots: HostRoots,
    pub(super) boot_id: String,
    pub(super) pods: watch::Receiver<Arc<PodMap>>,
    pub(super) metrics: Metrics,
}

struct Running {
    anomaly: Anomaly,
    deadline_ns: u64,
    /// What is to become of it once all is undone.
    verdict: State,
    /// The last point's sums, over all workers.
    last: Took,
}

/// See the module.
pub(super) struct Owner<E> {
    world: World,
    executor: E,
    journal: Journal,
    running: Vec<Running>,
    past: VecDeque<Anomaly>,
    stopping: bool,
    out: watch::Sender<Arc<Vec<Anomaly>>>,
}

impl<E: Executor> Owner<E> {
    /// Takes over: removes what an earlier life left, tells of it as aborted.
    ///
    /// # Errors
    /// What is left and cannot be removed, or the disk's: then no anomaly may begin.
    pub(super) fn new(
        world: World,
        mut executor: E,
        (mut journal, leftovers): (Journal, Vec<Begin>),
        now: Now,
        out: watch::Sender<Arc<Vec<Anomaly>>>,
    ) -> Result<Self, Error> {
        let ids: Vec<_> = leftovers.iter().filter(|b| b.boot_id == world.boot_id).map(|b| &*b.id).collect();
        if !ids.is_empty() {
            let removed = executor.sweep(&ids).map_err(Error::Failed)?;
            tracing::warn!(anomalies = ids.len(), removed, "an earlier life of this node left anomalies");
        }
        journal.clear().map_err(|error| Error::Failed(format!("journal: {error}")))?;
        let skipped = leftovers.len().saturating_sub(MAX_PAST);
        let past = leftovers.into_iter().skip(skipped).map(|begin| aborted(begin, now)).collect();
        let owner = Self { world, executor, journal, running: Vec::new(), past, stopping: false, out };
        owner.publish();
        Ok(owner)
    }

    /// Starts what is asked for, or says what would be started.
    pub(super) fn start(&mut self, asked: Asked, dry_run: bool, now: Now) -> Result<Anomaly, Error> {
        self.may_begin()?;
        let config = &self.world.config;
        let limits = config.limits();
        let fault = Fault::check(asked, &limits)?;
        let target = &fault.asked().target;
        let pods = Arc::clone(&self.world.pods.borrow());
        let place = place::find(target, &self.world.roots, &pods)?;
        protect::check(target, &place, &place::ourselves(&self.world.roots), &pods, config)?;
        if let Some(other) = self.running.iter().find(|running| running.anomaly.asked.target == *target) {
            return Err(Error::Conflict(format!("{target} already has the anomaly {}", other.anomaly.id)));
        }
        if self.running.len() >= config.max_concurrent {
            return Err(Error::Conflict(format!(
                "{} anomalies run already, the most here",
                self.running.len()
            )));
        }
        let taken = self.running.iter().map(|running| running.anomaly.asked_percent).sum();
        let shares = fault.shares(&limits, place.cpus, place.node_cpus, taken)?;
        let steps = plan::steps(&fault, &place, &shares, now.boot_ns);
        let anomaly = Anomaly {
            id: uuid::Uuid::new_v4().simple().to_string(),
            kind: fault.asked().kind,
            asked: fault.asked().clone(),
            state: if dry_run { State::Planned } else { State::Running },
            reason: None,
            started_at_ns: now.wall_ns,
            ended_at_ns: None,
            asked_percent: shares.iter().sum(),
            achieved_percent: None,
            achieved: Vec::new(),
            steps: steps.iter().map(Step::record).collect(),
        };
        if dry_run {
            return Ok(anomaly);
        }
        let deadline_ns = now.boot_ns.saturating_add(fault.duration_ns());
        self.begin(anomaly, &steps, deadline_ns, now)
    }

    fn may_begin(&self) -> Result<(), Error> {
        if self.stopping {
            return Err(Error::Unavailable("the node is stopping"));
        }
        let switch = &self.world.config.kill_switch;
        if switch.exists() {
            return Err(Error::Conflict(format!("the kill switch {} is there", switch.display())));
        }
        Ok(())
    }

    fn begin(
        &mut self,
        anomaly: Anomaly,
        steps: &[Step],
        deadline_ns: u64,
        now: Now,
    ) -> Result<Anomaly, Error> {
        let begin = Begin {
            id: anomaly.id.clone(),
            boot_id: self.world.boot_id.clone(),
            at_ns: now.wall_ns,
            target: anomaly.asked.target.to_string(),
            percent: anomaly.asked.percent,
            duration_s: anomaly.asked.duration_s,
        };
        self.journal.begin(&begin).map_err(|error| Error::Failed(format!("journal: {error}")))?;
        let mut running = Running { anomaly, deadline_ns, verdict: State::Ended, last: Took::default() };
        let mut failure = None;
        for (index, step) in steps.iter().enumerate() {
            match self.executor.execute(Key { id: &running.anomaly.id, step: index }, step) {
                Ok(()) => running.anomaly.steps[index].done = true,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let Anomaly { id, kind, asked, asked_percent, .. } = &running.anomaly;
        let (kind, target, duration_s) = (kind.name(), asked.target.to_string(), asked.duration_s);
        if let Some(error) = failure {
            tracing::warn!(id, kind, target, error, "anomaly failed to start");
            self.running.push(running);
            self.finish(self.running.len() - 1, State::Failed, Some(error.clone()), now);
            self.publish();
            return Err(Error::Failed(error));
        }
        tracing::warn!(id, kind, target, asked_percent, duration_s, "anomaly started");
        let anomaly = running.anomaly.clone();
        self.running.push(running);
        self.publish();
        Ok(anomaly)
    }

    /// Stops one; its last state. One that is over stays as it is.
    pub(super) fn stop(&mut self, id: &str, now: Now) -> Result<Anomaly, Error> {
        if let Some(index) = self.running.iter().position(|running| running.anomaly.id == id) {
            self.finish(index, State::Stopped, Some("stopped by a request".to_owned()), now);
            self.publish();
        }
        let all = self.running.iter().map(|running| &running.anomaly).chain(&self.past);
        all.into_iter().find(|a| a.id == id).cloned().ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    /// Stops all; those that were active.
    pub(super) fn stop_all(&mut self, why: &str, now: Now) -> usize {
        let count = self.running.len();
        for index in (0..count).rev() {
            self.finish(index, State::Stopped, Some(why.to_owned()), now);
        }
        self.publish();
        count
    }

    /// The node stops: nothing begins any more, everything is undone.
    pub(super) fn shut_down(&mut self, now: Now) -> usize {
        self.stopping = true;
        self.stop_all("the node stopped", now);
        self.running.len()
    }

    /// Looks at every step, ends what is over, tries again what could not be undone.
    pub(super) fn tick(&mut self, now: Now) {
        if self.running.is_empty() {
            return;
        }
        let switched_off = self.world.config.kill_switch.exists();
        for index in (0..self.running.len()).rev() {
            if self.running[index].anomaly.state == State::Undoing {
                let (verdict, reason) =
                    (self.running[index].verdict, self.running[index].anomaly.reason.clone());
                self.finish(index, verdict, reason, now);
                continue;
            }
            let early = self.look(index);
            let over = now.boot_ns.saturating_add(EARLY_NS) >= self.running[index].deadline_ns;
            match early {
                _ if switched_off => {
                    self.finish(index, State::Stopped, Some("the kill switch is there".to_owned()), now);
                }
                Some(why) if !over => self.finish(index, State::Failed, Some(why), now),
                _ if now.boot_ns >= self.running[index].deadline_ns => {
                    self.finish(index, State::Ended, None, now);
                }
                _ => {}
            }
        }
        self.publish();
    }

    /// Takes in what the workers report; set when one has ended.
    fn look(&mut self, index: usize) -> Option<String> {
        let Running { anomaly, last, .. } = &mut self.running[index];
        let (mut sum, mut workers, mut ended) = (Took::default(), 0_u64, None);
        for step in 0..anomaly.steps.len() {
            let seen = self.executor.look(Key { id: &anomaly.id, step });
            ended = ended.or(seen.ended);
            let Some(took) = seen.took else { continue };
            workers += 1;
            sum.elapsed_ns += took.elapsed_ns;
            sum.used_ns += took.used_ns;
        }
        let count = u64::try_from(anomaly.steps.len()).unwrap_or(u64::MAX);
        if workers == count && sum.elapsed_ns >= last.elapsed_ns + POINT_NS * count / 2 {
            let (elapsed_ns, used_ns) =
                (sum.elapsed_ns - last.elapsed_ns, sum.used_ns.saturating_sub(last.used_ns));
            anomaly.achieved_percent = Some(percent(sum.used_ns, sum.elapsed_ns, count));
            let at_s = seconds(sum.elapsed_ns / count);
            anomaly.push(Point { at_s, percent: percent(used_ns, elapsed_ns, count) });
            *last = sum;
        }
        ended
    }

    /// Undoes every step in reverse; the anomaly is over if that succeeds.
    fn finish(&mut self, index: usize, verdict: State, reason: Option<String>, now: Now) {
        self.look(index);
        let running = &mut self.running[index];
        running.verdict = verdict;
        let anomaly = &mut running.anomaly;
        anomaly.reason = reason;
        let mut failure = None;
        for step in
            (0..anomaly.steps.len()).rev().filter(|step| anomaly.steps[*step].done).collect::<Vec<_>>()
        {
            if anomaly.steps[step].undone {
                continue;
            }
            match self.executor.undo(Key { id: &anomaly.id, step }) {
                Ok(()) => anomaly.steps[step].undone = true,
                Err(error) => failure = Some(error),
            }
        }
        if failure.is_none() {
            failure = self.journal.end(&anomaly.id).err().map(|error| format!("journal: {error}"));
        }
        if let Some(error) = failure {
            if anomaly.state != State::Undoing {
                tracing::error!(id = anomaly.id, error, "anomaly cannot be undone yet, trying again");
            }
            anomaly.state = State::Undoing;
            return;
        }
        anomaly.state = verdict;
        anomaly.ended_at_ns = Some(now.wall_ns);
        let anomaly = self.running.remove(index).anomaly;
        let Anomaly { id, kind, asked_percent, achieved_percent, reason, .. } = &anomaly;
        let (kind, state, reason) = (*kind, verdict.name(), reason.as_deref().unwrap_or("its time is over"));
        tracing::warn!(
            id,
            kind = kind.name(),
            state,
            asked_percent,
            achieved_percent,
            reason,
            "anomaly undone"
        );
        self.world.metrics.over(kind, verdict);
        self.past.push_back(anomaly);
        if self.past.len() > MAX_PAST {
            self.past.pop_front();
        }
    }

    /// Something may be on the node.
    pub(super) fn is_active(&self) -> bool {
        !self.running.is_empty()
    }

    /// Newest first.
    fn publish(&self) {
        self.world.metrics.active.set(i64::try_from(self.running.len()).unwrap_or(i64::MAX));
        let all = self.running.iter().rev().map(|running| &running.anomaly).chain(self.past.iter().rev());
        self.out.send_replace(Arc::new(all.cloned().collect()));
    }
}

/// What is left to tell of an anomaly of an earlier life.
fn aborted(begin: Begin, now: Now) -> Anomaly {
    let asked = Asked {
        kind: Kind::Cpu,
        target: target_of(&begin.target),
        percent: begin.percent,
        of: Of::Core,
        workers: None,
        duration_s: begin.duration_s,
        ramp_s: 0.0,
    };
    Anomaly {
        id: begin.id,
        kind: Kind::Cpu,
        asked_percent: begin.percent,
        asked,
        state: State::Aborted,
        reason: Some("the node ended while it ran; nothing of it is left".to_owned()),
        started_at_ns: begin.at_ns,
        ended_at_ns: Some(now.wall_ns),
        achieved_percent: None,
        achieved: Vec::new(),
        steps: Vec::new(),
    }
}

/// The words of a [`Target`] back.
fn target_of(words: &str) -> Target {
    let (kind, name) = words.split_once(' ').unwrap_or((words, ""));
    match kind {
        "pod" => Target::Pod(name.to_owned()),
        "container" => Target::Container(name.to_owned()),
        "cgroup" => Target::Cgroup(name.to_owned()),
        "pid" => Target::Pid(name.parse().unwrap_or_default()),
        _ => Target::Node,
    }
}

/// Of one core, by `workers` whose times are summed.
#[expect(clippy::cast_precision_loss, reason = "hours in ns are below 2^53")]
fn percent(used_ns: u64, elapsed_ns: u64, workers: u64) -> f64 {
    let raw = used_ns as f64 / elapsed_ns.max(1) as f64 * workers as f64 * 100.0;
    (raw * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "hours in ns are below 2^53")]
fn seconds(ns: u64) -> f64 {
    (ns as f64 / 1e7).round() / 100.0
}

#[cfg(test)]
mod tests;
