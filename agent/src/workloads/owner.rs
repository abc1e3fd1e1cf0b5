//! The one owner of every workload's process, from its start to its end.
//!
//! Invariants: a workload is over only when its process has been waited for; a stop is answered then and not before; one
//! that does not end when asked is killed; after a stop of the node nothing begins. Time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::process::{End, Ended, Launcher, Running};
use super::report::{self, Line};
use super::worker::Order;
use super::{Config, Error, Metrics, id};
use crate::domain::workload::{Asked, Kind, Phase, Progress, State, Totals, Workload};

/// Workloads that are over and still told of.
const MAX_PAST: usize = 32;
/// sysbench ends at once when asked; a process that does not within this is killed.
const PATIENCE_NS: u64 = 3_000_000_000;
/// A load ends by itself when its time is over; this much later it is asked to.
const LATE_NS: u64 = 5_000_000_000;
/// Reasons kept of one failure: threads that fail together say the same.
const MAX_REASONS: usize = 4;
/// Each table is created, filled and given an index.
const STEPS_PER_TABLE: u32 = 3;

/// The id of the making of tables.
pub(super) const PREPARE: &str = "prepare";

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Wall time, ns since the epoch.
    pub(super) wall_ns: i64,
    /// Monotonic, ns.
    pub(super) mono_ns: u64,
}

/// All that are told of, newest first.
pub(super) type List = Arc<Vec<Arc<Workload>>>;
/// Who waits for an end.
pub(super) type Waiting = oneshot::Sender<Arc<Workload>>;

/// See the module.
pub(super) struct Owner<L> {
    config: Config,
    launcher: L,
    metrics: Metrics,
    active: Vec<Active>,
    past: VecDeque<Arc<Workload>>,
    stopping: bool,
    /// Preparations so far: what an earlier one still says is not about a later one.
    tickets: u64,
    out: watch::Sender<List>,
}

struct Active {
    workload: Arc<Workload>,
    /// Of a preparation.
    ticket: Option<u64>,
    /// None while the database is asked.
    process: Option<Box<dyn Running>>,
    deadline_ns: u64,
    /// When its patience is over, and what it will have become then.
    ending: Option<(u64, State, String)>,
    reasons: Vec<String>,
    waiting: Vec<Waiting>,
}

impl<L: Launcher> Owner<L> {
    pub(super) const fn new(config: Config, launcher: L, metrics: Metrics, out: watch::Sender<List>) -> Self {
        Self {
            config,
            launcher,
            metrics,
            active: Vec::new(),
            past: VecDeque::new(),
            stopping: false,
            tickets: 0,
            out,
        }
    }

    /// Starts a load by this order.
    pub(super) fn start(&mut self, asked: Asked, order: &Order, now: Now) -> Result<Arc<Workload>, Error> {
        self.may_begin(asked.threads)?;
        let told: Vec<_> = self.all().map(|workload| workload.id.clone()).collect();
        let id = id::fresh(asked.kind.name(), now.wall_ns, |id| told.iter().any(|known| known == id));
        let duration_s = asked.duration_s.unwrap_or(self.config.max_duration_s);
        let mut workload = new(id, asked, duration_s, Phase::Running, now);
        let process = self.launcher.launch(&workload.id, order).map_err(Error::Failed)?;
        workload.pid = Some(process.pid());
        let Workload { id, kind, threads, .. } = &workload;
        tracing::warn!(id, kind = kind.name(), threads, duration_s, "workload started");
        Ok(self.add(workload, Some(process), now))
    }

    /// Says that the database is being prepared; no process yet. The answer is the preparation's ticket.
    pub(super) fn prepare(&mut self, threads: u32, tables: u32, now: Now) -> Result<u64, Error> {
        if self.active.iter().any(|active| active.workload.id == PREPARE) {
            return Err(Error::Conflict(
                "the database is being prepared already (GET /api/v1/workloads/prepare shows how far)"
                    .to_owned(),
            ));
        }
        self.may_begin(threads)?;
        let asked = Asked { kind: Kind::Prepare, threads, duration_s: None, rate: None };
        let mut workload = new(PREPARE.to_owned(), asked, self.config.max_duration_s, Phase::CreatingDb, now);
        let of = tables.saturating_mul(STEPS_PER_TABLE);
        workload.progress = Some(Progress { begun: 0, of, step: String::new() });
        self.past.retain(|past| past.id != PREPARE);
        self.tickets += 1;
        self.add(workload, None, now);
        Ok(self.tickets)
    }

