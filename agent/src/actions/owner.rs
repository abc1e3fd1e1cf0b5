//! The one owner of every anomaly: from the request to the last undo.
//!
//! Invariants: what was begun is in the journal before its first step; a step is undone after every later one; an anomaly
//! is over only when every step that was done is undone, and until then each tick tries again; after a stop of the node
//! nothing begins; every beginning and every end is told of. Time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use self::achieved::Achieved;
use super::executor::{Executor, Key};
use super::journal::{Begin, Journal};
use super::plan::{self, Facts, Plan, Step};
use super::{Config, Error, Metrics, place, protect};
use crate::domain::action::{Anomaly, Asked, Fault, Kind, State, Target, Unit};
use crate::domain::event::AnomalyEvent;
use crate::domain::pod::PodMap;
use crate::domain::scheduler::SchedulerReading;
use crate::host::HostRoots;

mod achieved;

/// Anomalies that are over and still told of.
const MAX_PAST: usize = 64;
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
    pub(super) scheduler: watch::Receiver<Arc<SchedulerReading>>,
    pub(super) own_ports: Vec<u16>,
    pub(super) events: mpsc::Sender<AnomalyEvent>,
    pub(super) metrics: Metrics,
}

struct Active {
    anomaly: Anomaly,
    fault: Fault,
    /// When its next run begins, ns since boot, while it is scheduled.
    next_ns: u64,
    deadline_ns: u64,
    /// What is to become of it once all is undone.
    verdict: State,
    achieved: Achieved,
}

