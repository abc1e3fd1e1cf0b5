//! A worker: this binary as a child of the node, one thread of exact CPU load inside the target's cgroups.
//!
//! It moves itself into the groups before it does anything else. It ends, whatever becomes of the node, at the first of:
//! the control pipe (standard input) closes or says anything; the node's spawning thread ends (the kernel kills it); its
//! own deadline on the clock that also runs while the machine sleeps; its report pipe breaks. It is the first that the
//! kernel kills when memory runs out.
//!
//! # Reports (standard output, one JSON object per line)
//! `{"joined":true}` once it is in the groups and before any load, `{"elapsed_ns":..,"used_ns":..}` every second and at
//! the end, `{"error":".."}` instead of either when it cannot.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

mod pace;

use pace::Pace;

/// Short enough that no scheduler's or quota's period hides the load, long enough to cost nothing by itself.
const PERIOD_NS: u64 = 50_000_000;
const REPORT_NS: u64 = 1_000_000_000;
/// Work between two looks at the clock: microseconds.
const BATCH: u32 = 2_000;

/// What a worker is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Share of one core.
    pub percent: f64,
    /// Time to full strength.
    pub ramp_ns: u64,
    /// When to end at the latest, ns since boot.
    pub deadline_ns: u64,
    /// Directories of the cgroups to join.
    pub groups: Vec<PathBuf>,
    /// Survive the node: only a debug build can be told so, to prove that the guards are what ends a worker.
    #[cfg(debug_assertions)]
    pub unguarded: bool,
}

impl Order {
    #[cfg(debug_assertions)]
    const fn guarded(&self) -> bool {
        !self.unguarded
    }

    #[cfg(not(debug_assertions))]
    #[expect(clippy::unused_self, reason = "a release build's always is")]
    const fn guarded(&self) -> bool {
        true
    }
}

/// A line of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// It is in the groups.
    Joined {
        /// Always true.
        joined: bool,
    },
    /// What it took so far.
    Took {
        /// Since it joined.
        elapsed_ns: u64,
        /// CPU time.
        used_ns: u64,
    },
    /// It cannot.
    Failed {
        /// Why.
        error: String,
    },
}

/// Runs a worker to its end; false when it could not begin.
pub fn run(order: &Order) -> bool {
    if let Err(error) = begin(order) {
        say(&Line::Failed { error });
        return false;
    }
    say(&Line::Joined { joined: true });
    work(order);
    true
}

fn begin(order: &Order) -> Result<(), String> {
    for group in &order.groups {
        let procs = group.join("cgroup.procs");
        // 0 is the writer itself.
        write(&procs, "0")?;
    }
    write(Path::new("/proc/self/oom_score_adj"), "1000")?;
    if order.guarded() {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| format!("parent's death signal: {e}"))?;
    }
    // A node that hangs reads no reports; that must not hold up the look at the deadline.
    fcntl_setfl(std::io::stdout(), OFlags::NONBLOCK).map_err(|e| format!("report pipe: {e}"))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn work(order: &Order) {
    let (started_ns, begun_ns) = (clock(ClockId::Boottime), clock(ClockId::ThreadCPUTime));
    let mut pace = Pace::new(order.percent, order.ramp_ns, PERIOD_NS);
    let mut reported_ns = 0;
    loop {
        let now_ns = clock(ClockId::Boottime);
        let used_ns = clock(ClockId::ThreadCPUTime).saturating_sub(begun_ns);
        let elapsed_ns = now_ns.saturating_sub(started_ns);
        let over = now_ns >= order.deadline_ns;
        if over || elapsed_ns >= reported_ns + REPORT_NS {
            reported_ns = elapsed_ns;
            if !say(&Line::Took { elapsed_ns, used_ns }) && order.guarded() {
                return;
            }
        }
        if over {
            return;
        }
        let until_ns = elapsed_ns + PERIOD_NS;
        let owed_ns = pace.owed_ns(elapsed_ns, until_ns, used_ns);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, at most periods"
        )]
        burn(begun_ns + used_ns.saturating_add(owed_ns as u64), started_ns + until_ns);
        if released(started_ns + until_ns, order.guarded()) {
            return;
        }
    }
}

/// Takes CPU time up to `used_ns` of this thread's, but not past `until_ns`.
fn burn(used_ns: u64, until_ns: u64) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while clock(ClockId::ThreadCPUTime) < used_ns && clock(ClockId::Boottime) < until_ns {
        for _ in 0..BATCH {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        std::hint::black_box(state);
    }
}

/// Waits until `until_ns` for the node to let go of this worker.
fn released(until_ns: u64, guarded: bool) -> bool {
    let left_ns = until_ns.saturating_sub(clock(ClockId::Boottime)).min(PERIOD_NS);
    // At most a period.
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(left_ns).unwrap_or_default() };
    let stdin = std::io::stdin();
    let mut watched = [PollFd::new(&stdin, PollFlags::IN)];
    let watched = if guarded { &mut watched[..] } else { &mut [] };
    // An interrupted wait is a shorter one.
    poll(watched, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Writes a line; false when nobody can ever read it. A full pipe is a report lost, and no reason to end.
fn say(line: &Line) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else { return true };
    text.push(b'\n');
    let mut out = std::io::stdout();
    let said = out.write_all(&text).and_then(|()| out.flush());
    said.map_or_else(|error| error.kind() != ErrorKind::BrokenPipe, |()| true)
}

fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}

/// ns since boot, sleep included: the clock of every deadline here.
pub(super) fn since_boot_ns() -> u64 {
    clock(ClockId::Boottime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_node_reads() {
        for (line, text) in [
            (Line::Joined { joined: true }, r#"{"joined":true}"#),
            (Line::Took { elapsed_ns: 2, used_ns: 1 }, r#"{"elapsed_ns":2,"used_ns":1}"#),
            (Line::Failed { error: "no".to_owned() }, r#"{"error":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
        }
    }

    #[test]
    fn a_group_that_is_not_there_is_named() {
        let order = Order {
            percent: 1.0,
            ramp_ns: 0,
            deadline_ns: 0,
            groups: vec!["/no/such/group".into()],
            #[cfg(debug_assertions)]
            unguarded: false,
        };
        assert!(begin(&order).unwrap_err().contains("/no/such/group/cgroup.procs"));
    }
}
