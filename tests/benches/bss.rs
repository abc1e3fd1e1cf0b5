//! `cargo xtask bench bss`: what one full sample of a rustland's `.bss` costs, beside other ways to the same numbers.
//!
//! The section is a real map of the running kernel with a real scheduler's types, so it needs root, but no sched_ext.
//! Before anything is timed, all ways must give the values that were written. Costs are those of the fastest of many
//! short runs: on a shared machine the rest measures the neighbours.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads the clock and prints"
)]

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sextant::host::HostRoots;
use sextant::sources::scheduler::KernelReader;
use sextant::sources::scheduler::fixture::{RealSection, Scheduler, rustland_1_0, rustland_1_1};
use sextant::sources::scheduler::image::Image;
use sextant::sources::scheduler::layout;
use sextant::sources::scheduler::maps::{MapReader, Word};
use sextant_tests::bpftool;

/// Runs of each way; the fastest counts.
const RUNS: usize = 60;
/// Samples in a run of the sampler: far longer than the clock's own cost.
const SAMPLES: u32 = 20_000;
const LOOKUPS: u32 = 2_000;

fn main() -> Result<()> {
    for scheduler in [rustland_1_0(), rustland_1_1()] {
        bench(&scheduler)?;
    }
    Ok(())
}

fn bench(scheduler: &Scheduler) -> Result<()> {
    let (datasec, name, size) = scheduler.sections[0];
    let section = RealSection::create(&scheduler.btf, datasec, size, true).context("needs root")?;
    let bytes: Vec<u8> = (1..=u8::MAX).cycle().take(size as usize).collect();
    section.write(&bytes)?;
    let id = section.id()?;

    let mut reader = KernelReader::new(&HostRoots::default());
    let set_up = Instant::now();
    let map = reader.open(id)?;
    let mut image = Image::of_maps(&mut reader, 0, vec![map], 0)?;
    let set_up = set_up.elapsed();
    let words = layout::words(&image.layout.variables);
    let expected = words_of(&words, &bytes)?;

    let mut sampled = Vec::new();
    image.sampler.sample(0, &mut sampled)?;
    ensure!(sampled == expected, "the sampler reads {sampled:?} instead of {expected:?}");
    let sample_ns = fastest_ns(RUNS, SAMPLES, || {
        image.sampler.sample(0, &mut sampled)?;
        black_box(&sampled);
        Ok(())
    })?;

    let looked_up = reader.open(id)?;
    let mut value = vec![0; size as usize];
    looked_up.lookup(&mut value)?;
    ensure!(words_of(&words, &value)? == expected, "the lookup differs from what was written");
    let lookup_ns = fastest_ns(RUNS, LOOKUPS, || {
        looked_up.lookup(&mut value)?;
        black_box(words_of(&words, &value)?);
        Ok(())
    })?;

    println!("{}: {name} of {size} bytes, {} variables", scheduler.ops, words.len());
    println!("  set-up, once             {:>12.1} us", set_up.as_secs_f64() * 1e6);
    println!("  sampler                  {sample_ns:>12.1} ns   (goal: at most 200)");
    println!("  BPF_MAP_LOOKUP_ELEM      {lookup_ns:>12.1} ns = {:>9.0} x", lookup_ns / sample_ns);
    match bpftool::section(u64::from(id), name) {
        Ok(dumped) => {
            ensure!(dumped.len() == words.len(), "bpftool shows {} variables", dumped.len());
            let dump_ns = fastest_ns(RUNS, 1, || bpftool::section(u64::from(id), name).map(drop))?;
            println!("  bpftool map dump         {dump_ns:>12.1} ns = {:>9.0} x", dump_ns / sample_ns);
        }
        Err(error) => println!("  bpftool map dump         not measured: {error:#}"),
    }
    Ok(())
}

fn words_of(words: &[Word], bytes: &[u8]) -> Result<Vec<u64>> {
    words.iter().map(|word| word.read(bytes).context("outside the section")).collect()
}

/// Mean cost of one call in the fastest run.
fn fastest_ns(runs: usize, calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let started = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        best = best.min(started.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
    }
    Ok(best)
}
