//! The scheduler source: the state, variables, events and end of whatever sched_ext scheduler runs, read from
//! outside and without its help.
//!
//! ```text
//! sysfs ──► epoch ──► opened: struct_ops ──► image ──► sampler ──► SchedulerReading
//!  │          │                (find maps)   (btf, layout)            ▲ record, watchdog
//!  │          └────► postmortem ──► SchedulerExit
//!  └► news (counters, numbers) ──► CounterChange, SchedulerExit of lives that nobody saw
//! ```
//!
//! Invariants:
//! - nothing is written to the scheduler or its maps: what is kept open can only read;
//! - a value is never guessed: what is not read is absent, with the reason;
//! - every life that was seen ends in exactly one [`SchedulerExit`], with or without its record;
//! - the maps of an ended life are closed as soon as its exit is said.

mod bpf;
mod counters;
mod ctype;
mod epoch;
mod exit_record;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
mod health;
pub mod image;
mod kernel;
pub mod layout;
pub mod maps;
mod news;
mod numbers;
mod opened;
mod postmortem;
mod record;
pub mod sampler;
mod struct_ops;
mod sysfs;
mod task;
mod user;
pub mod watchdog;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use self::epoch::{Change, Epochs, Life};
use self::health::Health;
pub use self::kernel::KernelReader;
use self::maps::MapReader;
use self::news::News;
use self::opened::{Maps, Opener};
use self::postmortem::Ended;
use self::sysfs::Facts;
pub use self::task::run;
use self::watchdog::{Target, Watchdog};
use crate::domain::bss::BssRecord;
use crate::domain::event::{CounterChange, SchedulerEvent};
use crate::domain::exit::SchedulerExit;
use crate::domain::scheduler::{SchedulerReading, State};
use crate::domain::source::SourceHealth;
use crate::domain::watchdog::{Margin, StallWarning};
use crate::host::HostRoots;

/// Most ended lives whose record is awaited: more than one at a time takes a scheduler that restarts in a loop.
const MAX_ENDED: usize = 16;
/// Longest wait between two tries to open a scheduler's maps, in collections: a walk over all maps is dear.
const MAX_WAIT: u32 = 32;

/// The source's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often a section above 64 KiB that must be copied is read, ms. lavd's takes some 50 us to copy.
    pub large_section_interval_ms: u64,
    /// In how many collections after a scheduler's end its exit record is looked for. The record is written
    /// within milliseconds of the end; five collections forgive a busy machine.
    pub exit_record_looks: u32,
    /// Shortest time between two events of one kernel counter, ms; further moves are summed. The newest kernel has 21
    /// counters: two events a second at most.
    pub event_interval_ms: u64,
    /// The watchdog margin.
    pub watchdog: watchdog::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            large_section_interval_ms: 10_000,
            exit_record_looks: 5,
            event_interval_ms: 10_000,
            watchdog: watchdog::Config::default(),
        }
    }
}

/// What one collection yields.
#[derive(Clone, Debug, Default)]
pub struct Collection {
    /// The scheduler now.
    pub reading: SchedulerReading,
    /// Warnings of the kernel's watchdog since the last one.
    pub warnings: Vec<StallWarning>,
    /// What the kernel counted and is to be told.
    pub changes: Vec<CounterChange>,
    /// Schedulers whose end became clear in this collection, oldest first.
    pub exits: Vec<SchedulerExit>,
}

/// Reads one host's scheduler, collection after collection.
pub struct SchedulerSource {
    roots: HostRoots,
    config: Config,
    opener: Opener,
    epochs: Epochs,
    news: News,
    /// The watch on the kernel's watchdog, or why there is none.
    watchdog: Result<Watchdog, &'static str>,
    stall_warnings: u64,
    maps: Maps,
    ended: VecDeque<Ended>,
    last_exit: Option<SchedulerExit>,
    health: Health,
}

impl Collection {
    /// What is to be told of it, in the order in which it happened.
    pub fn into_events(self) -> (SchedulerReading, impl Iterator<Item = SchedulerEvent>) {
        let warned = self.warnings.into_iter().map(SchedulerEvent::Warned);
        let counted = self.changes.into_iter().map(SchedulerEvent::Counted);
        let ended = self.exits.into_iter().map(SchedulerEvent::Ended);
        (self.reading, warned.chain(counted).chain(ended))
    }
}

impl SchedulerSource {
    /// A source over the host's sysfs and procfs and the kernel's maps.
    pub fn new(roots: &HostRoots, config: Config, reader: Box<dyn MapReader + Send>) -> Self {
        Self {
            roots: roots.clone(),
            news: News::new(config.event_interval_ms),
            watchdog: Err("not watched"),
            opener: Opener::new(reader, config.large_section_interval_ms),
            config,
            epochs: Epochs::default(),
            stall_warnings: 0,
            maps: Maps::NOT_TRIED,
            ended: VecDeque::new(),
            last_exit: None,
            health: Health::default(),
        }
    }

