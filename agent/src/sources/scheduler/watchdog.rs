//! How near the kernel's watchdog is to ejecting the scheduler, and a warning before it does.
//!
//! ```text
//! collect() ── target ──► thread: walk ─► judge ── found, warnings ──► collect()
//! ```
//!
//! Twice per timeout the kernel looks at every task on a `runnable_list`; one that has waited since `scx.runnable_at` for
//! longer than the timeout costs the scheduler its place. Our program walks over the same tasks and reads the same
//! times, so its figure is the kernel's, to the tick.
//!
//! A scheduler that hangs runs nobody, this process included: the walk has a thread of its own, in the real-time class
//! where that is permitted, and shares nothing with others that has a lock, since whoever held it would not run. What is
//! left is the allocator's, which is one for all threads ([`crate::kernel::heap`]): a look needs a few small pieces, which a
//! thread takes from its own cache nearly always. And the log's, after a warning is on its way.
//!
//! Invariants: without an enabled scheduler there is no walk, without sched_ext no program; at most one warning per
//! timeout.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::judge::Judge;
use self::probe::Probe;
use crate::domain::watchdog::{Margin, StallWarning};
use crate::kernel::policy;
use crate::kernel::retry::{Retry, SAID};

mod judge;
mod probe;

/// Warnings that wait for the next collection: at one per timeout, which no scheduler sets below some hundred
/// milliseconds, more than a collection's interval can hold.
const MAX_WARNINGS: usize = 64;
/// Shortest time between two walks: below it they would be the load themselves.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
/// Walks per timeout at least, whatever the configuration says: the warning must come before the ejection.
const WALKS_PER_TIMEOUT: u64 = 10;
/// Above all, a pause is so many times as long as the walk before it: the thread goes before all ordinary tasks, and takes
/// a twentieth of a CPU at most.
const PAUSE_PER_WALK: u32 = 20;

/// The watchdog margin's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Measure at all.
    pub enabled: bool,
    /// Time between two walks over all threads, ms; at least 50, and at most a tenth of the scheduler's timeout.
    pub interval_ms: u64,
    /// Warn when a task has waited for so many hundredths of the timeout. The kernel's watchdog is a task itself: it looks
    /// twice per timeout, and when it does not come to look within one, that is an ejection too. So a scheduler that runs
    /// nobody may be ejected after half of the timeout; a third, found a tenth late, is still before that, and no
    /// scheduler that works lets a task wait for seconds.
    pub warn_percent: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, interval_ms: 1_000, warn_percent: 33 }
    }
}

/// The scheduler that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Tells one life from the next, whatever they are called.
    pub(super) life: u64,
    pub(super) ops: String,
    pub(super) enable_seq: u64,
    /// Its timeout, or why it is not known.
    pub(super) timeout_ns: Result<u64, String>,
}

/// What the last walk found.
#[derive(Clone, Debug, Default)]
struct Found {
    life: u64,
    margin: Margin,
    /// Why a warning may come late.
    late: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    target: ArcSwapOption<Target>,
    found: ArcSwap<Found>,
    stop: AtomicBool,
}

/// The thread, from outside. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    warnings: Receiver<StallWarning>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the thread, which sleeps until there is a target. `sys` is the host's /sys, `wall` the wall time.
    pub(super) fn start(config: Config, sys: &Path, wall: fn() -> i64) -> Self {
        let (out, warnings) = sync_channel(MAX_WARNINGS);
        let shared = Arc::<Shared>::default();
        let keeper = Keeper { config, sys: sys.to_owned(), wall, shared: Arc::clone(&shared), out };
        let thread = thread::Builder::new().name("stall-watch".to_owned());
        // Without a thread there is no margin, which `margin` says.
        Self { shared, warnings, thread: thread.spawn(move || keeper.run()).ok() }
    }

    /// Watches this scheduler from now on, or none.
    pub(super) fn watch(&self, target: Option<Target>) {
        if self.shared.target.load().as_deref() == target.as_ref() {
            return;
        }
        self.shared.target.store(target.map(Arc::new));
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// The margin of the life that is watched, and why a warning may come late.
    pub(super) fn margin(&self) -> Option<(Margin, Option<String>)> {
        let target = self.shared.target.load_full()?;
        let absent = |why: &str| Margin { absent: Some(why.to_owned()), ..Margin::default() };
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Some((absent("its thread has ended"), None));
        }
        let found = self.shared.found.load_full();
        if found.life != target.life {
            return Some((absent(NOT_YET), None));
        }
        Some((found.margin.clone(), found.late.clone()))
    }

    /// Warnings since the last call.
    pub(super) fn warnings(&self) -> impl Iterator<Item = StallWarning> + '_ {
        self.warnings.try_iter()
    }
}

/// What is said between a scheduler's start and the first walk.
pub(super) const NOT_YET: &str = "not looked at yet";

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends within a walk, or has ended with a panic that the hook has told.
            let _ended = thread.join();
        }
    }
}

