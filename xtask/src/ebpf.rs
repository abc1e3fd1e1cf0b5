//! `cargo xtask ebpf`: builds the eBPF programs into the checked-in objects, or checks that they still are those.
//!
//! An object is the same, byte for byte, wherever it is built: the compiler is the pinned one, libcore's source and
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
    /// Write nothing; fail if the programs no longer build to the checked-in objects.
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
    for built in build::objects(&Tools::get(&Cache::open()?)?, &place.workspace, folder.path())? {
        let object = place.checked_in(&built)?;
        fs::copy(&built, &object).with_context(|| format!("cannot write {}", object.display()))?;
        eprintln!("ebpf: wrote {}", said(&object)?);
    }
    Ok(0)
}

/// Fails if the programs no longer build to the checked-in objects.
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
    let mut changed = Vec::new();
    for built in build::objects(&tools, &place.workspace, folder.path())? {
        let object = place.checked_in(&built)?;
        // One that was never checked in differs too.
        let checked_in = fs::read(&object).unwrap_or_default();
        if fs::read(&built)? == checked_in {
            eprintln!("ebpf: unchanged: {}", said(&object)?);
        } else {
            changed.push(format!("  checked in: {}\n  built now:  {}", object.display(), said(&built)?));
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    // The person may want to look at them.
    let kept = folder.keep();
    bail!(
        "the programs no longer build to the checked-in objects\n{}\nIf agent-ebpf, its dependencies or the toolchain \
         were meant to change, run `cargo xtask ebpf` and commit the objects. What was built stays in {}",
        changed.join("\n"),
        kept.display()
    )
}

struct Place {
    workspace: PathBuf,
}

impl Place {
    fn of_this_workspace() -> Result<Self> {
        // The very path that the compiler sees, so that it can be told to forget it.
        Ok(Self { workspace: fs::canonicalize(crate::workspace())? })
    }

    /// Where the object of this name is kept.
    fn checked_in(&self, built: &Path) -> Result<PathBuf> {
        let name = built.file_name().context("an object without a name")?;
        Ok(self.workspace.join("agent-ebpf/objects").join(name))
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
