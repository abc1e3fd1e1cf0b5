//! The guest's kernels: the newest of a series that the archive serves. An entry holds `vmlinuz`, `config`, `modules.ext4` (mounted on /lib/modules) and `early/`, the modules needed to mount a disk.

mod unpack;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cache::Cache;
use crate::debian::{Apt, Mirror};

/// The series that every change is tested on: a long-term one, and what is coming. Both have sched_ext.
pub(crate) const WANTED: [&str; 2] = ["6.18", NEWEST];
/// Without sched_ext, and the oldest that the archive serves: what needs none works there too.
pub(crate) const OLDEST: &str = "6.1";
const NEWEST: &str = "newest";
/// The release before the guest's.
const BEFORE: &str = "bookworm";
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

/// The releases whose kernels are looked at: the guest's, and the one before.
pub(super) fn archives(cache: &Cache) -> Result<[Apt; 2]> {
    Ok([Apt::guest(cache)?, Apt::of(cache, &Mirror::of_this_machine()?, BEFORE)?])
}

impl Kernel {
    /// The newest kernel of a series (`6.18`, or `newest` of all), from the cache or the archive. `ask` goes to
    /// the archive even if it was asked lately.
    pub(crate) fn of_series(cache: &Cache, series: &str, ask: bool) -> Result<Self> {
        let kernel = Self::served_or_kept(cache, series, ask)?;
        let config = fs::read_to_string(kernel.home.join("config"))?;
        let has_sched_ext = config.lines().any(|line| line == "CONFIG_SCHED_CLASS_EXT=y");
        let version = &kernel.version;
        ensure!(
            has_sched_ext || !WANTED.contains(&series),
            "kernel {version} is built without CONFIG_SCHED_CLASS_EXT: choose another series"
        );
        Ok(kernel)
    }

    fn served_or_kept(cache: &Cache, series: &str, ask: bool) -> Result<Self> {
        let note = format!("kernel-{series}");
        let noted = cache
            .note(&note)
            .filter(|(version, age)| !ask && *age < ASK_AGAIN && cache.existing("kernel", version).is_some());
        if let Some((version, _)) = noted {
            return Self::made(cache, version);
        }
        let asked = newest_served(cache, series).and_then(|version| Self::made(cache, version));
        match asked {
            Ok(kernel) => {
                cache.set_note(&note, &kernel.version)?;
                Ok(kernel)
            }
            // Archives drop old series; what was fetched once stays good.
            Err(error) => {
                let kept = newest(cache.versions("kernel"), series).with_context(|| {
                    format!("no {series} kernel from the archive and none kept from earlier: {error:#}")
                })?;
                eprintln!("vm: using the {series} kernel {kept} kept from earlier: {error:#}");
                Self::made(cache, kept)
            }
        }
    }

    fn made(cache: &Cache, version: String) -> Result<Self> {
        let cost = "40 MB, about 20 s";
        let home = cache.entry("kernel", &version, cost, |to| unpack::kernel(cache, &version, to))?;
        Ok(Self { version, home })
    }
}

fn newest_served(cache: &Cache, series: &str) -> Result<String> {
    let mut names = Vec::new();
    for apt in archives(cache)? {
        names.extend(apt.names("linux-")?);
    }
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
        // Older ones have the number of their ABI behind a dash: 6.1.0-41-cloud-amd64.
        let numbers: Vec<u32> = version.split(['.', '-', '+']).map_while(|word| word.parse().ok()).collect();
        (!numbers.is_empty()).then_some(numbers)
    };
    let wanted = |version: &str| {
        series == NEWEST || version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
    };
    let known = versions.into_iter().filter(|version| wanted(version));
    known.filter_map(|version| Some((numbers(&version)?, version))).max().map(|(_, version)| version)
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_is_by_number_and_within_the_series() {
        let served = [
            "6.9.1+deb13-cloud-amd64",
            "6.18.9+deb13-cloud-amd64",
            "6.18.15+deb13-cloud-amd64",
            "6.1.0-9-x",
            "6.1.0-41-x",
        ];
        let served = || served.map(str::to_owned);
        assert_eq!(newest(served(), "6.18").as_deref(), Some("6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(served(), "newest").as_deref(), Some("6.18.15+deb13-cloud-amd64"));
        assert_eq!(newest(served(), "6.1").as_deref(), Some("6.1.0-41-x"));
        assert_eq!(newest(served(), "7"), None);
    }
}
