//! `/sys/kernel/sched_ext`: what the kernel itself says of sched_ext.
//!
//! `state`, `switch_all`, `nr_rejected`, `enable_seq` and `hotplug_seq` hold one word each. While a scheduler
//! is loaded `root/ops` holds its name and `root/events` one `NAME value` line per event counter. Every file
//! but `state` may be missing on some kernel; no `state` means no sched_ext.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::scheduler::{OpsName, State};

/// Longest file: the kernel prints at most one page into a sysfs file.
const MAX_FILE_BYTES: u64 = 4096;
/// Most event counters: the newest kernel has 21.
const MAX_EVENTS: usize = 256;
/// Target architectures as they begin the suffix that scx schedulers append to their name.
const ARCHITECTURES: [&str; 10] = [
    "_x86_64_",
    "_aarch64_",
    "_i686_",
    "_armv7",
    "_riscv64",
    "_powerpc64",
    "_s390x_",
    "_loongarch64_",
    "_x86_64-",
    "_aarch64-",
];

/// A file that should have been readable.
#[derive(Debug, Error)]
#[error("read {}: {source}", path.display())]
pub(super) struct SysfsError {
    /// The file.
    pub(super) path: PathBuf,
    /// The kernel's answer.
    #[source]
    pub(super) source: io::Error,
}

/// One look at the files; `None` where this kernel has no such file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) state: State,
    pub(super) switch_all: Option<bool>,
    pub(super) nr_rejected: Option<u64>,
    pub(super) enable_seq: Option<u64>,
    pub(super) hotplug_seq: Option<u64>,
    pub(super) ops: Option<OpsName>,
    pub(super) events: Vec<(String, u64)>,
}

/// Reads the files below `sys` (the host's /sys).
///
/// # Errors
/// `state` exists but cannot be read.
pub(super) fn read(sys: &Path) -> Result<Facts, SysfsError> {
    let dir = sys.join("kernel/sched_ext");
    let path = dir.join("state");
    let state = match text(&path) {
        Ok(word) => state(&word),
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Facts::default()),
        Err(source) => return Err(SysfsError { path, source }),
    };
    let number = |name: &str| text(&dir.join(name)).ok()?.trim().parse().ok();
    let enable_seq = number("enable_seq");
    let ops = text(&dir.join("root/ops")).ok().filter(|name| !name.trim().is_empty());
    Ok(Facts {
        state,
        switch_all: number("switch_all").map(|value| value != 0),
        nr_rejected: number("nr_rejected"),
        enable_seq,
        hotplug_seq: number("hotplug_seq"),
        ops: ops.map(|name| ops_name(name.trim())),
        events: text(&dir.join("root/events")).map(|lines| events(&lines)).unwrap_or_default(),
    })
}

fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn state(word: &str) -> State {
    match word.trim() {
        "disabled" => State::Disabled,
        "enabling" => State::Enabling,
        "enabled" => State::Enabled,
        "disabling" => State::Disabling,
        other => State::Other(other.to_owned()),
    }
}

fn events(lines: &str) -> Vec<(String, u64)> {
    let event = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    lines.lines().filter_map(event).take(MAX_EVENTS).collect()
}

/// Splits `<base>_<version>_<target>`; a name without a version is all base.
pub(super) fn ops_name(raw: &str) -> OpsName {
    let target = ARCHITECTURES.iter().filter_map(|arch| raw.find(arch)).min();
    let name = &raw[..target.unwrap_or(raw.len())];
    let starts = name.match_indices('_').map(|(at, _)| at);
    let version = starts.filter(|&at| at > 0).find(|&at| is_version(&name[at + 1..]));
    OpsName {
        raw: raw.to_owned(),
        base: name[..version.unwrap_or(name.len())].to_owned(),
        version: version.map(|at| name[at + 1..].to_owned()),
    }
}

/// `1.1.4`, `1.0.5_g85f140fd`, `v0.3`: a number, a dot and more.
fn is_version(text: &str) -> bool {
    let first = text.split('_').next().unwrap_or_default();
    let digits = first.strip_prefix('v').unwrap_or(first);
    digits.split_once('.').is_some_and(|(major, rest)| {
        !major.is_empty() && !rest.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests;
