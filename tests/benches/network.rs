//! `cargo xtask bench network`: how exact network anomalies are and what they cost, on a cable between two namespaces,
//! beside netem where the kernel has it. Needs root.
//!
//! Sender, relay and receiver share the machine's CPUs, so the throughput is a lower bound of what the relay can do.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark starts its peer, waits in real time and prints"
)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::{Value, json};
use sextant_tests::netns::{
    Echo, INTERFACE, Lab, PEER, Side, Worker, p50, percentile, round_trips, stream, transfer,
};

const PORT: u16 = 7_001;
const MS: Duration = Duration::from_millis(1);

fn main() -> Result<()> {
    let lab = Lab::new("bench")?;
    delays(&lab)?;
    losses(&lab)?;
    rates(&lab)?;
    transfers(&lab)?;
    small_packets(&lab)
}

/// One thing at a time on the cable: ours, netem, or nothing.
enum Fault<'a> {
    Nothing,
    Ours(Value),
    Netem(&'a [&'a str]),
}

/// What a fault leaves to be told: its worker's CPU time and last report.
struct Told {
    cpu_ns: f64,
    seen: Value,
}

/// Calls under a fault.
fn under<T>(lab: &Lab, fault: &Fault<'_>, call: impl FnOnce() -> Result<T>) -> Result<(T, Option<Told>)> {
    match fault {
        Fault::Nothing => Ok((call()?, None)),
        Fault::Ours(fault) => {
            let worker = Worker::start(&lab.order(fault), 300)?;
            let before_ns = cpu_ns(worker.pid())?;
            let done = call()?;
            let cpu_ns = cpu_ns(worker.pid())? - before_ns;
            Ok((done, Some(Told { cpu_ns, seen: worker.stop()? })))
        }
        Fault::Netem(words) => {
            let netns = lab.of(Side::Target);
            let qdisc = |verb, words: &[&str]| -> Result<()> {
                let mut tc = Command::new("tc");
                let words = [&["-n", &netns, "qdisc", verb, "dev", INTERFACE, "root"][..], words].concat();
                let done = tc.args(words).output().context("no tc")?;
                ensure!(done.status.success(), "absent on this host");
                Ok(())
            };
            qdisc("add", &[&["netem"], *words].concat())?;
            let done = call();
            qdisc("delete", &[])?;
            Ok((done?, None))
        }
    }
}

/// CPU time of a process of one thread, ns.
fn cpu_ns(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    Ok(text.split_whitespace().next().context("schedstat")?.parse()?)
}

fn at(address: &str) -> Result<SocketAddr> {
    Ok(SocketAddr::new(address.parse()?, PORT))
}

fn delays(lab: &Lab) -> Result<()> {
    let echo = Echo::start(lab, at(PEER[0])?)?;
    let trips = || round_trips(lab, echo.at, 500, 2 * MS);
    let before = p50(&trips()?)?;
    println!("round trip without a fault: p50 {before:.3} ms; with a delay, added to that, 500 round trips:");
    println!("  asked     sextant p50   p99            netem p50   p99");
    for delay in [5_u32, 20, 50, 100, 200] {
        let mut line = format!("  {delay:>3} ms");
        let text = format!("{delay}ms");
        for fault in [Fault::Ours(json!({"delay_ns": delay * 1_000_000})), Fault::Netem(&["delay", &text])] {
            match under(lab, &fault, trips) {
                Ok((trips, _)) => {
                    let (p50, p99) = (p50(&trips)? - before, percentile(&trips, 99)? - before);
                    line.push_str(&format!("   {p50:>9.3} {p99:>9.3} ms"));
                }
                Err(error) => line.push_str(&format!("   {error:#}")),
            }
        }
        println!("{line}");
    }
    Ok(())
}

fn losses(lab: &Lab) -> Result<()> {
    println!("loss of 10,000 packets:");
    for percent in [1_u32, 5, 10, 30, 50, 90] {
        let mut line = format!("  {percent:>3} %");
        let text = format!("{percent}%");
        for (name, fault) in [
            ("in the kernel", Fault::Ours(json!({"loss_percent": percent}))),
            ("with 5 ms", Fault::Ours(json!({"loss_percent": percent, "delay_ns": 5_000_000}))),
            ("netem", Fault::Netem(&["loss", &text])),
        ] {
            let sent = || stream(Side::Target, lab, at(PEER[0])?, (10_000, 64, 50));
            match under(lab, &fault, sent) {
                Ok((arrivals, _)) => {
                    line.push_str(&format!("   {name} {:.2} %", 100.0 - arrivals.len() as f64 / 100.0));
                }
                Err(error) => line.push_str(&format!("   {name} {error:#}")),
            }
        }
        println!("{line}");
    }
    Ok(())
}

