//! Our own loads: for schedulers, and for nodes without a database. They report as sysbench does.
//!
//! Each thread does one event after the other, at its share of the rate if one was asked for. Nothing is left behind: the
//! processes of a fork storm end by themselves at once, and there is never more than one for each thread.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::super::report;
use crate::domain::workload::{Builtin, Figures};

mod latencies;

use latencies::Latencies;

/// Of a burst: longer than a scheduler's slice of a few milliseconds would be a batch.
const BURST_NS: u64 = 5_000_000;
/// Bursts of one thread a second that was asked for no rate.
const BURSTS_PER_S: u32 = 100;
/// Iterations of a piece of batch work, and between two looks at the clock in a burst.
const PIECE: u32 = 500_000;
const LOOK: u32 = 2_000;
/// Processes a second of a storm that was asked for without a rate, and at most: each is a program that is loaded.
const STORM_RATE: u32 = 200;
const MAX_STORM_RATE: u32 = 2_000;
/// As sysbench's default.
const PERCENTILE: u32 = 95;

/// What a generator is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// A [`Builtin`]'s name.
    pub kind: String,
    /// Threads, or pairs of them.
    pub threads: u32,
    /// Events a second, all threads together.
    pub rate: Option<u32>,
    /// When it ends.
    pub duration_s: u32,
}

/// Runs until its time is over.
///
/// # Errors
/// A kind that there is not, a thread or a pipe that could not be made.
pub fn run(order: &Order, guarded: bool) -> Result<(), String> {
    let kind = Builtin::named(&order.kind).ok_or_else(|| format!("no generator {:?}", order.kind))?;
    let rate = match kind {
        Builtin::ForkStorm => Some(order.rate.unwrap_or(STORM_RATE).min(MAX_STORM_RATE)),
        // At rest for as long as it computes.
        Builtin::CpuBurst => order.rate.or(Some(order.threads * BURSTS_PER_S)),
        _ => order.rate,
    };
    let latencies = Arc::new(Latencies::default());
    for _ in 0..order.threads {
        let pace = Pace::new(rate, order.threads);
        let mut event = event_of(kind)?;
        let latencies = Arc::clone(&latencies);
        spawn(move || turn(pace, &mut event, &latencies))?;
    }
    // A node that hangs reads no reports; that must not hold up the end.
    fcntl_setfl(std::io::stdout(), OFlags::NONBLOCK).map_err(|e| format!("report pipe: {e}"))?;
    let started_ns = now_ns();
    for at_s in 1..=order.duration_s {
        sleep_until(started_ns + u64::from(at_s) * 1_000_000_000);
        let (events, latency_ms) = latencies.take(PERCENTILE);
        let figures = Figures {
            at_s,
            threads: order.threads,
            events_per_s: f64::from(events),
            percentile: PERCENTILE,
            latency_ms,
            queries: None,
        };
        if !say(&report::print(&figures)) && guarded {
            break;
        }
    }
    // Its threads end with the process.
    Ok(())
}

type Event = Box<dyn FnMut() -> Result<(), String> + Send>;

fn event_of(kind: Builtin) -> Result<Event, String> {
    Ok(match kind {
        Builtin::PingPong => ping_pong()?,
        Builtin::ForkStorm => Box::new(child),
        Builtin::CpuBurst => Box::new(|| {
            burst();
            Ok(())
        }),
        Builtin::Batch => Box::new(|| {
            compute(PIECE);
            Ok(())
        }),
    })
}

/// Event after event; one that fails is said, and tried again at the next turn.
fn turn(mut pace: Pace, event: &mut Event, latencies: &Latencies) {
    loop {
        let begun_ns = pace.wait();
        match event() {
            Ok(()) => latencies.add(now_ns().saturating_sub(begun_ns)),
            Err(error) => {
                say(&format!("FATAL: {error}"));
                sleep_until(now_ns() + 1_000_000_000);
            }
        }
    }
}

/// A thread that answers every byte, and the event of sending one and waiting for its answer.
fn ping_pong() -> Result<Event, String> {
    let fail = |error: std::io::Error| format!("no pipe: {error}");
    let (mut ask_in, mut ask_out) = std::io::pipe().map_err(fail)?;
    let (mut answer_in, mut answer_out) = std::io::pipe().map_err(fail)?;
    spawn(move || while pass(&mut ask_in, &mut answer_out).is_ok() {})?;
    Ok(Box::new(move || {
        let mut byte = [0];
        let asked = ask_out.write_all(&byte).and_then(|()| answer_in.read_exact(&mut byte));
        asked.map_err(|error| format!("no answer: {error}"))
    }))
}

fn pass(from: &mut PipeReader, to: &mut PipeWriter) -> std::io::Result<()> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    to.write_all(&byte)
}

/// A process that ends at once.
#[expect(clippy::disallowed_methods, reason = "its load is processes that are started")]
fn child() -> Result<(), String> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(super::VERB).arg("--leaf").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command.status().map(|_| ()).map_err(|error| format!("no process: {error}"))
}

/// Computes for a burst of the thread's own time.
fn burst() {
    let until_ns = clock(ClockId::ThreadCPUTime) + BURST_NS;
    while clock(ClockId::ThreadCPUTime) < until_ns {
        compute(LOOK);
    }
}

fn compute(iterations: u32) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..iterations {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    std::hint::black_box(state);
}

/// When each event of one thread is due.
struct Pace {
    interval_ns: u64,
    due_ns: u64,
}

impl Pace {
    /// A thread's share of a rate; without one, event follows event.
    fn new(rate: Option<u32>, threads: u32) -> Self {
        let interval_ns = rate.map_or(0, |rate| 1_000_000_000 * u64::from(threads) / u64::from(rate.max(1)));
        Self { interval_ns, due_ns: now_ns() }
    }

    /// Waits for the next one; when it begins, ns. Events that could not be in time are not made up for.
    fn wait(&mut self) -> u64 {
        if self.interval_ns == 0 {
            return now_ns();
        }
        sleep_until(self.due_ns);
        let now_ns = now_ns();
        self.due_ns = (self.due_ns + self.interval_ns).max(now_ns);
        now_ns
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new().spawn(work).map(drop).map_err(|error| format!("no thread: {error}"))
}

#[expect(clippy::disallowed_methods, reason = "a process of its own, with threads and no runtime")]
fn sleep_until(at_ns: u64) {
    std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
}

/// Writes a line; false when nobody can ever read it. A full pipe is a report lost.
fn say(line: &str) -> bool {
    let mut out = std::io::stdout().lock();
    let said = writeln!(out, "{line}").and_then(|()| out.flush());
    said.map_or_else(|error| error.kind() != ErrorKind::BrokenPipe, |()| true)
}

fn now_ns() -> u64 {
    clock(ClockId::Monotonic)
}

fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}