    /// The database is there: its tables are made by this order. Whoever waits hears of the end.
    pub(super) fn make_tables(&mut self, ticket: u64, order: &Order, waiting: Waiting) -> Result<(), Error> {
        let Some(index) = self.without_process(ticket) else {
            return Err(Error::Conflict("the preparation was stopped".to_owned()));
        };
        let active = &mut self.active[index];
        let process = self.launcher.launch(PREPARE, order).map_err(Error::Failed)?;
        let workload = Arc::make_mut(&mut active.workload);
        workload.pid = Some(process.pid());
        workload.phase = Phase::Preparing;
        active.process = Some(process);
        active.waiting.push(waiting);
        self.publish();
        Ok(())
    }

    /// The preparation is over without a process.
    pub(super) fn prepared(&mut self, ticket: u64, result: Result<String, String>, now: Now) {
        let Some(index) = self.without_process(ticket) else { return };
        let (state, reason) = match result {
            Ok(reason) => (State::Ended, reason),
            Err(reason) => (State::Failed, reason),
        };
        self.finish(index, state, Some(reason), now);
        self.publish();
    }

    fn without_process(&self, ticket: u64) -> Option<usize> {
        self.active.iter().position(|active| active.ticket == Some(ticket) && active.process.is_none())
    }

    fn may_begin(&self, threads: u32) -> Result<(), Error> {
        if self.stopping {
            return Err(Error::Unavailable("the node is stopping"));
        }
        let Config { max_concurrent, max_threads, .. } = self.config;
        if self.active.len() >= max_concurrent {
            return Err(Error::Conflict(format!(
                "{} workloads run already, the most here ([workloads] max_concurrent)",
                self.active.len()
            )));
        }
        let taken: u32 = self.active.iter().map(|active| active.workload.threads).sum();
        let left = max_threads.saturating_sub(taken);
        if threads > left {
            return Err(Error::Conflict(format!(
                "threads: {threads} is more than the {left} that are left ([workloads] max_threads)"
            )));
        }
        Ok(())
    }

    fn add(&mut self, workload: Workload, process: Option<Box<dyn Running>>, now: Now) -> Arc<Workload> {
        let deadline_ns = now.mono_ns + u64::from(workload.duration_s) * 1_000_000_000 + LATE_NS;
        let workload = Arc::new(workload);
        self.active.push(Active {
            workload: Arc::clone(&workload),
            ticket: (workload.id == PREPARE).then_some(self.tickets),
            process,
            deadline_ns,
            ending: None,
            reasons: Vec::new(),
            waiting: Vec::new(),
        });
        self.publish();
        workload
    }

    /// Stops one; whoever waits hears when it is over. One that is over stays as it is.
    pub(super) fn stop(&mut self, id: &str, waiting: Waiting, now: Now) -> Result<(), Error> {
        let Some(index) = self.active.iter().position(|active| active.workload.id == id) else {
            let past = self.past.iter().find(|past| past.id == id).cloned();
            // Who asked may have gone.
            let _gone = waiting.send(past.ok_or_else(|| Error::Unknown(id.to_owned()))?);
            return Ok(());
        };
        self.active[index].waiting.push(waiting);
        self.end(index, State::Stopped, "stopped by a request", now);
        self.publish();
        Ok(())
    }

    /// The node stops: nothing begins any more, everything is asked to end.
    pub(super) fn shut_down(&mut self, now: Now) {
        self.stopping = true;
        for index in (0..self.active.len()).rev() {
            self.end(index, State::Stopped, "the node stopped", now);
        }
        self.publish();
    }

    fn end(&mut self, index: usize, verdict: State, reason: &str, now: Now) {
        let active = &mut self.active[index];
        let Some(process) = &mut active.process else {
            self.finish(index, verdict, Some(reason.to_owned()), now);
            return;
        };
        if active.ending.is_none() {
            process.end(End::Ask);
            active.ending = Some((now.mono_ns + PATIENCE_NS, verdict, reason.to_owned()));
            Arc::make_mut(&mut active.workload).state = State::Stopping;
        }
    }

