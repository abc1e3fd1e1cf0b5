//! What the kernel says of sched_ext, and waiting for it to say something else.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Emulated machines on a busy host are many times slower; a limit only has to end what would never end.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub(super) const STEP: Duration = Duration::from_millis(100);
const SYSFS: &str = "/sys/kernel/sched_ext";

/// `/sys/kernel/sched_ext/state`: disabled, enabling, enabled or disabling.
///
/// # Errors
/// If the kernel has no sched_ext.
pub fn state() -> Result<String> {
    sysfs("state")
}

/// How many schedulers were enabled since boot.
///
/// # Errors
/// If the kernel has no sched_ext.
pub fn enable_seq() -> Result<u64> {
    sysfs("enable_seq")?.parse().context("enable_seq is no number")
}

/// A file below `/sys/kernel/sched_ext`, without the line's end.
///
/// # Errors
/// If it is not there.
pub fn sysfs(name: &str) -> Result<String> {
    let path = Path::new(SYSFS).join(name);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Waits, in steps of 0.1 s, until the kernel is in this state.
///
/// # Errors
/// If that takes too long.
pub fn wait_for_state(wanted: &str) -> Result<()> {
    wait_until(&format!("sched_ext is {wanted}"), || Ok(state()? == wanted))
}

/// Waits, in steps of 0.1 s, until `done` says so; `what` names it in the error.
///
/// # Errors
/// If that takes longer than [`PATIENCE`], or `done` fails.
pub fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !done()? {
        ensure!(begin.elapsed() < PATIENCE, "waited {} s in vain until {what}", PATIENCE.as_secs());
        thread::sleep(STEP);
    }
    Ok(())
}
