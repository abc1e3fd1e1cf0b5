//! The host's namespaces. In a container the node has a network of its own, and with cgroup v2 a view of cgroups of its
//! own, since runtimes give both to whoever is not privileged; what a person asks for is meant for the host's. The first
//! process that `/proc` shows is in them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Of this very thread.
const OURS: &str = "/proc/thread-self/ns";

/// The number by which the kernel knows a namespace; none where it may not be looked at.
pub(super) fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// The host's namespace of this kind, `net` or `cgroup`, if it is another one than this thread's.
pub(super) fn of_host(proc: &Path, kind: &str) -> Option<(PathBuf, u64)> {
    let path = proc.join("1/ns").join(kind);
    let inode = inode(&path)?;
    (self::inode(&Path::new(OURS).join(kind)) != Some(inode)).then_some((path, inode))
}

/// Moves this thread, and whatever it starts from now on, to the host's view of cgroups, if it has another one. There the
/// paths of processes are relative to our own group; and where cgroup v2 is mounted with `nsdelegate`, as systemd mounts it,
/// the kernel lets no process of such a view join a group outside of it.
///
/// # Errors
/// The kernel's: without `CAP_SYS_ADMIN` it moves nobody.
pub(super) fn see_all_cgroups(proc: &Path) -> io::Result<()> {
    let Some((path, _)) = of_host(proc, "cgroup") else { return Ok(()) };
    move_into_link_name_space(File::open(path)?.as_fd(), Some(LinkNameSpaceType::ControlGroup))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_is_told_only_where_it_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_host(dir.path(), "net"), None, "it cannot be looked at");
        assert!(see_all_cgroups(dir.path()).is_ok(), "nothing to do");
        let namespaces = dir.path().join("1/ns");
        std::fs::create_dir_all(&namespaces).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", namespaces.join("net")).unwrap();
        assert_eq!(of_host(dir.path(), "net"), None, "it is ours");
        // Any other file has another number.
        std::fs::write(namespaces.join("cgroup"), "").unwrap();
        let (path, inode) = of_host(dir.path(), "cgroup").unwrap();
        assert_eq!((&path, inode), (&namespaces.join("cgroup"), self::inode(&path).unwrap()));
        assert!(see_all_cgroups(dir.path()).is_err(), "and is none to move to");
    }
}
