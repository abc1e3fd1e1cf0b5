//! Makes a kernel's cache entry from its packages.

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

/// Unpacks the block device's driver and what it needs, named so that their order is the order to load them in.
fn early_modules(modules: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    let dependencies = fs::read_to_string(modules.join("modules.dep"))?;
    let line = dependencies
        .lines()
        .find(|line| line.split_once(':').is_some_and(|(path, _)| path.contains("/virtio_blk.ko")));
    let Some((driver, needs)) = line.and_then(|line| line.split_once(':')) else {
        return Ok(()); // built into this kernel
    };
    // modules.dep lists the nearest first; the furthest must be loaded first.
    let order = needs.split_whitespace().rev().chain([driver]);
    for (index, module) in order.enumerate() {
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
