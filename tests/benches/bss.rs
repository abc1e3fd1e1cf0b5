//! `cargo xtask bench bss`: what one full sample of a rustland's `.bss` costs, beside other ways to the same numbers.
//!
//! The section is a real map of the running kernel with a real scheduler's types, so it needs root, but no sched_ext.
//! Before anything is timed, all ways must give the values that were written. The sampler and the lookup are timed by
//! CPU time of this thread, in the cheapest of many short runs; `bpftool` by wall time, since it is a process.

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
use sextant_tests::cpu::cheapest_ns;

/// Runs of each way, each far longer than the clock's own cost and shorter than a time slice.
const RUNS: usize = 2_000;
const SAMPLES: u32 = 2_000;
const LOOKUPS: u32 = 200;
const DUMPS: usize = 60;

fn main() -> Result<()> {
    for scheduler in [rustland_1_0(), rustland_1_1()] {
        bench(&scheduler)?;
    }
    Ok(())
}

fn bench(scheduler: &Scheduler) -> Result<()> {
    let section = scheduler.sections.iter().find(|(_, name, _)| *name == ".bss");
    let &(datasec, name, size) = section.context("the scheduler has no .bss")?;
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
    let (mut expected, mut sampled) = (Vec::new(), Vec::new());
    decode(&words, &bytes, &mut expected)?;

    image.sampler.sample(0, &mut sampled)?;
    ensure!(sampled == expected, "the sampler reads {sampled:?} instead of {expected:?}");
    let sample_ns = cheapest_ns(RUNS, SAMPLES, || {
        image.sampler.sample(0, &mut sampled)?;
        black_box(&sampled);
        Ok(())
    })?;

    let looked_up = reader.open(id)?;
    let mut value = vec![0; size as usize];
    looked_up.lookup(&mut value)?;
    decode(&words, &value, &mut sampled)?;
    ensure!(sampled == expected, "the lookup gives {sampled:?} instead of {expected:?}");
    let lookup_ns = cheapest_ns(RUNS, LOOKUPS, || {
        looked_up.lookup(&mut value)?;
        decode(&words, &value, &mut sampled)?;
        black_box(&sampled);
        Ok(())
    })?;

    // As a reader does that asks for one variable at a time: every lookup copies the whole section.
    let lookups_ns = cheapest_ns(RUNS, LOOKUPS / 10, || {
        sampled.clear();
        for word in &words {
            looked_up.lookup(&mut value)?;
            sampled.push(word.read(&value).context("outside the section")?);
        }
        black_box(&sampled);
        Ok(())
    })?;

    println!("{}: {name} of {size} bytes, {} variables", scheduler.ops, words.len());
    println!("  set-up, once             {:>12.1} us", set_up.as_secs_f64() * 1e6);
    println!("  sampler                  {sample_ns:>12.1} ns   (goal: at most 200)");
    println!("  one BPF_MAP_LOOKUP_ELEM  {lookup_ns:>12.1} ns = {:>9.0} x", lookup_ns / sample_ns);
    println!("  one for each variable    {lookups_ns:>12.1} ns = {:>9.0} x", lookups_ns / sample_ns);
    match bpftool::section(u64::from(id), name) {
        Ok(dumped) => {
            ensure!(dumped.len() == words.len(), "bpftool shows {} variables", dumped.len());
            let mut dump_ns = f64::INFINITY;
            for _ in 0..DUMPS {
                let started = Instant::now();
                bpftool::section(u64::from(id), name)?;
                dump_ns = dump_ns.min(started.elapsed().as_secs_f64() * 1e9);
            }
            println!("  bpftool map dump         {dump_ns:>12.1} ns = {:>9.0} x", dump_ns / sample_ns);
        }
        Err(error) => println!("  bpftool map dump         not measured: {error:#}"),
    }
    Ok(())
}

fn decode(words: &[Word], bytes: &[u8], out: &mut Vec<u64>) -> Result<()> {
    out.clear();
    for word in words {
        out.push(word.read(bytes).context("outside the section")?);
    }
    Ok(())
}
