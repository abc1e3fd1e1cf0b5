//! Where the files are: cgroup v2 has one tree for everything, v1 one per controller, hybrid hosts have both.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use thiserror::Error;

/// Hierarchies that are looked at: the kernel has 15 controllers, each mounted once.
const MAX_HIERARCHIES: usize = 32;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Which tree a file is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    V2,
    Cpu,
    Cpuacct,
    Memory,
    Blkio,
    Pids,
}

/// v1's controllers in the order of [`Home`], behind v2.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];
const HOMES: usize = CONTROLLERS.len() + 1;

/// There is no cgroup tree to read.
#[derive(Debug, Error)]
pub(super) enum HierarchyError {
    /// The cgroup root cannot be read.
    #[error("cannot read the cgroup root {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Nothing below the root is a cgroup hierarchy with one of our controllers.
    #[error("{} holds no cgroup hierarchy: mount the host's cgroup tree there", .0.display())]
    Empty(PathBuf),
}

/// The trees of this host.
pub(super) struct Hierarchies {
    roots: Vec<OwnedFd>,
    /// Index into `roots`, by [`Home`]; `cpu` and `cpuacct` are often one tree.
    of_home: [Option<usize>; HOMES],
}

impl Hierarchies {
    /// The trees at `root`: itself, or those mounted in it under their controllers' names (`cpu,cpuacct`).
    pub(super) fn open(root: &Path) -> Result<Self, HierarchyError> {
        let error = |source| HierarchyError::Root { path: root.to_owned(), source };
        let is_hierarchy = |path: &Path| path.join("cgroup.procs").exists();
        let mut found: Vec<PathBuf> = if is_hierarchy(root) {
            vec![root.to_owned()]
        } else {
            std::fs::read_dir(root)
                .map_err(error)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| is_hierarchy(path))
                .take(MAX_HIERARCHIES)
                .collect()
        };
        found.sort();
        let mut this = Self { roots: Vec::new(), of_home: [None; HOMES] };
        let mut inodes = Vec::new();
        for path in found {
            let homes = homes(&path);
            let fd = open(&path, DIRECTORY, Mode::empty()).map_err(|errno| error(errno.into()))?;
            let stat = fstat(&fd).map_err(|errno| error(errno.into()))?;
            let wanted: Vec<_> = homes.into_iter().filter(|&home| this.of_home[home].is_none()).collect();
            if wanted.is_empty() {
                continue;
            }
            // `cpu` is a link to `cpu,cpuacct` on most hosts: one tree, one descriptor.
            let known = inodes.iter().position(|known| *known == (stat.st_dev, stat.st_ino));
            let index = known.unwrap_or_else(|| {
                inodes.push((stat.st_dev, stat.st_ino));
                this.roots.push(fd);
                this.roots.len() - 1
            });
            for home in wanted {
                this.of_home[home] = Some(index);
            }
        }
        if this.roots.is_empty() { Err(HierarchyError::Empty(root.to_owned())) } else { Ok(this) }
    }

    /// The tree's root.
    pub(super) fn root(&self, home: Home) -> Option<&OwnedFd> {
        self.of_home[home as usize].map(|index| &self.roots[index])
    }

    /// This host has a tree for it.
    pub(super) const fn has(&self, home: Home) -> bool {
        self.of_home[home as usize].is_some()
    }

    /// Opens a group's directory in every tree that has it. `None` where none of them is the group with this id: it
    /// is gone, or another one has its path by now.
    pub(super) fn group(&self, cgroup: &str, cgroup_id: u64) -> Result<Option<Dirs>, Errno> {
        let Ok(path) = CString::new(format!("./{}", cgroup.trim_start_matches('/'))) else { return Ok(None) };
        let mut dirs = Vec::with_capacity(self.roots.len());
        let mut identified = false;
        for root in &self.roots {
            let dir = match openat(root.as_fd(), &path, DIRECTORY, Mode::empty()) {
                Ok(dir) => Some(dir),
                Err(Errno::NOENT | Errno::NODEV | Errno::NOTDIR | Errno::NAMETOOLONG) => None,
                Err(errno) => return Err(errno),
            };
            if let Some(dir) = &dir {
                identified |= fstat(dir)?.st_ino == cgroup_id;
            }
            dirs.push(dir);
        }
        Ok(identified.then_some(Dirs { dirs, of_home: self.of_home }))
    }
}

/// One group's directories. A directory that was removed stays what it was: its files can no longer be opened, and no
/// other group's ever appear in it.
pub(super) struct Dirs {
    dirs: Vec<Option<OwnedFd>>,
    of_home: [Option<usize>; HOMES],
}

impl Dirs {
    pub(super) fn get(&self, home: Home) -> Option<&OwnedFd> {
        self.dirs[self.of_home[home as usize]?].as_ref()
    }

    /// Descriptors held.
    pub(super) fn count(&self) -> usize {
        self.dirs.iter().flatten().count()
    }
}

/// What a tree holds: indexes of [`Home`].
fn homes(path: &Path) -> Vec<usize> {
    if path.join("cgroup.controllers").exists() {
        return vec![Home::V2 as usize];
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let controllers = name.split(',').filter_map(|name| CONTROLLERS.iter().position(|known| *known == name));
    controllers.map(|index| index + 1).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn group(root: &Path, name: &str) -> u64 {
        std::fs::create_dir_all(root.join(name)).unwrap();
        std::fs::write(root.join("cgroup.procs"), "").unwrap();
        std::fs::metadata(root.join(name)).unwrap().ino()
    }

    #[test]
    fn joint_controllers_are_one_tree_and_links_to_it_too() {
        let root = tempfile::tempdir().unwrap();
        let id = group(&root.path().join("cpu,cpuacct"), "pod/c");
        group(&root.path().join("systemd"), "pod/c");
        for link in ["cpu", "cpuacct"] {
            std::os::unix::fs::symlink("cpu,cpuacct", root.path().join(link)).unwrap();
        }
        let trees = Hierarchies::open(root.path()).unwrap();
        assert_eq!(trees.roots.len(), 1);
        assert!(
            trees.has(Home::Cpu)
                && trees.has(Home::Cpuacct)
                && !trees.has(Home::Memory)
                && !trees.has(Home::V2)
        );
        let dirs = trees.group("/pod/c", id).unwrap().unwrap();
        assert_eq!(dirs.count(), 1);
        assert!(dirs.get(Home::Cpu).is_some() && dirs.get(Home::Memory).is_none());
    }

    #[test]
    fn another_group_under_the_same_path_is_not_it() {
        let root = tempfile::tempdir().unwrap();
        let id = group(root.path(), "pod");
        std::fs::write(root.path().join("cgroup.controllers"), "cpu").unwrap();
        let trees = Hierarchies::open(root.path()).unwrap();
        assert!(trees.has(Home::V2));
        assert!(trees.group("pod", id).unwrap().is_some());
        assert!(trees.group("pod", id + 1).unwrap().is_none());
        assert!(trees.group("/none", id).unwrap().is_none());
        assert!(trees.group("/po\0d", id).unwrap().is_none());
    }

    #[test]
    fn without_any_tree_it_says_so() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(Hierarchies::open(root.path()), Err(HierarchyError::Empty(_))));
        assert!(matches!(Hierarchies::open(&root.path().join("none")), Err(HierarchyError::Root { .. })));
    }
}
