//! The ground that all other tests here stand on: the schedulers run, and their variables move as `bpftool` sees it.

use anyhow::{Context, Result, anyhow, ensure};
use sextant_tests::bpftool;
use sextant_tests::scheduler::{Kind, Load, Scheduler, enable_seq, state, sysfs, wait_until};

#[test]
fn rustland_1_1_4_runs_and_its_bss_moves() -> Result<()> {
    runs_and_moves(Kind::Rustland1_1_4)
}

#[test]
fn rustland_1_0_10_runs_and_its_bss_moves() -> Result<()> {
    runs_and_moves(Kind::Rustland1_0_10)
}

#[test]
fn rlfifo_runs_and_its_bss_moves() -> Result<()> {
    runs_and_moves(Kind::Rlfifo)
}

#[test]
fn bpfland_runs_and_its_bss_moves() -> Result<()> {
    runs_and_moves(Kind::Bpfland)
}

/// The control: what the tests above look for is not there without a scheduler, and not in a section that is frozen.
#[test]
fn without_a_scheduler_there_is_nothing_and_a_frozen_section_does_not_move() -> Result<()> {
    ensure!(state()? == "disabled");
    ensure!(sysfs("root/ops").is_err(), "a scheduler's name without a scheduler");
    no_map_is_left()?;

    let scheduler = Scheduler::start(Kind::Rustland1_1_4)?;
    let _load = Load::start()?;
    let frozen = only_map(".rodata")?;
    let before = bpftool::section(frozen, ".rodata")?;
    grows(only_map(".bss")?, scheduler.kind().busy_counter())?;
    ensure!(before == bpftool::section(frozen, ".rodata")?, "a frozen section changed");
    Ok(())
}

fn runs_and_moves(kind: Kind) -> Result<()> {
    // Those of a test that failed before this one are not this one's failure.
    no_map_is_left()?;
    let enabled_before = enable_seq()?;
    let scheduler = Scheduler::start(kind)?;
    let name = sysfs("root/ops")?;
    ensure!(name.starts_with(kind.base_name()), "{kind:?} calls itself {name}");
    ensure!(enable_seq()? == enabled_before + 1);
    {
        let _load = Load::start()?;
        let moved = only_map(".bss").and_then(|map| grows(map, kind.busy_counter()));
        moved.map_err(|why| {
            let (state, events) = (state(), sysfs("root/events"));
            anyhow!(
                "{why:#}\nsched_ext is {state:?}, its events {events:?}, {kind:?} says:\n{}",
                scheduler.log()
            )
        })?;
    }
    let status = scheduler.stop()?;
    ensure!(status.success(), "{kind:?} ended with {status}");
    no_map_is_left()
}

/// The kernel frees maps some time after their last user.
fn no_map_is_left() -> Result<()> {
    wait_until("no scheduler's .bss is there", || Ok(bpftool::maps_named(".bss")?.is_empty()))
}

/// Waits until a counter has grown three times.
fn grows(map: u64, counter: &str) -> Result<()> {
    let read = || -> Result<u64> {
        let variables = bpftool::section(map, ".bss")?;
        variables.get(counter).and_then(serde_json::Value::as_u64).with_context(|| format!("no {counter}"))
    };
    let mut last = read()?;
    for _ in 0..3 {
        wait_until(&format!("{counter} has grown past {last}"), || Ok(read()? > last))?;
        last = read()?;
    }
    Ok(())
}

fn only_map(end: &str) -> Result<u64> {
    let maps = bpftool::maps_named(end)?;
    ensure!(maps.len() == 1, "{} maps end in {end}: {maps:?}", maps.len());
    Ok(maps[0])
}
