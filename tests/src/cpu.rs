//! CPU time, for benchmarks on machines that others use too: wall time would measure the neighbours.

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

/// What a call costs the calling thread: the mean over `calls` in the cheapest of `runs`, nanoseconds.
///
/// # Errors
/// Those of the call.
pub fn cheapest_ns(runs: usize, calls: u32, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..runs {
        let before = thread_ns();
        for _ in 0..calls {
            call()?;
        }
        best = best.min((thread_ns() - before) / f64::from(calls));
    }
    Ok(best)
}

/// CPU time that the calling thread has used, in user space and in the kernel.
#[expect(clippy::cast_precision_loss, reason = "f64 is exact up to 104 days of nanoseconds")]
fn thread_ns() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
