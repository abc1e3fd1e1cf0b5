//! A Prometheus of the third generation beside the machine's own: of Debian's newest release, unpacked, never installed.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::debian::{Apt, Mirror};

/// The version that the tests know.
const VERSION: &str = "3.5.3+ds1-6";

/// The Debian release that has it. The server needs the C library alone, and that of an older release will do.
const RELEASE: &str = "forky";

/// Where `prometheus` is.
pub(super) fn newest(cache: &Cache) -> Result<PathBuf> {
    let home = cache.entry("prometheus-3", VERSION, "60 MB, about 20 s", |to| {
        let machine = Mirror::of_this_machine()?;
        let unpacked = tempfile::tempdir_in(to)?;
        Apt::of(cache, &machine, RELEASE)?.unpack(&[format!("prometheus={VERSION}")], unpacked.path())?;
        std::fs::create_dir_all(to.join("bin"))?;
        std::fs::rename(unpacked.path().join("usr/bin/prometheus"), to.join("bin/prometheus"))
            .context("Debian's package prometheus has no such program")
    })?;
    Ok(home.join("bin/prometheus"))
}
