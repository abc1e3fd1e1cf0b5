//! What the build needs besides the pinned toolchain: libcore's source of the same version, and bpf-linker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::debian::Apt;
use crate::process;
use crate::tools::bpf_linker;

/// The toolchain of `rust-toolchain.toml`; another one makes other bytes.
const RUST: &str = "1.95.0";

/// Where everything is.
pub(crate) struct Tools {
    /// `library` of the compiler's source.
    pub(crate) library: PathBuf,
    pub(crate) linker: PathBuf,
    /// The toolchain's directory.
    pub(crate) sysroot: PathBuf,
    /// The triple of this machine.
    pub(crate) host: String,
}

impl Tools {
    /// From the cache, else from the machine's Debian mirror and cargo's registry.
    pub(crate) fn get(cache: &Cache) -> Result<Self> {
        let version = text(Command::new("rustc").arg("-vV"))?;
        let field = |name| version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let release = field("release:").context("rustc tells no release")?;
        ensure!(release == RUST, "the object is built by Rust {RUST}, and this is {release}");
        let host = field("host:").context("rustc tells no host")?.to_owned();
        let sysroot = PathBuf::from(text(Command::new("rustc").args(["--print", "sysroot"]))?);
        Ok(Self { library: library(cache, &sysroot)?, linker: bpf_linker(cache)?, sysroot, host })
    }

    /// A tool that comes with the compiler.
    pub(crate) fn of_rust(&self, name: &str) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(&self.host).join("bin").join(name)
    }
}

/// The toolchain's own source if that component is there, else Debian's.
fn library(cache: &Cache, sysroot: &Path) -> Result<PathBuf> {
    let component = sysroot.join("lib/rustlib/src/rust/library");
    if component.join("Cargo.lock").is_file() {
        return Ok(component);
    }
    let made = cache.entry("rust-src", RUST, "a download of 45 MB, 20 s", |to| {
        let package = tempfile::tempdir_in(to)?;
        // Unpacked, not installed: the package conflicts with rustup.
        Apt::guest(cache)?.unpack(&[format!("rust-src={RUST}*")], package.path())?;
        let library = package.path().join(format!("usr/src/rustc-{RUST}/library"));
        fs::rename(library, to.join("library")).context("the package has no library")
    });
    made.map(|entry| entry.join("library")).with_context(|| {
        format!(
            "no source of Rust {RUST}'s libcore: neither the component (`rustup component add rust-src`) \
             nor Debian's package rust-src of that version can be had"
        )
    })
}

fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8(process::output(command)?)?.trim_end().to_owned())
}
