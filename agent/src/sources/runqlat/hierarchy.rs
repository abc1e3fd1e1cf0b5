//! The cgroup hierarchy that tasks are counted in, and the paths of its groups by id.
//!
//! The id of a group is the inode of its directory. A group's path is looked for when its id turns up for the first
//! time: one walk finds all that are new.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Controllers whose own v1 hierarchies are used by every runtime, in the order of trust; the first word is the
/// kernel's name of the controller.
const LEGACY: [&str; 4] = ["pids", "memory", "cpu", "cpu,cpuacct"];
/// Groups walked at most, as in the pods source.
const MAX_GROUPS: usize = 50_000;
/// Levels walked at most, as in the pods source.
const MAX_DEPTH: usize = 64;

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    path: PathBuf,
    controller: Option<String>,
}

impl Hierarchy {
    /// The one that pods are in: v2's, or on a v1 or hybrid host the first that has pods, else v2's or the first.
    pub(super) fn of_root(root: &Path) -> Option<Self> {
        let unified = |path: PathBuf| Self { path, controller: None };
        if root.join("cgroup.controllers").exists() {
            return Some(unified(root.to_owned()));
        }
        let legacy = LEGACY.iter().map(|name| {
            let controller = name.split(',').next().map(str::to_owned);
            Self { path: root.join(name), controller }
        });
        let all = legacy.chain([unified(root.join("unified"))]);
        let mut there: Vec<_> = all.filter(|one| one.path.join("cgroup.procs").exists()).collect();
        let with_pods = there.iter().position(Self::has_pods);
        let v2 = there.iter().position(|one| one.controller.is_none());
        let at = with_pods.or(v2).unwrap_or(0);
        (at < there.len()).then(|| there.swap_remove(at))
    }

    /// The kernel's name of the controller of a v1 hierarchy.
    pub(super) fn controller(&self) -> Option<&str> {
        self.controller.as_deref()
    }

    fn has_pods(&self) -> bool {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().as_bytes().starts_with(b"kubepods"))
    }
}

/// Paths of groups by id, remembered.
#[derive(Debug)]
pub(super) struct Paths {
    hierarchy: Hierarchy,
    known: HashMap<u64, Box<str>>,
}

impl Paths {
    pub(super) fn new(hierarchy: Hierarchy) -> Self {
        Self { hierarchy, known: HashMap::new() }
    }

    /// Learns the paths of these groups, walking once if one of them is new.
    pub(super) fn learn(&mut self, ids: impl IntoIterator<Item = u64>) {
        if ids.into_iter().any(|id| !self.known.contains_key(&id)) {
            // Paths of groups that are gone stay known until they are forgotten: somebody has yet to fold them.
            let found = self.walk();
            self.known.extend(found);
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<&str> {
        self.known.get(&id).map(|path| &**path)
    }

    /// Whether the group is still there, under the path that it was found under.
    pub(super) fn lives(&self, id: u64) -> bool {
        let metadata = |path| fs::symlink_metadata(self.directory(path));
        self.get(id).is_some_and(|path| metadata(path).is_ok_and(|found| found.ino() == id))
    }

    /// Whether there is a group at this path, whatever its id.
    pub(super) fn is_group(&self, path: &str) -> bool {
        self.directory(path).is_dir()
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, mut keep: impl FnMut(u64) -> bool) {
        self.known.retain(|id, _| keep(*id));
    }

    fn directory(&self, path: &str) -> PathBuf {
        self.hierarchy.path.join(path.trim_start_matches('/'))
    }

    fn walk(&self) -> HashMap<u64, Box<str>> {
        let mut found = HashMap::new();
        let Ok(root) = fs::symlink_metadata(&self.hierarchy.path) else { return found };
        found.insert(root.ino(), "/".into());
        let mut left = vec![(String::new(), 0)];
        while let Some((path, depth)) = left.pop() {
            let dir = self.directory(&path);
            // A group that vanishes while we walk is not there any more.
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || found.len() >= MAX_GROUPS {
                    continue;
                }
                let child = format!("{path}/{}", entry.file_name().to_string_lossy());
                found.insert(entry.ino(), child.as_str().into());
                if depth < MAX_DEPTH {
                    left.push((child, depth + 1));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(groups: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for group in groups {
            fs::create_dir_all(root.path().join(group)).expect("a group");
        }
        root
    }

    fn chosen(groups: &[&str], marks: &[&str]) -> Option<(PathBuf, Option<String>)> {
        let root = tree(groups);
        for mark in marks {
            fs::write(root.path().join(mark), "").expect("a file");
        }
        let hierarchy = Hierarchy::of_root(root.path())?;
        let relative = hierarchy.path.strip_prefix(root.path()).expect("below the root").to_owned();
        Some((relative, hierarchy.controller))
    }

    #[test]
    fn pods_decide_which_hierarchy_is_counted_in() {
        let v1 = ["pids/cgroup.procs", "memory/cgroup.procs", "unified/cgroup.procs"];
        let is = |path: &str, controller: Option<&str>| Some((path.into(), controller.map(str::to_owned)));
        assert_eq!(chosen(&["kubepods"], &["cgroup.controllers", "cgroup.procs"]), is("", None));
        assert_eq!(chosen(&["pids", "memory", "unified"], &v1), is("unified", None), "no pods anywhere");
        let groups = ["pids", "memory/kubepods.slice", "unified"];
        assert_eq!(chosen(&groups, &v1), is("memory", Some("memory")));
        let cpu = ["cpu,cpuacct/kubepods", "unified/kubepods"];
        let marks = ["cpu,cpuacct/cgroup.procs", "unified/cgroup.procs"];
        assert_eq!(chosen(&cpu, &marks), is("cpu,cpuacct", Some("cpu")), "the kernel's name of it");
        assert_eq!(chosen(&["elsewhere"], &[]), None);
    }

    #[test]
    fn paths_are_learned_once_and_a_replaced_group_is_another() {
        let root = tree(&["a/b"]);
        let id = |path: &str| fs::metadata(root.path().join(path)).expect("a group").ino();
        let mut paths = Paths::new(Hierarchy { path: root.path().to_owned(), controller: None });
        let (top, below) = (id(""), id("a/b"));
        paths.learn([below]);
        assert_eq!((paths.get(top), paths.get(below), paths.get(1)), (Some("/"), Some("/a/b"), None));
        assert!(paths.lives(below) && paths.is_group("/a/b") && !paths.is_group("/a/c"));
        // Renamed, not removed: the inode of a removed one may be given out again at once.
        fs::rename(root.path().join("a/b"), root.path().join("kept")).expect("moved");
        fs::create_dir(root.path().join("a/b")).expect("a group");
        assert!(!paths.lives(below), "another group under its path");
        assert_eq!(paths.get(below), Some("/a/b"), "known until it is forgotten");
        paths.keep(|id| id == top);
        assert_eq!(paths.get(below), None);
    }
}
