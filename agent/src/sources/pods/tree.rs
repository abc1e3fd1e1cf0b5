//! The cgroup tree, walked: which groups there are and which processes they hold.
//!
//! The tree is remembered between walks. A group whose directory still has the same inode and the same number
//! of subdirectories (cgroupfs keeps `st_nlink` = 2 + subdirectories), and whose known children are all still
//! there, has the same children: its directory is not listed again, and one without subdirectories is not listed
//! at all, which on a node are most of them. Only `cgroup.procs` is read every time.
//! Paths are parsed once per group. A directory's inode is the cgroup id that BPF programs see.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, open, statat};
use rustix::io::Errno;

use super::cgroup::describe;
use super::skipped::{Reason, Skipped};
use crate::domain::pod::{CgroupKind, CgroupRef};

mod forest;
mod read;

pub(super) use forest::{Forest, TreeError};
use read::Buffer;

/// Bounds of one walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Groups.
    pub(super) groups: usize,
    /// Levels below the root.
    pub(super) depth: usize,
    /// Processes.
    pub(super) tasks: usize,
}

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The places and their processes.
    Processes,
    /// The places and their groups: who is in which group, somebody else knows.
    Groups,
}

/// A place with processes: a container, a pod level, a nested service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What the path says.
    pub(super) place: CgroupRef,
    /// Path below the cgroup root.
    pub(super) cgroup: String,
    /// Inode of the topmost directory of this place.
    pub(super) cgroup_id: u64,
    /// Its processes and those of the groups below it, in the order of the tree.
    pub(super) pids: Vec<u32>,
}

/// What one walk saw.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Places that belong to a pod or container.
    pub(super) places: Vec<Place>,
    /// Processes in no place.
    pub(super) host: Vec<u32>,
    /// Processes of pid namespaces that we cannot see into.
    pub(super) foreign: u64,
    /// Groups.
    pub(super) groups: usize,
    /// What was left out.
    pub(super) skipped: Skipped,
    /// If groups were wanted: each group's place, as an index, or none.
    pub(super) owners: HashMap<u64, Option<usize>>,
    tasks: usize,
}

impl Walk {
    /// A pod's cgroup is in this tree.
    pub(super) fn has_pods(&self) -> bool {
        self.places.iter().any(|place| place.place.pod_uid.is_some())
    }
}

#[derive(Default)]
struct Group {
    name: Box<[u8]>,
    id: u64,
    place: CgroupRef,
    listed: bool,
    /// Number of the walk that visited it last.
    visited: u32,
    children: Vec<Group>,
}

/// One hierarchy.
pub(super) struct Tree {
    root: OwnedFd,
    top: Group,
    limits: Limits,
    number: u32,
    want: Want,
    /// This file system counts subdirectories in `st_nlink`: its root told.
    counts_links: bool,
    /// The group's path, with room for a file name behind it.
    path: Vec<u8>,
    buffer: Buffer,
}

/// A group is gone, or is another one under the same name.
struct Vanished;

