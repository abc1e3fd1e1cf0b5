//! The worker of a network anomaly: this binary as a child of the node, holding one fault.
//!
//! Guarded like every worker: it ends when its standard input closes or says anything, when the node's spawning thread
//! ends, at its own deadline on the clock that also runs while the machine sleeps, when its report pipe breaks. It joins
//! no cgroup: what it does is charged to the node, and the target's quota does not slow it down.
//!
//! # Reports (standard output, one JSON object per line)
//! `{"joined":true}` when the fault has begun, [`Seen`] every second and at the end, `{"error":".."}` when it could not
//! begin or go on.

use std::io::{ErrorKind, Write as _};
use std::os::fd::AsFd as _;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;

use super::relay::now_ns;
use super::{Order, Running, Seen, Why, begin};

const REPORT_NS: u64 = 1_000_000_000;

/// A line.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Joined { joined: bool },
    Seen(Seen),
    Failed { error: String },
}

/// Runs a worker to its end; false when it could not begin or go on.
pub fn run(order: &str, deadline_ns: u64) -> bool {
    let done = guard().and_then(|()| start(order)).and_then(|mut running| {
        say(&Line::Joined { joined: true });
        work(&mut running, deadline_ns)
    });
    match done {
        Ok(()) => true,
        Err(error) => {
            say(&Line::Failed { error });
            false
        }
    }
}

fn guard() -> Result<(), String> {
    let score = "/proc/self/oom_score_adj";
    std::fs::write(score, "1000").map_err(|error| format!("{score}: {error}"))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| format!("parent's death signal: {e}"))?;
    // A node that hangs reads no reports; that must not hold up the look at the deadline.
    fcntl_setfl(std::io::stdout(), OFlags::NONBLOCK).map_err(|e| format!("report pipe: {e}"))
}

fn start(order: &str) -> Result<Running, String> {
    let order: Order = serde_json::from_str(order).map_err(|error| format!("order: {error}"))?;
    begin(&order)
}

fn work(running: &mut Running, deadline_ns: u64) -> Result<(), String> {
    let stdin = std::io::stdin();
    loop {
        let until_ns = now_ns().saturating_add(REPORT_NS).min(deadline_ns);
        let why = running.run_until(until_ns, Some(stdin.as_fd()))?;
        let is_read = say(&Line::Seen(running.seen()?));
        if why == Why::Watched || !is_read || now_ns() >= deadline_ns {
            return Ok(());
        }
    }
}

/// Writes a line; false when nobody can ever read it. A full pipe is a report lost, and no reason to end.
fn say(line: &Line) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else { return true };
    text.push(b'\n');
    let mut out = std::io::stdout();
    let said = out.write_all(&text).and_then(|()| out.flush());
    said.map_or_else(|error| error.kind() != ErrorKind::BrokenPipe, |()| true)
}
