//! What is fetched or built once per machine and kept: `~/.cache/sextant`, or `SEXTANT_CACHE`.
//!
//! An entry is a directory `name/version`. It is made in a temporary directory beside its place and renamed, so it
//! is there whole or not at all, and nothing changes it afterwards. A lock per entry keeps two runs from making the
//! same one twice. What does change (package lists, notes) lies outside the entries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The cache of this machine's user.
pub(crate) struct Cache {
    root: PathBuf,
}

/// Held while something that two runs must not do at once is done.
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    /// The directory named by `SEXTANT_CACHE`, else `$XDG_CACHE_HOME/sextant`, else `~/.cache/sextant`.
    pub(crate) fn open() -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = variable("SEXTANT_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("sextant")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/sextant")))
            .context("neither HOME nor SEXTANT_CACHE is set: set SEXTANT_CACHE to a directory")?;
        fs::create_dir_all(&root).with_context(|| format!("cannot create the cache {}", root.display()))?;
        // Paths go into apt's configuration and to tools that run in other directories.
        Ok(Self { root: fs::canonicalize(&root)? })
    }

    /// A directory for what may change, made if missing.
    pub(crate) fn workspace(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Waits until no other run holds the lock of this name.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.workspace("locks")?.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("cache: waiting for another run that holds {name}");
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(Lock { _file: file })
    }

    /// The entry's directory, if it was made before.
    pub(crate) fn existing(&self, name: &str, version: &str) -> Option<PathBuf> {
        Some(self.root.join(name).join(version)).filter(|path| path.is_dir())
    }

    /// The versions of a name that were made before.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(name)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// The entry's directory; makes it with `make`, which gets an empty directory to fill, if it is missing.
    /// `cost` tells the person how long that usually takes.
    pub(crate) fn entry(
        &self,
        name: &str,
        version: &str,
        cost: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        if let Some(path) = self.existing(name, version) {
            return Ok(path);
        }
        let _lock = self.lock(&format!("{name}-{version}"))?;
        if let Some(path) = self.existing(name, version) {
            return Ok(path);
        }
        eprintln!("cache: making {name} {version} ({cost})");
        let begin = Instant::now();
        let home = self.workspace(name)?;
        let temporary = tempfile::Builder::new().prefix(".new-").tempdir_in(&home)?;
        make(temporary.path()).with_context(|| format!("cannot make {name} {version} for the cache"))?;
        let path = home.join(version);
        fs::rename(temporary.keep(), &path)
            .with_context(|| format!("cannot put {} in place", path.display()))?;
        eprintln!("cache: made {name} {version} in {} s", begin.elapsed().as_secs());
        Ok(path)
    }

    /// What an earlier run noted under this name, and how long ago.
    pub(crate) fn note(&self, name: &str) -> Option<(String, Duration)> {
        let path = self.root.join("notes").join(name);
        let age = fs::metadata(&path).and_then(|data| data.modified()).ok()?.elapsed().unwrap_or_default();
        Some((fs::read_to_string(path).ok()?, age))
    }

    /// Notes something that a later run may find out anew.
    pub(crate) fn set_note(&self, name: &str, text: &str) -> Result<()> {
        let path = self.workspace("notes")?.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A short key for a recipe: another recipe is another entry. Not for security, only for telling apart.
pub(crate) fn key(recipe: &[&str]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in recipe.join("\n").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}
