//! `cargo xtask bench runqlat`: what measuring every switch of tasks costs, beside bcc's runqlat and the same in bpftrace.
//! Needs root.
//!
//! The load is the hardest there is for such a program: two threads on one CPU that do nothing but wake each other
//! through pipes. Costs per switch are the kernel's own (`BPF_ENABLE_STATS`, whose clock readings are in them); what the
//! load loses is measured without them.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts its peer and prints"
)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use aya::sys::{Stats, enable_stats};
use rustix::thread::{CpuSet, sched_setaffinity};
use sextant::host::HostRoots;
use sextant::sources::runqlat::{Config, RunqlatSource};

const LOAD: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    let roots = HostRoots::default();
    let started = Instant::now();
    let source = RunqlatSource::start(&roots, &Config::default())?;
    println!("loaded and attached in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let ours = cost(&["sched_switch"])?;
    drop(source);
    let theirs = cost_of(Peer::bcc(), &["sched_switch", "sched_wakeup", "sched_wakeup_new"]);
    let nothing = cost_of(Peer::nothing(), &[NOTHING]);
    println!("per switch, everything that runs for it:");
    println!("  sextant               {ours:>7.0} ns, by cgroup, with CPU time, migrations and blame");
    match theirs {
        Ok(theirs) => {
            println!(
                "  bcc runqlat -P        {theirs:>7.0} ns = {:.1} x, waits by process only",
                theirs / ours
            );
        }
        Err(error) => println!("  bcc runqlat -P        not measured: {error:#}"),
    }
    match nothing {
        Ok(nothing) => println!(
            "  a program that does nothing {nothing:>.0} ns: the clock readings of this account; without them sextant \
             {:.0} ns",
            ours - nothing
        ),
        Err(error) => println!("  a program that does nothing: not measured: {error:#}"),
    }
    println!("round trips a second, best of {ROUNDS}:");
    // In turns, so that a change of the machine's pace meets all of them.
    let (mut bare, mut with_ours) = (0.0_f64, 0.0_f64);
    let (mut with_bcc, mut with_bpftrace) = (Ok(0.0_f64), Ok(0.0_f64));
    for _ in 0..ROUNDS {
        bare = bare.max(round_trips()?);
        let source = RunqlatSource::start(&roots, &Config::default())?;
        with_ours = with_ours.max(round_trips()?);
        drop(source);
        better(&mut with_bcc, Peer::bcc());
        better(&mut with_bpftrace, Peer::bpftrace());
    }
    println!("  nothing               {bare:>9.0}");
    for (name, rate) in
        [("sextant", Ok(with_ours)), ("bcc runqlat -P", with_bcc), ("bpftrace", with_bpftrace)]
    {
        match rate {
            Ok(rate) => println!("  {name:<21} {rate:>9.0}, {:.1} % less", (1.0 - rate / bare) * 100.0),
            Err(error) => println!("  {name:<21} not measured: {error:#}"),
        }
    }
    Ok(())
}

/// See [`cost`], while a peer runs.
fn cost_of(peer: Result<Peer>, names: &[&str]) -> Result<f64> {
    let _peer = peer?;
    cost(names)
}

/// Another round beside a peer, unless it failed before.
fn better(rate: &mut Result<f64>, peer: Result<Peer>) {
    if let Ok(before) = rate {
        *rate = peer.and_then(|_running| Ok(before.max(round_trips()?)));
    }
}

/// Mean time per switch in the loaded programs of these names, the first of which runs once per switch, ns; the lowest
/// of several rounds, since whatever else the machine does makes it dearer.
fn cost(names: &[&str]) -> Result<f64> {
    let _stats = enable_stats(Stats::RunTime)?;
    let mut lowest = f64::INFINITY;
    for _ in 0..ROUNDS {
        lowest = lowest.min(mean_cost(names)?);
    }
    Ok(lowest)
}

fn mean_cost(names: &[&str]) -> Result<f64> {
    let before = spent(names)?;
    round_trips()?;
    let after = spent(names)?;
    let switches = after.1 - before.1;
    ensure!(switches > 1_000.0, "only {switches} switches seen");
    Ok((after.0 - before.0) / switches)
}

