//! What a `cpu.weight` means here: the kubelet's group of all pods, beside the number of CPUs.

use std::ffi::CString;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::read;

use super::hierarchy::{Hierarchies, Home};
use super::parse;
use crate::domain::usage::Target;
use crate::domain::usage::request::Conversion;

/// Looks at the group of all pods above the first target that has one.
pub(super) fn of_node(
    trees: &Hierarchies,
    targets: &[Target],
    sys: &Path,
    buffer: &mut [u8],
) -> Option<Conversion> {
    let pods = targets.iter().find_map(|target| all_pods(&target.cgroup))?;
    let path = CString::new(format!("./{}/cpu.weight", pods.trim_start_matches('/'))).ok()?;
    let file = openat(trees.root(Home::V2)?, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let length = read(file, &mut *buffer).ok()?;
    let weight = parse::number(&buffer[..length])?;
    let online = std::fs::read_to_string(sys.join("devices/system/cpu/online")).ok()?;
    Conversion::of_node(weight, cpus(online.trim())?)
}

/// The path down to the component that is the kubelet's: `kubepods`, `kubepods.slice`, `kubelet-kubepods.slice`.
fn all_pods(cgroup: &str) -> Option<&str> {
    let name = cgroup.find("kubepods")?;
    Some(cgroup[name..].find('/').map_or(cgroup, |end| &cgroup[..name + end]))
}

/// How many CPUs a list such as `0-3,8` names.
fn cpus(list: &str) -> Option<u32> {
    list.split(',').try_fold(0_u32, |count, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}
