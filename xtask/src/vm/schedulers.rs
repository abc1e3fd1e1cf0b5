//! Real schedulers, built from their published crates into the cache and run as separate programs: they are GPL-2.0,
//! so nothing of them is kept in this repository or linked into ours.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::tools::Tree;
use crate::cache::Cache;
use crate::process;

/// Crate, version, and the usual time to build it after those before it. Two cores of scx_rustland because the
/// variables it exposes differ; rlfifo is the smallest, bpfland works in BPF alone.
const WANTED: [(&str, &str, &str); 4] = [
    ("scx_rlfifo", "1.1.4", "about 9 minutes of two cores, once"),
    ("scx_rustland", "1.1.4", "about 1 minute"),
    ("scx_rustland", "1.0.10", "about 6 minutes"),
    ("scx_bpfland", "1.1.4", "about 5 minutes"),
];

/// A scheduler in the cache.
pub(crate) struct Scheduler {
    /// `scx_rustland-1.1.4`: the program's name in the guest.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
}

/// Every scheduler that the tests use, built if missing.
pub(crate) fn all(cache: &Cache) -> Result<Vec<Scheduler>> {
    if WANTED.iter().any(|(name, version, _)| cache.existing(name, version).is_none()) {
        // They share a target directory, so one run builds them all and the others wait.
        let _lock = cache.lock("scheduler-build")?;
        let target = cache.workspace("build/schedulers")?;
        let tools = Tree::compilers(cache)?;
        for (name, version, cost) in WANTED {
            cache.entry(name, version, cost, |to| build(&tools, name, version, &target, to))?;
        }
        // Over a gigabyte, and never of use again.
        fs::remove_dir_all(&target).with_context(|| format!("cannot remove {}", target.display()))?;
    }
    WANTED
        .iter()
        .map(|(name, version, cost)| {
            let home = cache.entry(name, version, cost, |_| anyhow::bail!("it vanished from the cache"))?;
            Ok(Scheduler { name: format!("{name}-{version}"), program: home.join("bin").join(name) })
        })
        .collect()
}

fn build(tools: &Tree, name: &str, version: &str, target: &Path, to: &Path) -> Result<()> {
    let llvm = tools.path("usr/lib/llvm-19");
    let library = tools.path("usr/lib/x86_64-linux-gnu");
    let system = Path::new("/usr/lib/x86_64-linux-gnu");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let programs = [llvm.join("bin"), tools.path("usr/bin")];
    let mut cargo = process::background("cargo");
    cargo
        .args(["install", "--quiet", "--locked", "--version", version, "--root"])
        .arg(to)
        .arg(name)
        // Outside of this workspace, or its toolchain file and profile would reach in.
        .current_dir(to)
        .env("CARGO_TARGET_DIR", target)
        .env("PATH", process::join(programs.into_iter().chain(std::env::split_paths(&path))))
        .env("BPF_CLANG", llvm.join("bin/clang"))
        .env("LIBCLANG_PATH", llvm.join("lib"))
        .env("LD_LIBRARY_PATH", process::join(tools.libraries().iter().chain([&llvm.join("lib")])))
        .env("CPATH", process::join([tools.path("usr/include"), tools.path("usr/include/x86_64-linux-gnu")]))
        .env("LIBRARY_PATH", process::join([library.as_path(), system]))
        .env(
            "PKG_CONFIG_PATH",
            process::join([
                library.join("pkgconfig"),
                system.join("pkgconfig"),
                tools.path("usr/share/pkgconfig"),
                "/usr/share/pkgconfig".into(),
            ]),
        )
        .env("LIBSECCOMP_LIB_PATH", library);
    process::shown(&mut cargo)
}
