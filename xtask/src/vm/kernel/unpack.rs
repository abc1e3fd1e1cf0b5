//! Makes a kernel's cache entry from its packages.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::archives;
use crate::cache::Cache;
use crate::process;
use crate::vm::tools::{Tree, ext4};

/// Fills the entry of kernel `version`.
pub(super) fn kernel(cache: &Cache, version: &str, to: &Path) -> Result<()> {
    let unpacked = tempfile::tempdir_in(to)?;
    let root = unpacked.path();
    let [split, whole] = ["binary", "image"].map(|part| format!("linux-{part}-{version}"));
    let mut served = false;
    for apt in archives(cache)? {
        let packages = if apt.names(&split)?.contains(&split) {
            ["base", "binary", "modules"].map(|part| format!("linux-{part}-{version}")).to_vec()
        } else if apt.names(&whole)?.contains(&whole) {
            vec![whole]
        } else {
            continue;
        };
        apt.unpack(&packages, root)?;
        served = true;
        break;
    }
    ensure!(served, "the archive serves no kernel {version}");

    let modules =
        ["usr/lib/modules", "lib/modules"].map(|path| root.join(path)).into_iter().find(|path| path.is_dir());
    let modules = modules.with_context(|| format!("the packages of {version} hold no modules"))?;
    let home = modules.join(version);
    for (from, name) in [("vmlinuz", "vmlinuz"), ("config", "config")] {
        let places = [home.join(from), root.join(format!("boot/{from}-{version}"))];
        let found = places.iter().find(|path| path.is_file());
        let found = found.with_context(|| format!("the packages of {version} hold no {from}"))?;
        fs::copy(found, to.join(name))?;
    }
    // libbpf reads it as /boot/config-`uname -r`; the guest links it there.
    fs::copy(to.join("config"), home.join("config"))?;

    let tools = Tree::machine(cache)?;
    // depmod wants lib/modules below its base directory.
    let base = tempfile::tempdir_in(to)?;
    fs::create_dir(base.path().join("lib"))?;
    fs::rename(&modules, base.path().join("lib/modules"))?;
    process::quiet(tools.command("depmod")?.arg("-b").arg(base.path()).arg(version))?;
    let modules = base.path().join("lib/modules");
    early_modules(&modules.join(version), &to.join("early"))?;
    ext4(&modules, &to.join("modules.ext4"), 400)
}

/// What a machine of QEMU needs before it has a disk and a console.
const EARLY: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_console"];

/// Unpacks these drivers, unless they are in the kernel, and what they need, named so that their order is the order to
/// load them in.
fn early_modules(modules: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    let dependencies = fs::read_to_string(modules.join("modules.dep"))?;
    let mut order = Vec::new();
    for driver in EARLY {
        let file = format!("/{driver}.ko");
        let mut lines = dependencies.lines().filter_map(|line| line.split_once(':'));
        let Some((driver, needs)) = lines.find(|(path, _)| path.contains(&file)) else { continue };
        // modules.dep lists the nearest first; the furthest must be loaded first.
        order.extend(needs.split_whitespace().rev().chain([driver]));
    }
    let mut loaded = HashSet::new();
    order.retain(|module| loaded.insert(*module));
    for (index, module) in order.into_iter().enumerate() {
        let path = modules.join(module);
        let plain = match path.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => process::output(Command::new(process::find("xz")?).arg("-dc").arg(&path))?,
            Some("ko") => fs::read(&path)?,
            _ => bail!("{module}: modules packed like this are not known here"),
        };
        fs::write(to.join(format!("{index:02}.ko")), plain)?;
    }
    Ok(())
}
