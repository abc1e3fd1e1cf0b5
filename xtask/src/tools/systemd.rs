//! `systemd-analyze`: this machine's own, or Debian's unpacked beside its libraries.

use std::path::PathBuf;

use anyhow::Result;

use super::private;
use crate::cache::Cache;
use crate::process;

/// The tests call these; the first one's place is what they are told, the others lie beside it.
const PROGRAMS: [&str; 3] = ["systemd-analyze", "systemd-sysusers", "systemd-tmpfiles"];

/// Where `systemd-analyze` is. None of the programs needs systemd to be running.
pub(super) fn analyze(cache: &Cache) -> Result<PathBuf> {
    if let Ok(path) = process::find(PROGRAMS[0])
        && PROGRAMS.iter().all(|program| path.with_file_name(program).is_file())
    {
        return Ok(path);
    }
    Ok(private::programs(cache, "systemd", &PROGRAMS)?.join(PROGRAMS[0]))
}
