//! `cargo xtask openapi`: writes the OpenAPI documents of both roles, or checks that they are the binary's.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::output;

/// Write tests/golden/openapi-*.json from the binary, or check them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare; fail when a checked-in document differs
    #[arg(long)]
    check: bool,
}

/// Writes or checks.
pub(crate) fn main(args: &Args) -> Result<u8> {
    if args.check {
        check()?;
    } else {
        for role in ROLES {
            std::fs::write(golden(role), document(role)?)?;
            eprintln!("wrote {}", golden(role).display());
        }
    }
    Ok(0)
}

/// Fails when a checked-in document is not what the binary prints.
pub(crate) fn check() -> Result<()> {
    for role in ROLES {
        let path = golden(role);
        let checked_in = std::fs::read(&path).with_context(|| path.display().to_string())?;
        ensure!(
            checked_in == document(role)?,
            "{} is not the binary's document: look at the change, then `cargo xtask openapi`",
            path.display()
        );
    }
    Ok(())
}

const ROLES: [&str; 2] = ["node", "receiver"];

fn document(role: &str) -> Result<Vec<u8>> {
    output(Command::new(env!("CARGO")).args([
        "run",
        "--quiet",
        "--package",
        "sextant",
        "--",
        "openapi",
        role,
    ]))
}

fn golden(role: &str) -> PathBuf {
    crate::workspace().join(format!("tests/golden/openapi-{role}.json"))
}
