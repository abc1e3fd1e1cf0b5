//! The guest's kernels: the newest of a series that the archive serves, as long as it has sched_ext. An entry holds
//! `vmlinuz`, `config`, `modules.ext4` (mounted on /lib/modules) and `early/`, the modules needed to mount a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::tools::{Tree, ext4};
use crate::cache::Cache;
use crate::debian::Apt;
use crate::process;

/// The series that every change is tested on: a long-term one, and what is coming.
pub(crate) const WANTED: [&str; 2] = ["6.18", NEWEST];
const NEWEST: &str = "newest";
const FLAVOUR: &str = "-cloud-amd64";
/// The archive is asked again for a newer kernel of a series after this long.
const ASK_AGAIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// A kernel in the cache.
pub(crate) struct Kernel {
    /// What `uname -r` will say.
    pub(crate) version: String,
    /// The cache entry.
    pub(crate) home: PathBuf,
}

impl Kernel {
    /// The newest kernel of a series (`6.18`, or `newest` of all), from the cache or the archive. `ask` goes to
    /// the archive even if it was asked lately.
    pub(crate) fn of_series(cache: &Cache, series: &str, ask: bool) -> Result<Self> {
        let note = format!("kernel-{series}");
        let noted = cache
            .note(&note)
            .filter(|(version, age)| !ask && *age < ASK_AGAIN && cache.existing("kernel", version).is_some());
        let version = match noted {
            Some((version, _)) => version,
            None => match newest_served(cache, series) {
                Ok(version) => version,
                Err(error) => {
                    let kept = newest(cache.versions("kernel"), series).with_context(|| {
                        format!("no {series} kernel in the archive and none kept from earlier: {error:#}")
                    })?;
                    eprintln!("vm: using the {series} kernel kept from earlier: {error:#}");
                    kept
                }
            },
        };
        let home = cache.entry("kernel", &version, "40 MB, about 20 s", |to| make(cache, &version, to))?;
        cache.set_note(&note, &version)?;
        Ok(Self { version, home })
    }
}

fn newest_served(cache: &Cache, series: &str) -> Result<String> {
    let names = Apt::guest(cache)?.names("linux-")?;
    // Up to 6.18 or so one package is the kernel; later ones split it and linux-image-X is empty.
    let versions = names.iter().filter_map(|name| {
        let rest = name.strip_prefix("linux-binary-").or_else(|| name.strip_prefix("linux-image-"))?;
        rest.ends_with(FLAVOUR).then(|| rest.to_owned())
    });
    newest(versions, series).with_context(|| format!("the archive serves no {series} kernel for clouds"))
}

/// The highest version of a series.
fn newest(versions: impl IntoIterator<Item = String>, series: &str) -> Option<String> {
    let numbers = |version: &str| {
        let dotted = version.split(['+', '-']).next().unwrap_or_default();
        dotted.split('.').map(|number| number.parse::<u32>().ok()).collect::<Option<Vec<_>>>()
    };
    let wanted = |version: &str| {
        series == NEWEST || version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
    };
    let known = versions.into_iter().filter(|version| wanted(version));
    known.filter_map(|version| Some((numbers(&version)?, version))).max().map(|(_, version)| version)
}

fn make(cache: &Cache, version: &str, to: &Path) -> Result<()> {
    let apt = Apt::guest(cache)?;
    let split = format!("linux-binary-{version}");
    let packages = if apt.names(&split)?.contains(&split) {
        ["base", "binary", "modules"].map(|part| format!("linux-{part}-{version}")).to_vec()
    } else {
        vec![format!("linux-image-{version}")]
    };
    let unpacked = tempfile::tempdir_in(to)?;
    let root = unpacked.path();
    apt.unpack(&packages, root)?;

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
    let config = fs::read_to_string(to.join("config"))?;
    if !config.lines().any(|line| line == "CONFIG_SCHED_CLASS_EXT=y") {
        bail!("kernel {version} is built without CONFIG_SCHED_CLASS_EXT: choose another series");
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

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_is_by_number_and_within_the_series() {
        let served =
            ["6.9.1+deb13-cloud-amd64", "6.18.9+deb13-cloud-amd64", "6.18.15+deb13-cloud-amd64", "6.1.9+x"];
        let served = || served.map(str::to_owned);
        assert_eq!(newest(served(), "6.18").as_deref(), Some("6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(served(), "newest").as_deref(), Some("6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(served(), "6.1").as_deref(), Some("6.1.9+x"));
        assert_eq!(newest(served(), "7"), None);
    }
}
