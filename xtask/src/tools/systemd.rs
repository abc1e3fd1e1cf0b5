//! `systemd-analyze`: this machine's own, or Debian's unpacked beside its libraries.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::wrapper;
use crate::cache::Cache;
use crate::debian::{Apt, Mirror};
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
    private(cache)
}

fn private(cache: &Cache) -> Result<PathBuf> {
    let apt = Apt::host(cache)?;
    let home = cache.entry("systemd", &Mirror::of_this_machine()?.release, "about 20 s", |to| {
        apt.unpack_closure(&["systemd"], false, to)?;
        let libraries = libraries(to)?;
        for program in PROGRAMS {
            let found = ["usr/bin", "bin"].map(|folder| to.join(folder).join(program));
            let found = found.iter().find(|path| path.is_file());
            let found =
                found.with_context(|| format!("Debian's systemd has no {program}"))?.strip_prefix(to)?;
            let line = format!("LD_LIBRARY_PATH={libraries} exec $here/{} \"$@\"", found.display());
            wrapper(&to.join("run").join(program), &line)?;
        }
        Ok(())
    })?;
    Ok(home.join("run").join(PROGRAMS[0]))
}

/// The library directories of the unpacked packages, as the wrapper's search path.
fn libraries(root: &Path) -> Result<String> {
    let mut found = Vec::new();
    for base in ["usr/lib", "lib"] {
        for entry in std::fs::read_dir(root.join(base)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with("-linux-gnu") {
                found.extend([format!("$here/{base}/{name}"), format!("$here/{base}/{name}/systemd")]);
            }
        }
    }
    anyhow::ensure!(!found.is_empty(), "no library directory in {}", root.display());
    Ok(found.join(":"))
}
