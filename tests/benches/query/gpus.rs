//! Which GPUs there are: 10,000 of ten metrics each.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;
use sextant_tests::gpu_load::Load;
use sextant_tests::keep_alive::question;
use sextant_tests::process::{cpu_s, mib, peak_rss_bytes, rss_bytes};
use sextant_tests::remote_write::{requests, send};

use super::{SCALE, ask, now_ns, receiver, words};

/// They all come from one address.
const CONFIG: &str = "[series.embedded]\nmax_series_per_source = 200000\n";

pub(super) fn run(dir: &Path) -> Result<()> {
    let receiver = receiver(dir, CONFIG)?;
    let mut load = Load::new(SCALE.gpus);
    send(receiver.address(), &requests(&mut load, now_ns() / 1_000_000, 1, 1))?;
    println!(
        "{} GPUs, {} series, {:.0} MiB RSS with them:",
        SCALE.gpus,
        load.len(),
        mib(rss_bytes(receiver.pid())?)
    );
    let one_metric = [("match", "DCGM_FI_DEV_GPU_UTIL")];
    for (name, question, goal) in [
        ("list of the GPUs", question("/api/v1/gpus", &[]), "   (goal: p99 50 ms)"),
        ("list of one metric's series", question("/api/v1/series", &one_metric), ""),
    ] {
        let times = SCALE.questions / 3;
        let before_s = cpu_s(receiver.pid())?;
        let (waits, answer) = ask(receiver.address(), &question, times)?;
        let each_ms = (cpu_s(receiver.pid())? - before_s) * 1e3 / times as f64;
        let answer: Value = serde_json::from_str(&answer)?;
        ensure!(answer["count"] == SCALE.gpus, "{} of {} in the {name}", answer["count"], SCALE.gpus);
        println!("  {name:<35} {}, {each_ms:.1} ms of CPU each{goal}", words(&waits));
    }
    println!("  {:.0} MiB RSS at most", mib(peak_rss_bytes(receiver.pid())?));
    ensure!(receiver.stop()? == Some(0), "the receiver failed");
    Ok(())
}
