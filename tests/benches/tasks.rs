//! `cargo xtask bench tasks`: what a walk over all processes costs, kernel-side and by /proc. Needs root.
//!
//! Some 2,000 sleeping processes are added to those of the machine. The kernel-side walk includes making and closing
//! the iterator; the other one reads `stat`, `comm` and `cgroup` of each process and nothing else.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts processes, reads the clock and prints"
)]

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};
use sextant_tests::tasks::{self, Proc, Walk};

const SLEEPERS: usize = 2_000;
const RUNS: usize = 40;

fn main() -> Result<()> {
    let mut walk = Walk::load(&tasks::offsets()?)?;
    let mut proc = Proc::open()?;
    let mut sleepers = Sleepers(Vec::new());
    for added in [0, SLEEPERS] {
        sleepers.add(added)?;
        let (walked_us, walked) = fastest_us(|| Ok(walk.records()?.len()))?;
        let (read_us, read) = fastest_us(|| Ok(proc.records()?.len()))?;
        ensure!(walked > added && read > added, "{walked} and {read} processes seen");
        println!("{walked} processes");
        println!("  walk of the kernel  {walked_us:>10.1} us, {:>6.2} us a process", per(walked_us, walked));
        println!(
            "  /proc               {read_us:>10.1} us, {:>6.2} us a process = {:.0} x",
            per(read_us, read),
            read_us / walked_us
        );
    }
    Ok(())
}

/// The fastest run, and what it returned.
fn fastest_us(mut run: impl FnMut() -> Result<usize>) -> Result<(f64, usize)> {
    let mut best = (f64::INFINITY, 0);
    for _ in 0..RUNS {
        let started = Instant::now();
        let count = run()?;
        let took_us = started.elapsed().as_secs_f64() * 1e6;
        if took_us < best.0 {
            best = (took_us, count);
        }
    }
    Ok(best)
}

#[expect(clippy::cast_precision_loss, reason = "a number of processes")]
fn per(us: f64, count: usize) -> f64 {
    us / count as f64
}

struct Sleepers(Vec<Child>);

impl Sleepers {
    fn add(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.0.push(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn()?);
        }
        Ok(())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for sleeper in &mut self.0 {
            // It may have ended by itself; then there is nothing to kill.
            let _ = sleeper.kill();
        }
        for sleeper in &mut self.0 {
            let _ = sleeper.wait();
        }
    }
}
