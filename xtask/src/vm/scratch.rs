//! Directories for one run, below `target`: nobody backs that up and `cargo clean` empties it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// An empty directory that is removed when dropped, or by the next run if this one is interrupted.
pub(crate) fn directory() -> Result<TempDir> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/vm");
    fs::create_dir_all(&base)?;
    let base = fs::canonicalize(base)?;
    for entry in fs::read_dir(&base)?.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("run-")?.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Two runs may find the same one.
            let _removed_already = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("run-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(base).context("cannot make a directory for the run")
}
