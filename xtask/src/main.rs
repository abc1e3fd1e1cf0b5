//! The project's own commands: one verb, one file. `cargo xtask --help` lists them.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a build tool starts processes, reads the environment and talks to a terminal"
)]

mod bench;
mod cache;
mod debian;
mod deny;
mod ebpf;
mod failures;
mod fetch;
mod fuzz;
mod openapi;
mod process;
mod test;
mod tools;
mod up;
mod vm;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A receiver and a node, here or in a virtual machine, and what to try.
    Up(up::Args),
    /// Every test there is: the one gate.
    Test(test::Args),
    /// Write or check the OpenAPI documents.
    Openapi(openapi::Args),
    /// Fetch what the tests need into the cache.
    Fetch(fetch::Args),
    /// Check the dependency tree's licences, sources and duplicates.
    Deny(deny::Args),
    /// Feed a decoder random bytes until it breaks or the time is over.
    Fuzz(fuzz::Args),
    /// Rebuild the checked-in eBPF object, or compare it with its source.
    Ebpf(ebpf::Args),
    /// Measure one thing and its peers.
    Bench(bench::Args),
    /// A virtual machine with real sched_ext kernels and schedulers.
    Vm(vm::Args),
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().verb {
        Verb::Up(args) => up::main(&args),
        Verb::Test(args) => test::main(&args),
        Verb::Openapi(args) => openapi::main(&args),
        Verb::Fetch(args) => fetch::main(&args),
        Verb::Deny(args) => deny::main(&args),
        Verb::Fuzz(args) => fuzz::main(&args),
        Verb::Ebpf(args) => ebpf::main(&args),
        Verb::Bench(args) => bench::main(&args),
        Verb::Vm(args) => vm::main(args),
    };
    match done {
        Ok(status) => status.into(),
        Err(error) => {
            eprintln!("error: {error:?}");
            1.into()
        }
    }
}

/// The root of the workspace.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Builds the `sextant` binary and says where it is.
fn build_sextant(release: bool) -> Result<PathBuf> {
    eprintln!("building sextant (2 to 4 minutes the first time)");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "sextant"]).args(release.then_some("--release"));
    process::shown(cargo.current_dir(workspace()))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    Ok(target.join(if release { "release" } else { "debug" }).join("sextant"))
}
