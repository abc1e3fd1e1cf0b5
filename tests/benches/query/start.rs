//! A start with a month of days: the newest has an hour of the reference's GPUs, the others a minute, since only the newest
//! is read.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use sextant::series::{Config, Metrics, Series};
use sextant_tests::gpu_load::{GPUS, Load};
use sextant_tests::process::{mib, peak_rss_bytes};
use sextant_tests::remote_write::{count, requests, send};

use super::{DAY_MS, SCALE, now_ns, receiver, today_ms};

/// Seconds that come in one append.
const STEP_S: i64 = 60;

pub(super) fn run(dir: &Path) -> Result<()> {
    let today_ms = today_ms();
    let mut load = Load::new(GPUS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut samples = runtime.block_on(fill(&dir.join("data"), &mut load, today_ms))?;
    println!("{} days, {samples} samples, {} series each day:", SCALE.days, load.len());
    let (from_ms, to_ms) = (today_ms - SCALE.days * DAY_MS, today_ms + DAY_MS);
    for after in ["an orderly end", "SIGKILL"] {
        let began = Instant::now();
        let receiver = receiver(dir, "")?;
        println!(
            "  start after {after:<14} {:>6.3} s   (goal: 2), {:.0} MiB RSS at most",
            began.elapsed().as_secs_f64(),
            mib(peak_rss_bytes(receiver.pid())?)
        );
        let found = count(receiver.address(), from_ms, to_ms)?;
        ensure!(found == samples, "{found} of {samples} samples are queryable");
        // So that it is killed with something in its files that no orderly end has put there.
        let late = requests(&mut load, today_ms + SCALE.today_s * 1_000, 1, 1);
        send(receiver.address(), &late)?;
        samples += load.len() as u64;
        receiver.kill()?;
    }
    Ok(())
}

/// Puts the days into files that no receiver has open; how many samples.
async fn fill(directory: &Path, load: &mut Load, today_ms: i64) -> Result<u64> {
    let series = Series::open(directory, &Config::default(), Metrics::default(), now_ns).await?;
    let mut samples = 0;
    for day in (0..SCALE.days).rev() {
        let seconds = if day == 0 { SCALE.today_s } else { STEP_S };
        for step in 0..seconds / STEP_S {
            let from_ms = today_ms - day * DAY_MS + step * STEP_S * 1_000;
            let appended = series.append("fleet", load.seconds(from_ms, STEP_S)).await.context("append")?;
            ensure!(appended.refused.is_empty(), "{appended:?}");
            samples += appended.stored;
        }
    }
    series.close().await;
    Ok(samples)
}