fn rates(lab: &Lab) -> Result<()> {
    println!("rate, by frames that arrive:");
    for rate in [1_000_000_u32, 10_000_000, 100_000_000] {
        let mut line = format!("  {:>3} Mbit/s", rate / 1_000_000);
        let text = format!("{rate}bit");
        for (name, fault) in [
            ("sextant", Fault::Ours(json!({"rate_bits_per_s": rate}))),
            ("netem", Fault::Netem(&["rate", &text])),
        ] {
            // Several times what passes.
            let shape = (u64::from(rate) / 1_000, 1_000, (u64::from(rate) / 625_000).max(1));
            let sent = || stream(Side::Target, lab, at(PEER[0])?, shape);
            match under(lab, &fault, sent) {
                Ok((_, Some(told))) if told.seen["overflowed"] == 0 => {
                    line.push_str(&format!("   {name} not measured: the sender is slower"));
                }
                Ok((arrivals, _)) => {
                    let (first, last) = arrivals.first().zip(arrivals.last()).context("nothing arrived")?;
                    let bits = (arrivals.len() - 1) as f64 * 1_042.0 * 8.0;
                    let share = bits / (last.at_s - first.at_s) / f64::from(rate) * 100.0;
                    line.push_str(&format!("   {name} {share:.2} % of it"));
                }
                Err(error) => line.push_str(&format!("   {name} {error:#}")),
            }
        }
        println!("{line}");
    }
    Ok(())
}

/// A connection's throughput, and what the relay takes for it.
fn transfers(lab: &Lab) -> Result<()> {
    println!("one TCP connection:");
    let bytes = vec![0x5a; 256 << 20];
    for (name, fault) in [
        ("nothing", Fault::Nothing),
        ("loss 0.000001 %, in the kernel", Fault::Ours(json!({"loss_percent": 0.000_001}))),
        ("delay 1 ms", Fault::Ours(json!({"delay_ns": 1_000_000}))),
        ("delay 10 ms", Fault::Ours(json!({"delay_ns": 10_000_000}))),
        (
            "delay 1 ms, packet by packet",
            Fault::Ours(json!({"delay_ns": 1_000_000, "loss_percent": 0.000_001})),
        ),
        ("netem delay 1 ms", Fault::Netem(&["delay", "1ms", "limit", "100000"])),
    ] {
        match under(lab, &fault, || transfer(lab, at(PEER[0])?, &bytes)) {
            Ok(((got, took), told)) => {
                ensure!(got.len() == bytes.len(), "{} bytes arrived", got.len());
                let gigabits = bytes.len() as f64 * 8.0 / 1e9;
                let rate = gigabits / took.as_secs_f64();
                let cost = told.map_or_else(String::new, |told| {
                    let (cores, ms) = (told.cpu_ns / 1e9 / took.as_secs_f64(), told.cpu_ns / 1e6 / gigabits);
                    format!(", relay {cores:.2} cores, {ms:.1} ms of CPU for a Gbit; {}", summary(&told.seen))
                });
                println!("  {name:<32} {rate:>6.2} Gbit/s{cost}");
            }
            Err(error) => println!("  {name:<32} {error:#}"),
        }
    }
    Ok(())
}

/// As many small packets as a sender can send.
fn small_packets(lab: &Lab) -> Result<()> {
    println!("datagrams of 64 bytes, 200 in a burst, 1,000,000 of them:");
    for (name, fault) in [
        ("nothing", Fault::Nothing),
        ("spared by the filter", Fault::Ours(json!({"loss_percent": 50}))),
        ("loss 50 %, in the kernel", Fault::Ours(json!({"loss_percent": 50}))),
        ("delay 5 ms", Fault::Ours(json!({"delay_ns": 5_000_000}))),
    ] {
        let _stats = enable_stats(Stats::RunTime)?;
        let port = if name == "spared by the filter" { 53 } else { PORT };
        let to = SocketAddr::new(PEER[0].parse()?, port);
        let (((count, took_s), sieve), told) = under(lab, &fault, || {
            let began = Instant::now();
            let arrivals = stream(Side::Target, lab, to, (1_000_000, 64, 200))?;
            let took_s = arrivals.last().map_or_else(|| began.elapsed().as_secs_f64(), |last| last.at_s);
            Ok(((arrivals.len(), took_s), sieve_ns()))
        })?;
        let mut line = format!("  {name:<26} {:>7.0} arrive in a second", count as f64 / took_s);
        if let (Some(told), Some(sieve)) = (told, sieve) {
            line.push_str(&format!(", program {sieve:.0} ns a packet"));
            let released = told.seen["released"].as_f64().unwrap_or_default();
            if released > 0.0 {
                let cores = told.cpu_ns / 1e9 / took_s;
                let each = told.cpu_ns / released;
                line.push_str(&format!(", relay {cores:.2} cores, {each:.0} ns a packet"));
            }
            line.push_str(&format!("; {}", summary(&told.seen)));
        }
        println!("{line}");
    }
    Ok(())
}

/// Mean run time of the program on the interface, by the kernel's own clock, whose readings are in it.
fn sieve_ns() -> Option<f64> {
    let sieve = loaded_programs().flatten().find(|info| info.name_as_str() == Some("sextant_sieve"))?;
    Some(sieve.run_time().as_nanos() as f64 / sieve.run_count() as f64)
}

fn summary(seen: &Value) -> String {
    format!(
        "late p50 {} us, {} overflowed",
        seen["late_p50_ns"].as_u64().unwrap_or(0) / 1_000,
        seen["overflowed"]
    )
}
