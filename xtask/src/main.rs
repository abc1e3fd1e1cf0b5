//! The project's own commands: one verb, one file. `cargo xtask --help` lists them.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a build tool starts processes, reads the environment and talks to a terminal"
)]

mod cache;
mod debian;
mod deny;
mod fetch;
mod process;
mod tools;
mod vm;

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
    /// Fetch what the tests need into the cache.
    Fetch(fetch::Args),
    /// Check the dependency tree's licences, sources and duplicates.
    Deny(deny::Args),
    /// A virtual machine with real sched_ext kernels and schedulers.
    Vm(vm::Args),
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().verb {
        Verb::Fetch(args) => fetch::main(&args),
        Verb::Deny(args) => deny::main(&args),
        Verb::Vm(args) => vm::main(args).map(std::process::ExitCode::from),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {error:?}");
            1.into()
        }
    }
}