    /// Takes in what the processes say, ends what is late.
    pub(super) fn tick(&mut self, now: Now) {
        let mut news = false;
        for index in (0..self.active.len()).rev() {
            news |= self.look(index, now);
        }
        if news {
            self.publish();
        }
    }

    fn look(&mut self, index: usize, now: Now) -> bool {
        let active = &mut self.active[index];
        let Some(look) = active.process.as_mut().map(|process| process.look()) else { return false };
        let news = !look.lines.is_empty();
        for line in look.lines {
            active.hear(&line, &self.metrics);
        }
        if let Some(ended) = look.ended {
            let (verdict, reason) = active.verdict(ended);
            self.finish(index, verdict, reason, now);
            return true;
        }
        match &mut active.ending {
            Some((kill_at_ns, ..)) if now.mono_ns >= *kill_at_ns => {
                *kill_at_ns = now.mono_ns + PATIENCE_NS;
                if let Some(process) = &mut active.process {
                    process.end(End::Kill);
                }
            }
            None if now.mono_ns >= active.deadline_ns => {
                self.end(index, State::Ended, "its time is over", now);
                return true;
            }
            _ => {}
        }
        news
    }

    fn finish(&mut self, index: usize, state: State, reason: Option<String>, now: Now) {
        let Active { mut workload, waiting, .. } = self.active.remove(index);
        let over = Arc::make_mut(&mut workload);
        (over.state, over.phase, over.pid) = (state, Phase::Stopped, None);
        (over.reason, over.ended_at_ns) = (reason, Some(now.wall_ns));
        let Workload { id, kind, reason, totals, .. } = &*over;
        let events = totals.events.round();
        tracing::warn!(id, kind = kind.name(), state = state.name(), events, reason, "workload over");
        self.metrics.over(over, state);
        for one in waiting {
            // Who asked may have gone.
            let _gone = one.send(Arc::clone(&workload));
        }
        self.past.push_front(workload);
        self.past.truncate(MAX_PAST);
    }

    /// A process may be there.
    pub(super) fn is_active(&self) -> bool {
        !self.active.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.active.iter().rev().map(|active| &active.workload).chain(&self.past)
    }

    fn publish(&self) {
        self.metrics.active.set(i64::try_from(self.active.len()).unwrap_or(i64::MAX));
        self.out.send_replace(Arc::new(self.all().cloned().collect()));
    }
}

impl Active {
    fn hear(&mut self, line: &str, metrics: &Metrics) {
        match report::parse(line) {
            Line::Report(figures) => {
                let workload = Arc::make_mut(&mut self.workload);
                if let Some(interval_s) = workload.push(figures) {
                    metrics.report(workload, &figures, interval_s);
                }
            }
            Line::Step(step) => {
                if let Some(progress) = &mut Arc::make_mut(&mut self.workload).progress {
                    progress.begun = (progress.begun + 1).min(progress.of);
                    progress.step = step;
                }
            }
            Line::Fatal(why) if self.reasons.len() < MAX_REASONS && !self.reasons.contains(&why) => {
                self.reasons.push(why);
            }
            Line::Fatal(_) | Line::Other => {}
        }
    }

    /// A process that said why it cannot go on has failed, also where it ends with 0, as sysbench's `prepare` does.
    fn verdict(&mut self, ended: Ended) -> (State, Option<String>) {
        if let Some((_, verdict, reason)) = self.ending.take() {
            return (verdict, Some(reason));
        }
        let reasons = self.reasons.join("; ");
        match ended {
            Ended::Well if reasons.is_empty() => (State::Ended, None),
            Ended::Badly(how) if reasons.is_empty() => (State::Failed, Some(how)),
            _ => (State::Failed, Some(reasons)),
        }
    }
}

fn new(id: String, asked: Asked, duration_s: u32, phase: Phase, now: Now) -> Workload {
    Workload {
        id,
        kind: asked.kind,
        threads: asked.threads,
        duration_s,
        rate: asked.rate,
        state: State::Running,
        phase,
        progress: None,
        reason: None,
        pid: None,
        started_at_ns: now.wall_ns,
        ended_at_ns: None,
        latest: None,
        series: Vec::new(),
        totals: Totals::default(),
    }
}

#[cfg(test)]
mod tests;
