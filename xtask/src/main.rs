//! The project's own commands: one verb, one file. `cargo xtask --help` lists them.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a build tool starts processes, reads the environment and talks to a terminal"
)]

mod cache;
mod debian;
mod ebpf;
mod process;
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
    /// Rebuild the checked-in eBPF object, or compare it with its source.
    Ebpf(ebpf::Args),
    /// A virtual machine with real sched_ext kernels and schedulers.
    Vm(vm::Args),
}

fn main() -> std::process::ExitCode {
    let done = match Cli::parse().verb {
        Verb::Ebpf(args) => ebpf::main(&args),
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
