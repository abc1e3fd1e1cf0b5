//! Debian's programs beside their libraries: unpacked, never installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::wrapper;
use crate::cache::Cache;
use crate::debian::{Apt, Mirror};

/// The directory of these programs of one package, each a script that starts it with the libraries that this machine
/// lacks.
pub(super) fn programs(cache: &Cache, package: &str, programs: &[&str]) -> Result<PathBuf> {
    let version = format!("{}-with-libraries", Mirror::of_this_machine()?.release);
    let home = cache.entry(package, &version, "about 20 s", |to| {
        Apt::host(cache)?.unpack_closure(&[package], false, to)?;
        let libraries = libraries(to);
        for program in programs {
            let places = ["usr/bin", "usr/sbin", "bin"].map(|folder| to.join(folder).join(program));
            let found = places.iter().find(|path| path.is_file());
            let found = found.with_context(|| format!("Debian's package {package} has no {program}"))?;
            let found = found.strip_prefix(to)?.display();
            let line = format!("LD_LIBRARY_PATH={libraries} exec $here/{found} \"$@\"");
            wrapper(&to.join("run").join(program), &line)?;
        }
        Ok(())
    })?;
    Ok(home.join("run"))
}

/// The library directories of the unpacked packages, as the wrapper's search path; nothing where all that the programs
/// need is installed.
fn libraries(root: &Path) -> String {
    let mut found = Vec::new();
    for base in ["usr/lib", "lib"] {
        for entry in std::fs::read_dir(root.join(base)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with("-linux-gnu") {
                found.extend([format!("$here/{base}/{name}"), format!("$here/{base}/{name}/systemd")]);
            }
        }
    }
    found.join(":")
}