/// Time in all of them, ns, and runs of the first.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
fn spent(names: &[&str]) -> Result<(f64, f64)> {
    let all = loaded_programs().collect::<Result<Vec<ProgramInfo>, _>>()?;
    let named = |name: &str, info: &ProgramInfo| info.name_as_str() == Some(shortened(name));
    let time = all.iter().filter(|info| names.iter().any(|name| named(name, info)));
    let time_ns: f64 = time.map(|info| info.run_time().as_nanos() as f64).sum();
    let runs: u64 = all.iter().filter(|info| named(names[0], info)).map(ProgramInfo::run_count).sum();
    Ok((time_ns, runs as f64))
}

/// As the kernel keeps a program's name (`BPF_OBJ_NAME_LEN`).
fn shortened(name: &str) -> &str {
    &name[..name.len().min(15)]
}

/// Two threads of one CPU hand a byte to and fro; how often in a second.
fn round_trips() -> Result<f64> {
    let (mut there_in, mut there_out) = std::io::pipe()?;
    let (mut back_in, mut back_out) = std::io::pipe()?;
    let mut cpu = CpuSet::new();
    cpu.set(0);
    let echo = thread::spawn(move || -> Result<()> {
        sched_setaffinity(None, &cpu)?;
        let mut byte = [0];
        while there_in.read(&mut byte)? == 1 {
            back_out.write_all(&byte)?;
        }
        Ok(())
    });
    let before = rustix::thread::sched_getaffinity(None)?;
    sched_setaffinity(None, &cpu)?;
    let started = Instant::now();
    let mut trips = 0_u32;
    let mut byte = [0];
    while started.elapsed() < LOAD {
        for _ in 0..100 {
            there_out.write_all(&byte)?;
            back_in.read_exact(&mut byte)?;
        }
        trips += 100;
    }
    let rate = f64::from(trips) / started.elapsed().as_secs_f64();
    sched_setaffinity(None, &before)?;
    drop(there_out);
    echo.join().map_err(|_| anyhow::anyhow!("the echo panicked"))??;
    Ok(rate)
}

/// Another program that measures how long tasks wait.
struct Peer(Child);

/// The time from being made runnable to being switched to, as one histogram of all tasks.
const BPFTRACE: &str = "
    tracepoint:sched:sched_wakeup, tracepoint:sched:sched_wakeup_new { @runnable[args->pid] = nsecs; }
    tracepoint:sched:sched_switch {
        if (args->prev_state == 0) { @runnable[args->prev_pid] = nsecs; }
        if (@runnable[args->next_pid]) { @waits = hist(nsecs - @runnable[args->next_pid]); }
        delete(@runnable[args->next_pid]);
    }";

/// How bpftrace names the only program of [`Peer::nothing`].
const NOTHING: &str = "1";

impl Peer {
    /// An empty program at every switch.
    fn nothing() -> Result<Self> {
        let mut bpftrace = Command::new("bpftrace");
        Self::start(bpftrace.args(["-e", "software:cs:1 { $nothing = 0; }"]), NOTHING)
    }

    /// The one in C, with CO-RE; a histogram per process.
    fn bcc() -> Result<Self> {
        let mut runqlat = Command::new("runqlat");
        Self::start(runqlat.args(["-P", "3600"]), shortened("sched_wakeup_new"))
    }

    fn bpftrace() -> Result<Self> {
        let mut bpftrace = Command::new("bpftrace");
        Self::start(bpftrace.args(["-e", BPFTRACE]), "sched_switch")
    }

    /// It is attached when a program of its own shows up.
    fn start(command: &mut Command, program: &str) -> Result<Self> {
        let before = named(program);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut peer = Self(command.spawn().context("cannot start it")?);
        let deadline = Instant::now() + Duration::from_secs(20);
        // Those of the peer before it may be on their way out: only one that was not there is its own.
        while named(program).is_subset(&before) {
            if let Some(status) = peer.0.try_wait()? {
                let mut said = String::new();
                peer.0.stderr.take().context("no stderr")?.read_to_string(&mut said)?;
                anyhow::bail!("it ended with {status}: {said}");
            }
            ensure!(Instant::now() < deadline, "it loads no program");
            thread::sleep(Duration::from_millis(50));
        }
        thread::sleep(Duration::from_millis(200));
        Ok(peer)
    }
}

/// Ids of the loaded programs of this name.
fn named(name: &str) -> BTreeSet<u32> {
    let named = loaded_programs().flatten().filter(|info| info.name_as_str() == Some(name));
    named.map(|info| info.id()).collect()
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}