    /// The same, with a thread that watches how near the kernel's watchdog is; `wall` is the wall time.
    #[must_use]
    pub fn watching(mut self, wall: fn() -> i64) -> Self {
        let settings = self.config.watchdog;
        let start = || Watchdog::start(settings, &self.roots.sys, wall);
        self.watchdog =
            if settings.enabled { Ok(start()) } else { Err("switched off: scheduler.watchdog.enabled") };
        self
    }

    /// Reads once. Blocks for some 100 us; a scheduler's first collection for some 10 ms.
    ///
    /// `at_ns` is wall time, `mono_ns` monotonic time.
    pub fn collect(&mut self, at_ns: i64, mono_ns: u64) -> Collection {
        let started = self.health.start();
        let facts = match sysfs::read(&self.roots.sys) {
            Ok(facts) => facts,
            Err(error) => {
                self.health.unreadable(started, &error);
                let state = State::Other("unreadable".to_owned());
                let bss_absent = record::absent(&BssRecord::default(), &error.to_string());
                let last_exit = self.last_exit.clone();
                let exits = self.look_at_ended();
                let reading = SchedulerReading {
                    at_ns,
                    mono_ns,
                    state,
                    bss_absent,
                    last_exit,
                    stall_warnings: self.stall_warnings,
                    ..Default::default()
                };
                return Collection { reading, exits, ..Collection::default() };
            }
        };
        self.follow(&facts, at_ns);
        let mut exits = self.look_at_ended();
        let unseen = self.news.look(&facts, self.epochs.life(), at_ns);
        exits.extend(unseen);
        self.remember_last(&exits);
        let warnings = self.warnings();
        let mut reading = SchedulerReading {
            at_ns,
            mono_ns,
            state: facts.state,
            switch_all: facts.switch_all,
            nr_rejected: facts.nr_rejected,
            enable_seq: facts.enable_seq,
            hotplug_seq: facts.hotplug_seq,
            ops: facts.ops,
            events: facts.events,
            last_exit: self.last_exit.clone(),
            ..Default::default()
        };
        let trouble = self.sample(&mut reading);
        let lacks = self.watch(&mut reading, trouble.is_some());
        self.health.done(started, at_ns, &reading.state, trouble, lacks);
        Collection { reading, warnings, changes: self.news.take_changes(), exits }
    }

    fn warnings(&mut self) -> Vec<StallWarning> {
        let warnings: Vec<_> =
            self.watchdog.as_ref().map_or_else(|_| Vec::new(), |it| it.warnings().collect());
        self.stall_warnings += warnings.len() as u64;
        warnings
    }

    /// Tells the watchdog whom to watch, and fills what it found into `reading`; returns what is missing.
    fn watch(&self, reading: &mut SchedulerReading, troubled: bool) -> Vec<String> {
        reading.stall_warnings = self.stall_warnings;
        let running = self.epochs.life().filter(|_| reading.state == State::Enabled);
        let watchdog = match &self.watchdog {
            Ok(watchdog) => watchdog,
            Err(why) => {
                let absent = || Margin { absent: Some((*why).to_owned()), ..Margin::default() };
                reading.margin = running.map(|_| absent());
                return Vec::new();
            }
        };
        watchdog.watch(running.map(|life| Target {
            life: self.news.life(),
            ops: life.ops.clone(),
            enable_seq: life.enable_seq,
            timeout_ns: self.maps.timeout_ns(),
        }));
        let Some((margin, late)) = watchdog.margin() else { return Vec::new() };
        let absent = margin.absent.as_deref().filter(|why| *why != watchdog::NOT_YET && !troubled);
        let absent = absent.map(|why| format!("no watchdog margin: {why}"));
        reading.margin = Some(margin);
        absent.into_iter().chain(late).collect()
    }

    /// How well the source works, as of the last collection.
    pub fn health(&self) -> SourceHealth {
        self.health.report()
    }

    /// What would be said later, said as it is at a wall time: for the end of the process.
    pub fn last_words(&mut self, at_ns: i64) -> Vec<SchedulerEvent> {
        let changes =
            self.news.last_changes(self.epochs.life(), at_ns).into_iter().map(SchedulerEvent::Counted);
        let exits = self.ended.drain(..).map(|mut ended| SchedulerEvent::Ended(ended.give_up()));
        changes.chain(exits).collect()
    }