/// The thread, from inside.
struct Keeper {
    config: Config,
    sys: PathBuf,
    wall: fn() -> i64,
    shared: Arc<Shared>,
    out: SyncSender<StallWarning>,
}

/// The program, and whether the thread that runs it goes before others.
struct Running {
    probe: Probe,
    late: Option<String>,
    /// How long the last walk took.
    took: Duration,
}

impl Keeper {
    fn run(self) {
        // Beforehand, since the first moments under a scheduler are not the time to read the kernel's types.
        let may_be_needed = self.sys.join("kernel/sched_ext/state").exists();
        let mut running: Option<Result<Running, String>> = may_be_needed.then(|| self.begin());
        let mut retry = Retry::default();
        let mut judge = Judge::default();
        let mut longest_of_epoch_ns = 0;
        let mut life = None;
        while !self.shared.stop.load(Ordering::Acquire) {
            let Some(target) = self.shared.target.load_full() else {
                thread::park();
                continue;
            };
            if life.replace(target.life) != Some(target.life) {
                (judge, longest_of_epoch_ns) = (Judge::default(), 0);
            }
            match running.get_or_insert_with(|| self.begin()) {
                Err(why) => {
                    let margin = Margin {
                        timeout_ns: target.timeout_ns.clone().ok(),
                        absent: Some(format!("{why} ({SAID})")),
                        ..Margin::default()
                    };
                    self.shared.found.store(Arc::new(Found { life: target.life, margin, late: None }));
                    if retry.is_due() {
                        retry.refused();
                    }
                    thread::park_timeout(retry.due().saturating_duration_since(Instant::now()));
                    if retry.is_due() {
                        running = None;
                    }
                }
                Ok(running) => {
                    self.look(running, &target, &mut judge, &mut longest_of_epoch_ns);
                    thread::park_timeout(self.interval(&target).max(running.took * PAUSE_PER_WALK));
                }
            }
        }
    }

    fn begin(&self) -> Result<Running, String> {
        let probe = Probe::load(&self.sys).map_err(|error| error.said()).inspect_err(|why| {
            tracing::info!(why, "no watchdog margin");
        })?;
        let late = policy::go_first().err().map(|error| {
            format!(
                "a scheduler that hangs stops the watch on it too, and warnings come late: give it CAP_SYS_NICE \
                 ({error})"
            )
        });
        Ok(Running { probe, late, took: Duration::ZERO })
    }

    fn look(&self, running: &mut Running, target: &Target, judge: &mut Judge, longest_of_epoch_ns: &mut u64) {
        let mut margin = Margin {
            timeout_ns: target.timeout_ns.clone().ok(),
            absent: target.timeout_ns.clone().err(),
            ..Margin::default()
        };
        let mut warning = None;
        let started = Instant::now();
        let look = running.probe.look();
        running.took = started.elapsed();
        match look {
            Err(error) => margin.absent = Some(error.to_string()),
            Ok(look) => {
                let wait_ns = look.longest.as_ref().map_or(0, |wait| wait.wait_ns);
                *longest_of_epoch_ns = wait_ns.max(*longest_of_epoch_ns);
                margin.longest_of_epoch_ns = Some(*longest_of_epoch_ns);
                margin.longest = look.longest;
                margin.waiting = Some(look.waiting);
                let warn_at_ns = margin.timeout_ns.map(|ns| ns / 100 * u64::from(self.config.warn_percent));
                if let (Some(timeout_ns), Some(warn_at_ns), Some(longest)) =
                    (margin.timeout_ns, warn_at_ns, &margin.longest)
                    && judge.warns(wait_ns, warn_at_ns, timeout_ns, look.now_ns)
                {
                    warning = Some(StallWarning {
                        at_ns: (self.wall)(),
                        ops: target.ops.clone(),
                        enable_seq: target.enable_seq,
                        longest: longest.clone(),
                        waiting: look.waiting,
                        timeout_ns,
                    });
                }
            }
        }
        self.shared.found.store(Arc::new(Found { life: target.life, margin, late: running.late.clone() }));
        if let Some(warning) = warning {
            let longest = warning.longest.clone();
            let (ops, timeout_ms) = (warning.ops.clone(), warning.timeout_ns / 1_000_000);
            // Full only if nobody collects any more.
            let _nobody_there = self.out.try_send(warning);
            // Last, since the log has a lock, and whoever holds it may be waiting too.
            tracing::warn!(
                ops,
                tid = longest.tid,
                comm = longest.comm,
                wait_ms = longest.wait_ns / 1_000_000,
                timeout_ms,
                "a task waits: the kernel is about to eject the scheduler"
            );
        }
    }

    fn interval(&self, target: &Target) -> Duration {
        let wanted = Duration::from_millis(self.config.interval_ms);
        let part =
            target.timeout_ns.as_ref().map_or(wanted, |ns| Duration::from_nanos(ns / WALKS_PER_TIMEOUT));
        wanted.min(part).max(SHORTEST_INTERVAL)
    }
}

#[cfg(test)]
pub(super) mod tests;