impl Tree {
    pub(super) fn open(root: &Path, limits: Limits) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(root, flags, Mode::empty())?;
        Ok(Self {
            root,
            top: Group::default(),
            limits,
            number: 0,
            want: Want::Processes,
            counts_links: false,
            path: Vec::new(),
            buffer: Buffer::new(),
        })
    }

    /// Walks the whole hierarchy.
    pub(super) fn walk(&mut self, want: Want) -> Walk {
        let mut walk = Walk::default();
        self.want = want;
        self.number = self.number.wrapping_add(1);
        let mut top = std::mem::take(&mut self.top);
        self.path.clear();
        self.path.push(b'.');
        let _root_never_vanishes = self.visit(&mut top, 0, None, &mut walk);
        self.top = top;
        walk
    }

    /// `owner` is the index of the place that the parent's processes went to.
    fn visit(
        &mut self,
        group: &mut Group,
        depth: usize,
        owner: Option<usize>,
        walk: &mut Walk,
    ) -> Result<(), Vanished> {
        if walk.groups >= self.limits.groups {
            walk.skipped.count(Reason::TooManyGroups);
            return Ok(());
        }
        let links = self.identify(group)?;
        group.visited = self.number;
        walk.groups += 1;
        let owner = self.owner(group, owner, walk);
        match self.want {
            Want::Processes => self.read_procs(owner, walk),
            Want::Groups => _ = walk.owners.insert(group.id, owner),
        }
        if depth >= self.limits.depth {
            walk.skipped.count(Reason::TooDeep);
            return Ok(());
        }
        let subdirectories = links.checked_sub(2);
        if depth == 0 {
            self.list(group, walk);
            self.counts_links = subdirectories == Some(group.children.len() as u64);
        } else if self.counts_links && subdirectories == Some(0) {
            group.children.clear();
            group.listed = true;
        } else if !group.listed || subdirectories != Some(group.children.len() as u64) {
            self.list(group, walk);
        }
        if self.visit_children(group, depth, owner, walk) {
            self.list(group, walk);
            self.visit_new(group, depth, owner, walk);
        }
        Ok(())
    }

    /// Visits children; true when one had vanished, which means that another may have come.
    fn visit_children(
        &mut self,
        group: &mut Group,
        depth: usize,
        owner: Option<usize>,
        walk: &mut Walk,
    ) -> bool {
        let before = group.children.len();
        let mut children = std::mem::take(&mut group.children);
        children.retain_mut(|child| self.descend(child, depth, owner, walk));
        group.children = children;
        group.children.len() != before
    }

    fn visit_new(&mut self, group: &mut Group, depth: usize, owner: Option<usize>, walk: &mut Walk) {
        let mut children = std::mem::take(&mut group.children);
        children.retain_mut(|child| child.visited == self.number || self.descend(child, depth, owner, walk));
        group.children = children;
    }

    fn descend(&mut self, child: &mut Group, depth: usize, owner: Option<usize>, walk: &mut Walk) -> bool {
        let length = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&child.name);
        let alive = self.visit(child, depth + 1, owner, walk).is_ok();
        self.path.truncate(length);
        alive
    }

    /// Stats the group; a new inode under a known name is a new group. Returns the link count.
    fn identify(&mut self, group: &mut Group) -> Result<u64, Vanished> {
        let stat = self.at(b"\0", |root, path, _| statat(root, path, AtFlags::SYMLINK_NOFOLLOW));
        let stat = match stat {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NODEV | Errno::NOTDIR) => return Err(Vanished),
            // Whatever forbids this also forbids reading its processes, which is where it is counted.
            Err(_) => return Ok(group.children.len() as u64 + 2),
        };
        if group.id != stat.st_ino || !group.listed {
            let path = String::from_utf8_lossy(&self.path[1..]);
            let name = std::mem::take(&mut group.name);
            *group = Group { name, id: stat.st_ino, place: describe(&path), ..Group::default() };
        }
        Ok(stat.st_nlink)
    }

    fn owner(&self, group: &Group, parent: Option<usize>, walk: &mut Walk) -> Option<usize> {
        if group.place.kind == CgroupKind::None {
            return None;
        }
        let same = parent.filter(|&at| walk.places[at].place.same_place(&group.place));
        same.or_else(|| {
            walk.places.push(Place {
                place: group.place.clone(),
                cgroup: String::from_utf8_lossy(&self.path[1..]).into_owned(),
                cgroup_id: group.id,
                pids: Vec::new(),
            });
            Some(walk.places.len() - 1)
        })
    }

    fn read_procs(&mut self, owner: Option<usize>, walk: &mut Walk) {
        let left = self.limits.tasks.saturating_sub(walk.tasks);
        match self.at(b"/cgroup.procs\0", |root, path, buffer| read::procs(root, path, left, buffer)) {
            Ok(procs) => {
                walk.tasks += procs.pids.len();
                walk.foreign += procs.foreign;
                if procs.cut {
                    walk.skipped.count(Reason::TooManyTasks);
                }
                match owner {
                    Some(at) => walk.places[at].pids.extend(procs.pids),
                    None => walk.host.extend(procs.pids),
                }
            }
            Err(errno) => walk.skipped.error(errno),
        }
    }

    /// Lists the children again, keeping the known ones.
    fn list(&mut self, group: &mut Group, walk: &mut Walk) {
        match self.at(b"\0", read::child_names) {
            Ok(names) => {
                let mut known = std::mem::take(&mut group.children);
                let keep = |name: Box<[u8]>| match known.binary_search_by(|child| child.name.cmp(&name)) {
                    Ok(at) => std::mem::take(&mut known[at]),
                    Err(_) => Group { name, ..Group::default() },
                };
                group.children = names.into_iter().map(keep).collect();
                group.listed = true;
            }
            Err(errno) => walk.skipped.error(errno),
        }
    }

    /// Calls with the current path and `suffix`, which ends with the path's only NUL: names come from the kernel.
    fn at<T>(
        &mut self,
        suffix: &[u8],
        call: impl FnOnce(BorrowedFd<'_>, &CStr, &mut Buffer) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let length = self.path.len();
        self.path.extend_from_slice(suffix);
        let path = CStr::from_bytes_with_nul(&self.path).map_err(|_| Errno::INVAL);
        let called = path.and_then(|path| call(self.root.as_fd(), path, &mut self.buffer));
        self.path.truncate(length);
        called
    }
}

#[cfg(test)]
mod tests;
