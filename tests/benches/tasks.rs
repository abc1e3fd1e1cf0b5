//! `cargo xtask bench tasks`: what a walk over all processes costs, kernel-side and by /proc. Needs root.
//!
//! Some 2,000 sleeping processes are added to those of the machine. The kernel-side walk includes making and closing
//! the iterator; the other one reads `stat`, `comm` and `cgroup` of each process and nothing else. CPU time of this
//! thread, the cheapest of some runs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts processes and prints"
)]

use std::process::{Child, Command, Stdio};

use anyhow::{Result, ensure};
use sextant::kernel::tasks::Walk;
use sextant_tests::cpu::cheapest_ns;
use sextant_tests::tasks::{self, Proc};

const SLEEPERS: usize = 2_000;
const RUNS: usize = 40;

fn main() -> Result<()> {
    let mut walk = Walk::load(&tasks::offsets()?)?;
    let mut proc = Proc::open()?;
    let mut sleepers = Sleepers(Vec::new());
    for added in [0, SLEEPERS] {
        sleepers.add(added)?;
        let (walked_us, walked) = cheapest_us(|| Ok(walk.records()?.len()))?;
        let (read_us, read) = cheapest_us(|| Ok(proc.records()?.len()))?;
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

/// CPU time of the cheapest run, and what a run returned.
fn cheapest_us(mut run: impl FnMut() -> Result<usize>) -> Result<(f64, usize)> {
    let mut count = 0;
    let ns = cheapest_ns(RUNS, 1, || run().map(|it| count = it))?;
    Ok((ns / 1e3, count))
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
