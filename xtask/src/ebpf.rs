//! `cargo xtask ebpf`: builds the eBPF programs into the checked-in object, or checks that they still are that object.
//!
//! The object is the same, byte for byte, wherever it is built: the compiler is the pinned one, libcore's source and
//! the linker are of fixed versions, and no path of the machine goes in. Source and linker lie in the cache.

mod build;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::process;
use tools::Tools;

#[derive(clap::Parser)]
pub(crate) struct Args {
    /// Write nothing; fail if the programs no longer build to the checked-in object.
    #[arg(long)]
    check: bool,
}

/// Rebuilds or compares.
pub(crate) fn main(args: &Args) -> Result<u8> {
    if args.check {
        check()?;
        return Ok(0);
    }
    let place = Place::of_this_workspace()?;
    let folder = tempfile::tempdir()?;
    let built = build::object(&Tools::get(&Cache::open()?)?, &place.workspace, folder.path())?;
    fs::copy(&built, &place.object).with_context(|| format!("cannot write {}", place.object.display()))?;
    eprintln!("ebpf: wrote {}", said(&place.object)?);
    Ok(0)
}

/// Fails if the programs no longer build to the checked-in object.
pub(crate) fn check() -> Result<()> {
    let tools = match Tools::get(&Cache::open()?) {
        Err(error) if !strict() => {
            eprintln!(
                "ebpf: not compared, since a tool is missing (with CI=true that is a failure): {error:#}"
            );
            return Ok(());
        }
        tools => tools?,
    };
    let place = Place::of_this_workspace()?;
    let folder = tempfile::tempdir()?;
    let built = build::object(&tools, &place.workspace, folder.path())?;
    let (ours, theirs) = (said(&built)?, said(&place.object)?);
    if fs::read(&built)? == fs::read(&place.object)? {
        eprintln!("ebpf: unchanged: {theirs}");
        return Ok(());
    }
    // The person may want to look at it.
    let kept = folder.keep();
    bail!(
        "the programs no longer build to the checked-in object\n  checked in: {theirs}\n  built now:  {ours}\n\
         If agent-ebpf, its dependencies or the toolchain were meant to change, run `cargo xtask ebpf` and commit \
         the object. What was built stays in {}",
        kept.display()
    )
}

struct Place {
    workspace: PathBuf,
    object: PathBuf,
}

impl Place {
    fn of_this_workspace() -> Result<Self> {
        // The very path that the compiler sees, so that it can be told to forget it.
        let workspace = fs::canonicalize(crate::workspace())?;
        Ok(Self { object: workspace.join("agent-ebpf/sextant.bpf.o"), workspace })
    }
}

/// Whether a missing tool is a failure: where there is no person to notice.
fn strict() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// `path, size, hash` for a person.
fn said(path: &Path) -> Result<String> {
    let size = fs::metadata(path).with_context(|| format!("no {}", path.display()))?.len();
    let hash = process::output(Command::new("sha256sum").arg(path))?;
    let hash = String::from_utf8_lossy(&hash);
    let hash = hash.split_whitespace().next().unwrap_or_default();
    Ok(format!("{} ({size} bytes, sha256 {hash})", path.display()))
}
