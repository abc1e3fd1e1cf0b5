//! The guest's root file system: a small Debian with what tests use as second opinion, load and victim. It is kept
//! as an ext4 image, which QEMU opens as a snapshot: every boot begins with the same one.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::tools::{Tree, ext4};
use crate::cache::{Cache, key};
use crate::debian::{GUEST, Mirror};
use crate::process;

/// Raised when the way of making it changes.
const RECIPE: &str = "1";

/// Why each is here: modules and network (kmod, iproute2, iptables, iputils-ping), second opinions (bpftool, jq,
/// procps, strace, socat, curl), load (stress-ng), containers (containerd, runc, crun), libraries of schedulers, and
/// systemd for our units.
const PACKAGES: &str = "bpftool busybox-static ca-certificates containerd crun curl iproute2 iptables iputils-ping \
                        jq kmod libelf1t64 libseccomp2 procps python3-minimal runc socat strace stress-ng systemd zlib1g";

/// The image, made if missing.
pub(crate) fn image(cache: &Cache) -> Result<PathBuf> {
    let version = key(&[RECIPE, GUEST, PACKAGES]);
    let cost = "150 MB, about 2 minutes";
    let home = cache.entry("rootfs", &version, cost, |to| {
        let tools = Tree::machine(cache)?;
        let mirror = Mirror::of_this_machine()?;
        let root = tempfile::tempdir_in(to)?;
        let include = PACKAGES.split_whitespace().collect::<Vec<_>>().join(",");
        let mut make = Command::new(process::find("perl")?);
        make.arg(tools.find("mmdebstrap")?);
        // It starts helpers of its own package.
        let path = std::env::var_os("PATH").unwrap_or_default();
        make.env(
            "PATH",
            process::join([tools.path("usr/bin")].into_iter().chain(std::env::split_paths(&path))),
        );
        make.args(["--quiet", "--mode=root", "--variant=minbase", "--skip=check/empty"]);
        for unread in ["doc", "man", "locale", "info"] {
            make.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
        }
        make.arg(format!("--include={include}")).arg(GUEST).arg(root.path()).arg(mirror.line(GUEST));
        process::quiet(&mut make)
            .context("mmdebstrap makes the root file system and needs to be root for it")?;
        ext4(root.path(), &to.join("rootfs.ext4"), 1500)
    })?;
    Ok(home.join("rootfs.ext4"))
}
