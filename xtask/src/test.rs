//! `cargo xtask test`: the one gate. Runs every check there is, in the order in which they fail fastest, goes
//! on after a failure, and names all failures at the end.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::process::{shown, tested};
use crate::{deny, ebpf, openapi, tools, vm};

/// Run every test there is.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the virtual machine (for a quick look while working; the gate never does)
    #[arg(long)]
    no_vm: bool,
    /// Only the steps whose name contains one of these words
    steps: Vec<String>,
}

struct Step {
    name: &'static str,
    /// What it proves, in the words of its failure's reader.
    proves: &'static str,
    run: fn() -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "format", proves: "rustfmt agrees", run: || cargo(&["fmt", "--all", "--check"]) },
    Step { name: "lint", proves: "no warning from rustc or clippy in any target", run: lint },
    Step { name: "test", proves: "unit, integration, compatibility and fault tests", run: test },
    Step { name: "doc", proves: "the API documentation builds without a broken link", run: doc },
    Step {
        name: "openapi",
        proves: "the checked-in OpenAPI documents are the binary's",
        run: openapi::check,
    },
    Step {
        name: "deny",
        proves: "every dependency has a permissive licence and comes from the registry",
        run: || deny::check(false),
    },
    Step { name: "ebpf", proves: "the eBPF programs build to the checked-in object", run: ebpf::check },
    Step { name: "vm", proves: "real kernels, real schedulers, real containers", run: vm::test_all },
];

/// Runs the steps; fails if one did.
pub(crate) fn main(args: &Args) -> Result<u8> {
    let mut done: Vec<(&Step, Duration, Result<()>)> = Vec::new();
    for step in STEPS.iter().filter(|step| args.wants(step)) {
        eprintln!("\n━━ {}: {}", step.name, step.proves);
        let started = Instant::now();
        let result = (step.run)();
        if let Err(error) = &result {
            eprintln!("━━ {} failed: {error:#}", step.name);
        }
        done.push((step, started.elapsed(), result));
    }
    Ok(report(&done))
}

impl Args {
    fn wants(&self, step: &Step) -> bool {
        let named = self.steps.is_empty() || self.steps.iter().any(|word| step.name.contains(word.as_str()));
        named && !(self.no_vm && step.name == "vm")
    }
}

fn report(done: &[(&Step, Duration, Result<()>)]) -> u8 {
    eprintln!("\n━━ summary");
    for (step, took, result) in done {
        let word = if result.is_ok() { "ok    " } else { "FAILED" };
        eprintln!("{word} {:<10} {:>4} s", step.name, took.as_secs());
    }
    for (step, error) in done.iter().filter_map(|(step, _, result)| Some((step, result.as_ref().err()?))) {
        eprintln!("\n━━ {} failed: {error:#}", step.name);
    }
    let failed = done.iter().filter(|(.., result)| result.is_err()).count();
    println!("{} passed, {failed} failed", done.len() - failed);
    if failed == 0 && !done.is_empty() { 0 } else { 1 }
}

fn lint() -> Result<()> {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ])
}

fn test() -> Result<()> {
    // The tests run the binary itself, so it is built first; they find it beside themselves.
    cargo(&["build", "--quiet", "--package", "sextant"])?;
    // Noted in the cache, where the packaging tests look for them.
    tools::all(&Cache::open()?)?;
    tested(Command::new(env!("CARGO")).args(["test", "--quiet", "--no-fail-fast"]))
}

/// For those who read the code: private items are documented too, and linked to.
fn doc() -> Result<()> {
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "doc",
        "--quiet",
        "--no-deps",
        "--document-private-items",
        "--package",
        "sextant",
        "--package",
        "agent-ebpf",
    ]);
    shown(command.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links"))
}

fn cargo(args: &[&str]) -> Result<()> {
    shown(Command::new(env!("CARGO")).args(args)).context("see the output above")
}
