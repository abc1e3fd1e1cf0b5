//! `cargo xtask ebpf`: builds the eBPF programs into the checked-in object, or checks that they still are that object.
//!
//! The object is the same, byte for byte, wherever it is built: the compiler is the pinned one, libcore's source and
//! the linker are of fixed versions, and no path of the machine goes in. Both tools lie in the cache.

mod build;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

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
    let checked_in = workspace().join("agent-ebpf/sextant.bpf.o");
    let tools = match Tools::get(&Cache::open()?) {
        Err(error) if args.check && !strict() => {
            eprintln!(
                "ebpf: not compared, since a tool is missing (with CI=true this is a failure): {error:#}"
            );
            return Ok(0);
        }
        tools => tools?,
    };
    let folder = tempfile::tempdir()?;
    let built = build::object(&tools, &workspace(), folder.path())?;
    if !args.check {
        fs::copy(&built, &checked_in).with_context(|| format!("cannot write {}", checked_in.display()))?;
        eprintln!("ebpf: wrote {}", said(&checked_in)?);
        return Ok(0);
    }
    if fs::read(&built)? == fs::read(&checked_in).with_context(|| format!("no {}", checked_in.display()))? {
        eprintln!("ebpf: unchanged: {}", said(&checked_in)?);
        return Ok(0);
    }
    let (ours, theirs) = (said(&built)?, said(&checked_in)?);
    // The person may want to look at it.
    let kept = folder.keep();
    bail!(
        "the programs no longer build to the checked-in object\n  checked in: {theirs}\n  built now:  {ours}\n\
         If agent-ebpf, Cargo.lock or the toolchain was meant to change, run `cargo xtask ebpf` and commit the object. \
         What was built stays in {}",
        kept.display()
    )
}

/// Whether a missing tool is a failure: where there is no person to notice.
fn strict() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// `path, size, hash` for a person.
fn said(path: &Path) -> Result<String> {
    let size = fs::metadata(path)?.len();
    let hash = process::output(std::process::Command::new("sha256sum").arg(path))?;
    let hash = String::from_utf8_lossy(&hash);
    let hash = hash.split_whitespace().next().unwrap_or_default();
    Ok(format!("{} ({size} bytes, sha256 {hash})", path.display()))
}

fn workspace() -> PathBuf {
    // Without `..`, since the compiler is told to forget this very path.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_owned)
}