/// See the module.
pub(super) struct Owner<E> {
    world: World,
    executor: E,
    journal: Journal,
    active: Vec<Active>,
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
        (mut journal, mut leftovers): (Journal, Vec<Begin>),
        now: Now,
        out: watch::Sender<Arc<Vec<Anomaly>>>,
    ) -> Result<Self, Error> {
        let of_this_boot: Vec<_> =
            leftovers.iter().filter(|begin| begin.boot_id == world.boot_id).cloned().collect();
        if !of_this_boot.is_empty() {
            let removed = executor.sweep(&of_this_boot).map_err(Error::Failed)?;
            tracing::warn!(
                anomalies = of_this_boot.len(),
                removed,
                "an earlier life of this node left anomalies"
            );
        }
        journal.clear().map_err(|error| Error::Failed(format!("journal: {error}")))?;
        leftovers.drain(..leftovers.len().saturating_sub(MAX_PAST));
        let past: VecDeque<_> = leftovers.into_iter().map(|begin| aborted(begin, now)).collect();
        let owner = Self { world, executor, journal, active: Vec::new(), past, stopping: false, out };
        owner.past.iter().for_each(|anomaly| owner.tell(anomaly, now));
        owner.publish();
        Ok(owner)
    }

    /// Starts what is asked for, now or when its time has come, or says what would be started.
    pub(super) fn start(&mut self, asked: Asked, dry_run: bool, now: Now) -> Result<Anomaly, Error> {
        self.may_begin()?;
        let fault = Fault::check(asked, &self.world.config.limits())?;
        let target = &fault.asked().target;
        if let Some(other) = self.active.iter().find(|active| active.anomaly.target == *target) {
            return Err(Error::Conflict(format!("{target} already has the anomaly {}", other.anomaly.id)));
        }
        if self.active.len() >= self.world.config.max_concurrent {
            return Err(Error::Conflict(format!(
                "{} anomalies run already, the most here",
                self.active.len()
            )));
        }
        let plan = self.plan(&fault, "", now)?;
        let mut anomaly = asked_for(&fault, &plan, now);
        if dry_run {
            return Ok(anomaly);
        }
        let (delay_ns, ..) = fault.schedule();
        anomaly.state = State::Scheduled;
        self.active.push(Active {
            anomaly,
            fault,
            next_ns: now.boot_ns.saturating_add(delay_ns),
            deadline_ns: 0,
            verdict: State::Ended,
            achieved: Achieved::default(),
        });
        let index = self.active.len() - 1;
        let begun = if delay_ns > 0 { Ok(()) } else { self.begin(index, &plan, now) };
        self.publish();
        begun.map(|()| self.active[index].anomaly.clone())
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

    /// What is to be done, on the node as it is now. `own` is the anomaly's id, whose own share is not counted twice.
    fn plan(&self, fault: &Fault, own: &str, now: Now) -> Result<Plan, Error> {
        let World { config, roots, pods, scheduler, .. } = &self.world;
        let pods = Arc::clone(&pods.borrow());
        let place = place::find(&fault.asked().target, roots, &pods)?;
        let ours = place::ourselves(roots);
        protect::check(&fault.asked().target, &place, &ours, &pods, config)?;
        let others = || self.active.iter().map(|active| &active.anomaly).filter(|other| other.id != own);
        let promised = |other: &Anomaly| (other.amount - other.achieved.unwrap_or_default()).max(0.0);
        let of_cpu = others().filter(|other| other.unit == Unit::PercentOfCore);
        let of_memory = others().filter(|other| other.kind == Kind::Memory);
        let spare = config.protected_pids.iter().copied().chain(ours.1).collect();
        let facts = Facts {
            place: &place,
            roots,
            limits: &config.limits(),
            taken_percent: of_cpu.map(|other| other.amount).sum(),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative; bytes of memory"
            )]
            promised_bytes: of_memory.map(promised).sum::<f64>() as u64,
            scheduler: &Arc::clone(&scheduler.borrow()),
            own_ports: &self.world.own_ports,
            spare,
            now_ns: now.boot_ns,
        };
        plan::plan(fault, &facts)
    }

    /// Begins a run of what is scheduled.
    fn begin(&mut self, index: usize, plan: &Plan, now: Now) -> Result<(), Error> {
        let active = &mut self.active[index];
        let anomaly = &mut active.anomaly;
        anomaly.steps = plan.steps.iter().map(Step::record).collect();
        (anomaly.unit, anomaly.amount, anomaly.achieved) = (plan.unit, plan.amount, None);
        anomaly.points.clear();
        anomaly.details.clear();
        anomaly.runs += 1;
        anomaly.started_at_ns = Some(now.wall_ns);
        (anomaly.ended_at_ns, anomaly.reason) = (None, None);
        anomaly.state = State::Running;
        active.achieved = Achieved::default();
        active.deadline_ns = now.boot_ns.saturating_add(active.fault.duration_ns());
        let (_, every_ns, _) = active.fault.schedule();
        active.next_ns = now.boot_ns.saturating_add(every_ns);
        let begin = begin_of(anomaly, &self.world.boot_id, plan, now);
        let mut failure = self.journal.begin(&begin).err().map(|error| format!("journal: {error}"));
        for (step, planned) in plan.steps.iter().enumerate() {
            if failure.is_some() {
                break;
            }
            match self.executor.execute(Key { id: &anomaly.id, step }, planned) {
                Ok(()) => anomaly.steps[step].done = true,
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            self.finish(index, State::Failed, Some(error.clone()), now);
            return Err(Error::Failed(error));
        }
        let Anomaly { id, kind, target, amount, unit, duration_s, .. } = &*anomaly;
        let (kind, unit, target) = (kind.name(), unit.name(), target.to_string());
        tracing::warn!(id, kind, target, amount, unit, duration_s, "anomaly started");
        self.tell(&self.active[index].anomaly, now);
        Ok(())
    }

    /// Stops one; its last state. One that is over stays as it is.
    pub(super) fn stop(&mut self, id: &str, now: Now) -> Result<Anomaly, Error> {
        if let Some(index) = self.active.iter().position(|active| active.anomaly.id == id) {
            self.finish(index, State::Stopped, Some("stopped by a request".to_owned()), now);
            self.publish();
        }
        let all = self.active.iter().map(|active| &active.anomaly).chain(&self.past);
        all.into_iter().find(|a| a.id == id).cloned().ok_or_else(|| Error::Unknown(id.to_owned()))
    }

    /// Stops all; those that were active.
    pub(super) fn stop_all(&mut self, why: &str, now: Now) -> usize {
        let count = self.active.len();
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
        self.active.len()
    }

    /// Looks at every step, begins what is due, ends what is over, tries again what could not be undone.
    pub(super) fn tick(&mut self, now: Now) {
        if self.active.is_empty() {
            return;
        }
        let switched_off = self.world.config.kill_switch.exists();
        let mut changed = false;
        for index in (0..self.active.len()).rev() {
            let Active { anomaly, verdict, deadline_ns, .. } = &self.active[index];
            let (verdict, deadline_ns) = (*verdict, *deadline_ns);
            let (id, was) = (anomaly.id.clone(), (anomaly.state, anomaly.points.len(), anomaly.achieved));
            match anomaly.state {
                State::Undoing => {
                    let reason = anomaly.reason.clone();
                    self.finish(index, verdict, reason, now);
                }
                _ if switched_off => {
                    self.finish(index, State::Stopped, Some("the kill switch is there".to_owned()), now);
                }
                State::Scheduled => self.begin_if_due(index, now),
                _ => {
                    let early = self.look(index);
                    let over = now.boot_ns.saturating_add(EARLY_NS) >= deadline_ns;
                    match early {
                        Some(why) if !over => self.finish(index, State::Failed, Some(why), now),
                        _ if now.boot_ns >= deadline_ns => self.finish(index, State::Ended, None, now),
                        _ => {}
                    }
                }
            }
            let still = self.active.get(index).map(|active| &active.anomaly).filter(|still| still.id == id);
            changed |= still.is_none_or(|it| (it.state, it.points.len(), it.achieved) != was);
        }
        if changed {
            self.publish();
        }
    }

    fn begin_if_due(&mut self, index: usize, now: Now) {
        let Active { anomaly, fault, next_ns, .. } = &self.active[index];
        if now.boot_ns < *next_ns {
            return;
        }
        match self.plan(fault, &anomaly.id, now) {
            // What fails then is finished, and told of.
            Ok(plan) => _ = self.begin(index, &plan, now),
            Err(error) => self.finish(index, State::Failed, Some(error.to_string()), now),
        }
    }

    /// Takes in what the workers report; set when one has ended.
    fn look(&mut self, index: usize) -> Option<String> {
        let Active { anomaly, achieved, .. } = &mut self.active[index];
        let (mut reports, mut ended) = (Vec::new(), None);
        for step in 0..anomaly.steps.len() {
            let seen = self.executor.look(Key { id: &anomaly.id, step });
            ended = ended.or(seen.ended);
            reports.extend(seen.report);
        }
        achieved.take(&reports, anomaly);
        ended
    }

    /// Undoes every step in reverse; the anomaly is over if that succeeds, or waits for its next run.
    fn finish(&mut self, index: usize, verdict: State, reason: Option<String>, now: Now) {
        self.look(index);
        let active = &mut self.active[index];
        active.verdict = verdict;
        let anomaly = &mut active.anomaly;
        anomaly.reason = reason;
        let begun = anomaly.state != State::Scheduled;
        let mut failure = None;
        for step in (0..anomaly.steps.len()).rev() {
            if !anomaly.steps[step].done || anomaly.steps[step].undone {
                continue;
            }
            match self.executor.undo(Key { id: &anomaly.id, step }) {
                Ok(()) => anomaly.steps[step].undone = true,
                Err(error) => failure = Some(error),
            }
        }
        if begun && failure.is_none() {
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
        let Anomaly { id, kind, amount, achieved, unit, reason, .. } = &*anomaly;
        let (kind, unit) = (kind.name(), unit.name());
        let (state, reason) = (verdict.name(), reason.as_deref().unwrap_or("its time is over"));
        tracing::warn!(id, kind, state, amount, achieved, unit, reason, "anomaly undone");
        self.world.metrics.over(anomaly.kind, verdict);
        let (.., runs) = active.fault.schedule();
        let again = verdict == State::Ended && anomaly.runs < runs;
        self.tell(&self.active[index].anomaly, now);
        if again {
            self.active[index].anomaly.state = State::Scheduled;
            return;
        }
        self.past.push_back(self.active.remove(index).anomaly);
        if self.past.len() > MAX_PAST {
            self.past.pop_front();
        }
    }

    /// A beginning or an end. Who does not take them in time misses them, and that is counted.
    fn tell(&self, anomaly: &Anomaly, now: Now) {
        let event = AnomalyEvent {
            at_ns: now.wall_ns,
            id: anomaly.id.clone(),
            kind: anomaly.kind.name(),
            target: anomaly.target.to_string(),
            state: anomaly.state.name(),
            unit: anomaly.unit.name(),
            amount: anomaly.amount,
            achieved: anomaly.achieved,
            reason: anomaly.reason.clone(),
        };
        if self.world.events.try_send(event).is_err() {
            self.world.metrics.events_dropped.inc();
        }
    }

    /// Something is or will be on the node.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// Newest first.
    fn publish(&self) {
        self.world.metrics.active.set(i64::try_from(self.active.len()).unwrap_or(i64::MAX));
        let all = self.active.iter().rev().map(|active| &active.anomaly).chain(self.past.iter().rev());
        self.out.send_replace(Arc::new(all.cloned().collect()));
    }
}

fn asked_for(fault: &Fault, plan: &Plan, now: Now) -> Anomaly {
    let asked = fault.asked();
    Anomaly {
        id: uuid::Uuid::new_v4().simple().to_string(),
        kind: asked.strength.kind(),
        target: asked.target.clone(),
        strength: Some(asked.strength.clone()),
        duration_s: asked.duration_s,
        ramp_s: asked.ramp_s,
        schedule: asked.schedule,
        state: State::Planned,
        reason: None,
        asked_at_ns: now.wall_ns,
        started_at_ns: None,
        ended_at_ns: None,
        runs: 0,
        unit: plan.unit,
        amount: plan.amount,
        achieved: None,
        points: Vec::new(),
        details: BTreeMap::new(),
        steps: plan.steps.iter().map(Step::record).collect(),
    }
}

fn begin_of(anomaly: &Anomaly, boot_id: &str, plan: &Plan, now: Now) -> Begin {
    // Guardians of the same changes have them twice.
    let changes = plan.steps.iter().map(Step::changes).find(|changes| !changes.is_empty());
    Begin {
        id: anomaly.id.clone(),
        boot_id: boot_id.to_owned(),
        at_ns: now.wall_ns,
        kind: anomaly.kind.name().to_owned(),
        target: anomaly.target.to_string(),
        unit: anomaly.unit.name().to_owned(),
        amount: anomaly.amount,
        duration_s: anomaly.duration_s,
        ramp_s: anomaly.ramp_s,
        changes: changes.unwrap_or_default().to_vec(),
    }
}

/// What is left to tell of an anomaly of an earlier life.
fn aborted(begin: Begin, now: Now) -> Anomaly {
    Anomaly {
        kind: Kind::named(&begin.kind).unwrap_or(Kind::Cpu),
        target: Target::of_words(&begin.target).unwrap_or(Target::Node),
        strength: None,
        duration_s: begin.duration_s,
        ramp_s: begin.ramp_s,
        schedule: None,
        state: State::Aborted,
        reason: Some("the node ended while it ran; nothing of it is left".to_owned()),
        asked_at_ns: begin.at_ns,
        started_at_ns: Some(begin.at_ns),
        ended_at_ns: Some(now.wall_ns),
        runs: 1,
        unit: Unit::named(&begin.unit).unwrap_or(Unit::PercentOfCore),
        amount: begin.amount,
        achieved: None,
        points: Vec::new(),
        details: BTreeMap::new(),
        steps: Vec::new(),
        id: begin.id,
    }
}

#[cfg(test)]
mod tests;