    /// Keeps `epochs` and `maps` true to what sysfs shows.
    fn follow(&mut self, facts: &Facts, at_ns: i64) {
        match self.epochs.observe(facts) {
            Change::Same => {}
            Change::Began => self.maps = Maps::NOT_TRIED,
            Change::Ended(life) | Change::Replaced(life) => self.bury(life, at_ns),
            Change::Doubtful if self.still_the_same() => self.epochs.adopt(facts),
            Change::Doubtful => {
                if let Some(life) = self.epochs.replace(facts) {
                    self.bury(life, at_ns);
                }
            }
        }
        let Some(life) = self.epochs.life() else { return };
        let ops = life.ops.clone();
        let next_wait = match &mut self.maps {
            Maps::Open(_) => return,
            Maps::Closed { wait, .. } if *wait > 0 => {
                *wait -= 1;
                return;
            }
            Maps::Closed { next_wait, .. } => *next_wait,
        };
        self.maps = match self.opener.open(&ops) {
            Ok(opened) => Maps::Open(Box::new(opened)),
            Err(error) => {
                tracing::debug!(ops, error = %error, "scheduler's maps not opened");
                let why = health::with_source(&error);
                Maps::Closed { why, wait: next_wait, next_wait: (next_wait * 2).min(MAX_WAIT) }
            }
        };
    }

    /// Whether the struct_ops map is the one that was opened; yes, if that cannot be told.
    fn still_the_same(&mut self) -> bool {
        let (Maps::Open(opened), Some(life)) = (&self.maps, self.epochs.life()) else { return true };
        let (id, ops) = (opened.image.struct_ops_map_id, life.ops.clone());
        self.opener.find(&ops).map_or(true, |found| found.info.id == id)
    }

    fn bury(&mut self, life: Life, at_ns: i64) {
        let life = self.news.ended(life, at_ns);
        let image = match std::mem::replace(&mut self.maps, Maps::NOT_TRIED) {
            Maps::Open(opened) => Ok(opened.image),
            Maps::Closed { why, .. } if why.is_empty() => Err("its maps were never opened".to_owned()),
            Maps::Closed { why, .. } => Err(why),
        };
        self.ended.push_back(Ended::new(life, image, self.config.exit_record_looks.max(1), at_ns));
    }

    fn look_at_ended(&mut self) -> Vec<SchedulerExit> {
        let mut exits = Vec::new();
        let surplus = self.ended.len().saturating_sub(MAX_ENDED);
        exits.extend(self.ended.drain(..surplus).map(|mut ended| ended.give_up()));
        self.ended.retain_mut(|ended| match ended.look() {
            Some(exit) => {
                exits.push(exit);
                false
            }
            None => true,
        });
        self.remember_last(&exits);
        exits
    }

    /// The life with the highest number, whichever's end became clear first.
    fn remember_last(&mut self, exits: &[SchedulerExit]) {
        for exit in exits {
            if self.last_exit.as_ref().is_none_or(|last| last.enable_seq <= exit.enable_seq) {
                self.last_exit = Some(exit.clone());
            }
        }
    }

    /// Fills what the maps say into `reading`; returns what is missing.
    fn sample(&mut self, reading: &mut SchedulerReading) -> Option<String> {
        let absent = match (&mut self.maps, self.epochs.life()) {
            (_, None) if reading.state == State::Unsupported => health::NO_SCHED_EXT,
            (_, None) => "no sched_ext scheduler is loaded",
            (Maps::Closed { why, .. }, Some(_)) => {
                reading.bss_absent = record::absent(&reading.bss, why);
                return Some(why.clone());
            }
            (Maps::Open(opened), Some(life)) => {
                let proc = &self.roots.proc;
                let trouble =
                    opened.sample(life, proc, reading).err().map(|error| health::with_source(&error));
                let why = trouble.clone().unwrap_or_else(|| {
                    let base = sysfs::ops_name(&life.ops).base;
                    format!("not in {base}'s .bss, .data or .rodata")
                });
                reading.bss_absent = record::absent(&reading.bss, &why);
                return trouble;
            }
        };
        reading.bss_absent = record::absent(&reading.bss, absent);
        None
    }
}

/// One reading, for a command that looks once: waits for the search for the user-space part's process.
pub fn snapshot(roots: &HostRoots, reader: Box<dyn MapReader + Send>, at_ns: i64) -> SchedulerReading {
    let mut source = SchedulerSource::new(roots, Config::default(), reader);
    let mut reading = source.collect(at_ns, 0).reading;
    if let (Maps::Open(opened), None) = (&mut source.maps, reading.user_pid) {
        reading.user_pid = opened.search.wait();
    }
    reading
}

#[cfg(test)]
mod tests;
