//! Stores of time series in versions that this machine's own release lacks: of Debian's newest, unpacked, never installed.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::debian::{Apt, Mirror};

/// The versions that the tests know.
const PROMETHEUS: &str = "3.5.3+ds1-6";
const VICTORIA_METRICS: &str = "1.145.0+ds1-2";

/// The Debian release that has them. They need libzstd and the C library alone, and those of an older release will do.
const RELEASE: &str = "forky";

/// Where a `prometheus` of the third generation is.
pub(super) fn prometheus(cache: &Cache) -> Result<PathBuf> {
    Ok(programs(cache, "prometheus-3", &format!("prometheus={PROMETHEUS}"), &["prometheus"])?
        .join("prometheus"))
}

/// Where `victoria-metrics` is; `vmagent` lies beside it.
pub(super) fn victoria_metrics(cache: &Cache) -> Result<PathBuf> {
    let package = format!("victoria-metrics={VICTORIA_METRICS}");
    let programs = programs(cache, "victoria-metrics", &package, &["victoria-metrics", "vmagent"])?;
    Ok(programs.join("victoria-metrics"))
}

/// The directory of these programs of a package, which is named with its version.
fn programs(cache: &Cache, name: &str, package: &str, programs: &[&str]) -> Result<PathBuf> {
    let (_, version) = super::split(package, "=")?;
    let home = cache.entry(name, version, "60 MB, about 20 s", |to| {
        let machine = Mirror::of_this_machine()?;
        let unpacked = tempfile::tempdir_in(to)?;
        Apt::of(cache, &machine, RELEASE)?.unpack(&[package], unpacked.path())?;
        std::fs::create_dir_all(to.join("bin"))?;
        for program in programs {
            std::fs::rename(unpacked.path().join("usr/bin").join(program), to.join("bin").join(program))
                .with_context(|| format!("Debian's package {package} has no {program}"))?;
        }
        Ok(())
    })?;
    Ok(home.join("bin"))
}
