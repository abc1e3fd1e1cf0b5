//! A file without a name in somebody else's directory: the kernel takes its space back with the last descriptor.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfs, fstat, fstatvfs, major, minor, openat, openat2};

use crate::actions::order::Directory;

/// A file system's space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actions) struct Space {
    /// In use.
    pub(in crate::actions) used_bytes: u64,
    /// What an ordinary user may still take.
    pub(in crate::actions) free_bytes: u64,
}

/// How full the directory's file system is.
///
/// # Errors
/// No such directory.
pub(in crate::actions) fn space(place: &Directory) -> Result<Space, String> {
    of(&open(place)?)
}

pub(super) fn of(fd: &OwnedFd) -> Result<Space, String> {
    let StatVfs { f_frsize, f_blocks, f_bfree, f_bavail, .. } =
        fstatvfs(fd).map_err(|error| format!("statvfs: {error}"))?;
    let bytes = |blocks: u64| blocks.saturating_mul(f_frsize);
    Ok(Space { used_bytes: bytes(f_blocks.saturating_sub(f_bfree)), free_bytes: bytes(f_bavail) })
}

/// Whether a worker will get its file there, past the page cache if `direct`.
///
/// # Errors
/// No such directory, or a file system that does not give such files.
pub(in crate::actions) fn takes_files(place: &Directory, direct: bool) -> Result<(), String> {
    nameless(place, if direct { OFlags::DIRECT } else { OFlags::empty() }).map(drop)
}

/// Major and minor number of the device that a path of somebody's is on.
///
/// # Errors
/// No such path.
pub(in crate::actions) fn device_of(place: &Directory) -> Result<(u32, u32), String> {
    let file = resolve(place, OFlags::empty())?;
    let stat = fstat(file).map_err(|error| format!("{}: {error}", place.path))?;
    Ok((major(stat.st_dev), minor(stat.st_dev)))
}

/// The directory, without leaving its owner's root.
pub(super) fn open(place: &Directory) -> Result<OwnedFd, String> {
    resolve(place, OFlags::DIRECTORY)
}

fn resolve(place: &Directory, more: OFlags) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, &place.root, flags | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| format!("{}: {error}", place.root.display()))?;
    openat2(root, &place.path, flags | more, Mode::empty(), ResolveFlags::IN_ROOT)
        .map_err(|error| format!("{} below {}: {error}", place.path, place.root.display()))
}

/// A nameless file in it.
pub(super) fn nameless(place: &Directory, more: OFlags) -> Result<OwnedFd, String> {
    let directory = open(place)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | more;
    openat(&directory, ".", flags, Mode::RUSR | Mode::WUSR).map_err(|error| {
        let how = if more.contains(OFlags::DIRECT) { " with direct I/O" } else { "" };
        format!("{}: its file system gives no file without a name{how}: {error}", place.path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_out_of_the_root_and_no_name_is_left() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("data")).unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("out")).unwrap();
        let place = |path: &str| Directory { root: root.path().to_owned(), path: path.to_owned() };
        for path in ["/out", "/none", "/../../../../etc/apt"] {
            assert!(open(&place(path)).is_err(), "{path}");
        }
        let file = nameless(&place("/../data"), OFlags::empty()).unwrap();
        rustix::io::pwrite(&file, b"x", 0).unwrap();
        assert_eq!(std::fs::read_dir(root.path().join("data")).unwrap().count(), 0);
        assert!(space(&place("/data")).unwrap().free_bytes > 0);
    }
}
