//! Programs that run on this machine but are not installed on it: unpacked packages and the paths to use them from
//! there. What the machine has already is used as it is.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache::{Cache, key};
use crate::debian::Apt;
use crate::process;

/// Raised when the way of unpacking changes: makes every tree anew.
const RECIPE: &str = "1";

/// Unpacked packages.
pub(crate) struct Tree {
    /// The directory that stands for `/`.
    pub(crate) root: PathBuf,
}

impl Tree {
    /// QEMU and what makes disks for it. QEMU is the backports' one, which is years newer than a stable release's;
    /// it is not installed because that would replace the machine's own QEMU utilities.
    pub(crate) fn machine(cache: &Cache) -> Result<Self> {
        let packages = ["qemu-system-x86", "seabios", "busybox-static", "kmod", "mmdebstrap"];
        Self::make(cache, "vm-tools", &packages, true, "16 MB, about 10 s")
    }

    /// What compiles a scheduler: its BPF half needs a newer clang than a stable release's default.
    pub(crate) fn compilers(cache: &Cache) -> Result<Self> {
        let packages = [
            "clang-19",
            "libclang-19-dev",
            "libelf-dev",
            "zlib1g-dev",
            "libseccomp-dev",
            "libzstd-dev",
            "pkg-config",
            "make",
            "gcc",
        ];
        Self::make(cache, "scheduler-tools", &packages, false, "50 MB, about 15 s")
    }

    fn make(cache: &Cache, name: &str, packages: &[&str], backports: bool, cost: &str) -> Result<Self> {
        let version = key(&[&[RECIPE], packages].concat());
        let root = cache
            .entry(name, &version, cost, |to| Apt::host(cache)?.unpack_closure(packages, backports, to))?;
        Ok(Self { root })
    }

    /// A path inside the tree.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The directories of the tree's shared libraries.
    pub(crate) fn libraries(&self) -> [PathBuf; 2] {
        [self.path("usr/lib/x86_64-linux-gnu"), self.path("lib/x86_64-linux-gnu")]
    }

    /// Where the tree, or else the machine, has a program.
    pub(crate) fn find(&self, program: &str) -> Result<PathBuf> {
        let inside =
            ["usr/bin", "usr/sbin", "bin", "sbin"].map(|folder| self.root.join(folder).join(program));
        let found = inside.into_iter().find(|path| path.symlink_metadata().is_ok());
        let Some(path) = found else {
            return process::find(program);
        };
        // An absolute link means the tree's `/`, not ours.
        let target = path.read_link().ok().and_then(|to| Some(self.root.join(to.strip_prefix("/").ok()?)));
        Ok(target.unwrap_or(path))
    }

    /// A command of the tree that finds the tree's libraries.
    pub(crate) fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(self.find(program)?);
        // Some programs do what the name of their link says.
        command.arg0(program).env("LD_LIBRARY_PATH", process::join(self.libraries()));
        Ok(command)
    }
}

/// An ext4 image of `megabytes` (allocated only as far as used) that holds a copy of a directory.
pub(crate) fn ext4(directory: &Path, image: &Path, megabytes: u64) -> Result<()> {
    let mut make = Command::new(process::find("mke2fs")?);
    make.args(["-q", "-F", "-t", "ext4", "-m", "0", "-d"]).arg(directory).arg(image);
    process::quiet(make.arg(format!("{megabytes}M")))
}
