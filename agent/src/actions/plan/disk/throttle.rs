//! The kernel's limits for what a group may do with a disk, as lines to write and lines that undo them.
//!
//! Formats: `io.max` of kernel `Documentation/admin-guide/cgroup-v2.rst` (`MAJ:MIN rbps=N wbps=N riops=N wiops=N`, `max`
//! for none); `blkio.throttle.*_device` of `cgroup-v1/blkio-controller.rst` (`MAJ:MIN N`, 0 for none). Both know whole
//! disks only.

use std::path::{Path, PathBuf};

use super::invalid;
use crate::actions::order::{Change, Directory};
use crate::actions::worker::device_of;
use crate::domain::action::{DiskSlow, Invalid};

/// `MAJ:MIN` of the disk on which a path lies.
pub(super) fn device(place: &Directory, sys: &Path) -> Result<String, Invalid> {
    let wrong = |why: String| invalid("strength.path", why);
    let (major, minor) = device_of(place).map_err(wrong)?;
    let of_path = format!("{major}:{minor}");
    let block = sys.join("dev/block").join(&of_path);
    if !block.exists() {
        let why = format!("{} is on no disk of its own (device {of_path}): name a path that is", place.path);
        return Err(wrong(why));
    }
    if !block.join("partition").exists() {
        return Ok(of_path);
    }
    let disk = std::fs::canonicalize(&block).ok().and_then(|path| Some(path.parent()?.join("dev")));
    let disk = disk.and_then(|path| std::fs::read_to_string(path).ok());
    disk.map(|text| text.trim().to_owned())
        .ok_or_else(|| wrong(format!("the disk of {of_path} is not known")))
}

/// What is to be written to the files of the target's group.
pub(super) fn changes(own: &[PathBuf], device: &str, wanted: &DiskSlow) -> Result<Vec<Change>, Invalid> {
    if let Some(file) = own.iter().map(|group| group.join("io.max")).find(|file| file.exists()) {
        return Ok(vec![unified(file, device, wanted)?]);
    }
    let classic = own.iter().find(|group| group.join("blkio.throttle.read_bps_device").exists());
    if let Some(group) = classic {
        return of_v1(group, device, wanted);
    }
    let why = "no cgroup of its own with io.max or blkio.throttle: the io controller must be on in the \
               cgroup.subtree_control of the group above";
    Err(invalid("target", why.to_owned()))
}

fn unified(file: PathBuf, device: &str, wanted: &DiskSlow) -> Result<Change, Invalid> {
    let limits = [
        ("rbps", wanted.read_bytes_per_s),
        ("wbps", wanted.write_bytes_per_s),
        ("riops", wanted.read_operations_per_s),
        ("wiops", wanted.write_operations_per_s),
    ];
    let set = limits.iter().filter_map(|(key, value)| Some(format!(" {key}={}", (*value)?)));
    let apply = format!("{device}{}", set.collect::<String>());
    let before = read(&file)?;
    let before = before.lines().find(|line| line.split(' ').next() == Some(device));
    let undo =
        before.map_or_else(|| format!("{device} rbps=max wbps=max riops=max wiops=max"), str::to_owned);
    Ok(Change { file, apply, undo })
}

fn of_v1(group: &Path, device: &str, wanted: &DiskSlow) -> Result<Vec<Change>, Invalid> {
    let limits = [
        ("read_bps", wanted.read_bytes_per_s),
        ("write_bps", wanted.write_bytes_per_s),
        ("read_iops", wanted.read_operations_per_s),
        ("write_iops", wanted.write_operations_per_s),
    ];
    let change = |(key, value): (&str, Option<u64>)| {
        let value = value?;
        let file = group.join(format!("blkio.throttle.{key}_device"));
        Some(read(&file).map(|text| {
            let before = text.lines().find_map(|line| line.split_once(' ').filter(|(dev, _)| *dev == device));
            let undo = format!("{device} {}", before.map_or("0", |(_, value)| value));
            Change { file, apply: format!("{device} {value}"), undo }
        }))
    };
    limits.into_iter().filter_map(change).collect()
}

fn read(file: &Path) -> Result<String, Invalid> {
    std::fs::read_to_string(file).map_err(|error| invalid("target", format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: DiskSlow = DiskSlow {
        path: String::new(),
        read_bytes_per_s: None,
        write_bytes_per_s: Some(1_000),
        read_operations_per_s: Some(10),
        write_operations_per_s: None,
    };

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn limits_that_were_there_come_back() {
        let before = "8:0 rbps=max wbps=5 riops=max wiops=max";
        let dir = group(&[("io.max", &format!("8:16 rbps=1 wbps=max riops=max wiops=max\n{before}\n"))]);
        let lines = |device: &str| {
            let mut changes = changes(&[dir.path().to_owned()], device, &WANTED).unwrap();
            let Change { apply, undo, .. } = changes.remove(0);
            (apply, undo)
        };
        assert_eq!(lines("8:0"), ("8:0 wbps=1000 riops=10".to_owned(), before.to_owned()));
        assert_eq!(lines("8:1").1, "8:1 rbps=max wbps=max riops=max wiops=max");
    }

    #[test]
    fn the_older_interface_has_a_file_for_each() {
        let files = ["read_bps", "write_bps", "read_iops", "write_iops"]
            .map(|key| format!("blkio.throttle.{key}_device"));
        let dir = group(&[(&files[0], ""), (&files[1], "8:0 7\n"), (&files[2], "8:1 3\n"), (&files[3], "")]);
        let changes = changes(&[dir.path().to_owned()], "8:0", &WANTED).unwrap();
        let lines: Vec<_> = changes.iter().map(|it| (&*it.apply, &*it.undo)).collect();
        assert_eq!(lines, [("8:0 1000", "8:0 7"), ("8:0 10", "8:0 0")]);
        assert!(super::changes(&[], "8:0", &WANTED).unwrap_err().why.contains("io controller"));
    }
}
