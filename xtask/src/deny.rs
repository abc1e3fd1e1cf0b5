//! `cargo xtask deny`: the dependency tree against `deny.toml`.

use std::process::Command;

use anyhow::Result;

use crate::cache::Cache;
use crate::{process, tools};

/// Check licences, sources and duplicates; a step of `test` as well.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also ask the advisory database, which needs its own host reachable
    #[arg(long)]
    advisories: bool,
}

/// Checks what was asked for.
pub(crate) fn main(args: &Args) -> Result<u8> {
    check(args.advisories)?;
    Ok(0)
}

/// Fails if `deny.toml` forbids something in the tree; with `advisories` also if a dependency has a known hole.
pub(crate) fn check(advisories: bool) -> Result<()> {
    let program = tools::cargo_deny(&Cache::open()?)?;
    let mut deny = Command::new(program);
    deny.args(["--workspace", "--all-features", "check", "--hide-inclusion-graph"]);
    deny.args(["licenses", "bans", "sources"]);
    if advisories {
        deny.arg("advisories");
    }
    process::shown(&mut deny)
}
