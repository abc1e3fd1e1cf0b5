//! A worker: this binary as a child of the node, one fault inside the target's cgroups.
//!
//! It moves itself into the groups before it does anything else. It ends, whatever becomes of the node, at the first of:
//! the control pipe (standard input) closes or says anything; the node's spawning thread ends (the kernel kills it); its
//! own deadline on the clock that also runs while the machine sleeps; its report pipe breaks. It is the first that the
//! kernel kills when memory runs out. All that it holds, the kernel takes back with it; the one that holds changes which
//! the kernel does not ([`hold`]) is not killed with the node, but undoes them and ends.
//!
//! # Reports (standard output, one JSON object per line)
//! `{"joined":true}` once it is in the groups and before any load, `{"elapsed_ns":..,"amount":..,"details":{..}}` every
//! second and at the end, `{"error":".."}` instead of either when it cannot.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::order::{Order, Work};
use clock::Clock;

mod clock;
mod cpu;
mod directory;
mod fill;
mod hold;
mod load;
mod memory;
mod network;
mod pace;
mod pause;
mod who;

pub(super) use clock::since_boot_ns;
pub(super) use directory::{Space, device_of, space, takes_files};
pub(super) use hold::undo as undo_changes;
pub(super) use pause::threads;
pub(super) use who::pids;

/// Short enough that no scheduler's or quota's period hides the load, long enough to cost nothing by itself.
const PERIOD_NS: u64 = 50_000_000;
const REPORT_NS: u64 = 1_000_000_000;

/// A line of a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// It is in the groups, and what needs no time is done.
    Joined {
        /// Always true.
        joined: bool,
    },
    /// What it achieved so far.
    Report {
        /// Since it joined.
        elapsed_ns: u64,
        /// A sum since then (ns of CPU time, bytes, operations, bits) or a level (bytes, tasks, limits, thousandths); none
        /// where there was nothing to measure yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<u64>,
        /// What else there is to say.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        details: BTreeMap<String, u64>,
    },
    /// It cannot.
    Failed {
        /// Why.
        error: String,
    },
}

/// A fault at work.
trait Task {
    /// Does what is due until `until_ns`, on a clock that began with it; returns soon after that.
    ///
    /// # Errors
    /// It cannot go on.
    fn turn(&mut self, clock: Clock, until_ns: u64) -> Result<(), String>;

    /// What it achieved: see [`Line::Report`].
    fn amount(&mut self) -> Option<u64>;

    /// What else there is to say.
    fn details(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// Undoes what the kernel does not undo by itself.
    ///
    /// # Errors
    /// What is left.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Runs a worker to its end, by an [`Order`] in JSON; false when it could not begin, or could not end well.
pub fn run(order: &str) -> bool {
    let order = serde_json::from_str(order).map_err(|error| format!("order: {error}"));
    match order.and_then(carry_out) {
        Ok(()) => true,
        Err(error) => {
            say(&Line::Failed { error });
            false
        }
    }
}

fn carry_out(order: Order) -> Result<(), String> {
    let (guarded, deadline_ns) = (order.guarded(), order.deadline_ns);
    let mut task = begin(order)?;
    say(&Line::Joined { joined: true });
    let worked = work(task.as_mut(), deadline_ns, guarded);
    // Whatever happened: what can be undone is.
    worked.and(task.end())
}

fn begin(order: Order) -> Result<Box<dyn Task>, String> {
    for group in &order.groups {
        // 0 is the writer itself.
        write(&group.join("cgroup.procs"), "0")?;
    }
    write(Path::new("/proc/self/oom_score_adj"), "1000")?;
    // Who holds changes undoes them when the node is gone, and must live for that.
    if order.guarded() && !matches!(order.work, Work::Hold { .. }) {
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|e| format!("parent's death signal: {e}"))?;
    }
    // A node that hangs reads no reports; that must not hold up the look at the deadline.
    fcntl_setfl(std::io::stdout(), OFlags::NONBLOCK).map_err(|e| format!("report pipe: {e}"))?;
    Ok(match order.work {
        Work::Cpu(work) => Box::new(cpu::Cpu::begin(&work)?),
        Work::Memory(work) => Box::new(memory::Memory::begin(work)?),
        Work::DiskLoad(work) => Box::new(load::Load::begin(&work)?),
        Work::DiskFill(work) => Box::new(fill::Fill::begin(work)?),
        Work::Network { order, measure } => Box::new(network::Network::begin(&order, measure)?),
        Work::Hold { apply, changes } => Box::new(hold::Hold::begin(changes, apply)?),
        Work::Pause(who) => Box::new(pause::Pause::begin(who)?),
        Work::Kill { who, term } => Box::new(who::Killed::begin(&who, term)?),
    })
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn work(task: &mut dyn Task, deadline_ns: u64, guarded: bool) -> Result<(), String> {
    let clock = Clock::start();
    let mut reported_ns = 0;
    let mut over = false;
    loop {
        let elapsed_ns = clock.elapsed_ns();
        over |= since_boot_ns() >= deadline_ns;
        if over || elapsed_ns >= reported_ns + REPORT_NS {
            reported_ns = elapsed_ns;
            let report = Line::Report { elapsed_ns, amount: task.amount(), details: task.details() };
            over |= !say(&report) && guarded;
        }
        if over {
            return Ok(());
        }
        let until_ns = elapsed_ns + PERIOD_NS;
        task.turn(clock, until_ns)?;
        over = released(clock, until_ns, guarded);
    }
}

/// Waits until `until_ns` for the node to let go of this worker.
fn released(clock: Clock, until_ns: u64, guarded: bool) -> bool {
    let left_ns = until_ns.saturating_sub(clock.elapsed_ns()).min(PERIOD_NS);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_node_reads() {
        let details = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 3)).collect();
        for (line, text) in [
            (Line::Joined { joined: true }, r#"{"joined":true}"#),
            (
                Line::Report { elapsed_ns: 2, amount: Some(1), details: details(&[]) },
                r#"{"elapsed_ns":2,"amount":1}"#,
            ),
            (
                Line::Report { elapsed_ns: 2, amount: Some(1), details: details(&["late_ns"]) },
                r#"{"elapsed_ns":2,"amount":1,"details":{"late_ns":3}}"#,
            ),
            (Line::Failed { error: "no".to_owned() }, r#"{"error":"no"}"#),
        ] {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<Line>(text).unwrap(), line);
        }
    }
}
