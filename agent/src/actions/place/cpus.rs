//! CPUs that a group may use: its own and its ancestors' quotas and sets, of v1 and v2 trees.
//!
//! Formats: kernel `Documentation/admin-guide/cgroup-v2.rst` (`cpu.max`: quota or `max`, then the period, us) and
//! `cgroup-v1`'s `cpu.cfs_quota_us` (-1: none), `cpu.cfs_period_us`; lists of CPUs as `0-3,7`.

use std::path::Path;

use super::{Invalid, below, wrong};

/// Online CPUs of the machine, not of this process.
pub(super) fn of_node(sys: &Path) -> Result<u32, Invalid> {
    let path = sys.join("devices/system/cpu/online");
    let text =
        std::fs::read_to_string(&path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    count(&text).ok_or_else(|| wrong(format!("{}: {text:?} is no list of CPUs", path.display())))
}

/// What the tree allows the group; infinite where it says nothing.
pub(super) fn allowed(tree: &Path, path: &str) -> f64 {
    let ancestors = Path::new(path).ancestors().filter_map(Path::to_str);
    let groups = ancestors.map(|path| below(tree, path));
    groups.map(|group| of_group(&group)).fold(f64::INFINITY, f64::min)
}

fn of_group(group: &Path) -> f64 {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let v2 = || read("cpu.max").and_then(|text| quota(text.split_whitespace()));
    let v1 = || {
        let (quota_us, period_us) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
        quota([quota_us.trim(), period_us.trim()].into_iter())
    };
    let set = ["cpuset.cpus.effective", "cpuset.effective_cpus"].into_iter().find_map(read);
    let set = set.as_deref().and_then(count).map_or(f64::INFINITY, f64::from);
    v2().or_else(v1).unwrap_or(f64::INFINITY).min(set)
}

/// `max` and -1 are no quota.
fn quota<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<f64> {
    let (quota_us, period_us) = (words.next()?.parse::<u32>().ok()?, words.next()?.parse::<u32>().ok()?);
    (period_us > 0).then(|| f64::from(quota_us) / f64::from(period_us))
}

fn count(list: &str) -> Option<u32> {
    let mut sum = 0_u32;
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        sum = sum.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (sum > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_and_nonsense_is_none() {
        assert_eq!([count("0-3,7\n"), count("0"), count("0-1")], [Some(5), Some(1), Some(2)]);
        assert_eq!([count(""), count("3-1"), count("a"), count("0-4294967295")], [None; 4]);
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_holds() {
        let tree = tempfile::tempdir().unwrap();
        let group = tree.path().join("pod/app");
        std::fs::create_dir_all(&group).unwrap();
        assert_eq!(allowed(tree.path(), "/pod/app"), f64::INFINITY);
        std::fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        std::fs::write(group.parent().unwrap().join("cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(allowed(tree.path(), "/pod/app"), 0.5);
        std::fs::write(group.join("cpu.max"), "25000 100000\n").unwrap();
        assert_eq!(allowed(tree.path(), "/pod/app"), 0.25);
        std::fs::write(tree.path().join("cpuset.cpus.effective"), "0-1\n").unwrap();
        assert_eq!(allowed(tree.path(), "/"), 2.0);
        for (name, text) in [("cpu.cfs_quota_us", "-1\n"), ("cpu.cfs_period_us", "100000\n")] {
            std::fs::write(tree.path().join(name), text).unwrap();
        }
        assert_eq!(allowed(tree.path(), "/"), 2.0, "no quota");
    }
}
