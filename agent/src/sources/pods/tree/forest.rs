//! Which hierarchy to walk: cgroup v2 has one, v1 one per controller, hybrid hosts have both.
//!
//! Every pod is in all v1 hierarchies or in the v2 one, so one hierarchy is enough and walking two would list
//! each process twice. The first candidate with pods is taken; without any, the first with processes in
//! containers, else the first. While no pod is known the choice is made again from time to time.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use super::{Limits, Tree, Walk, Want};

/// v1 controllers that every runtime uses, in the order of trust; then v2 beside them, then the rest.
const PREFERRED: [&str; 6] = ["pids", "memory", "cpu", "cpu,cpuacct", "systemd", "unified"];

/// Hierarchies that are looked at: the kernel has 15 controllers, each mounted once.
const MAX_HIERARCHIES: usize = 32;

/// Walks until the first new choice while there are no pods, doubling from there: a choice walks everything.
const CHOOSE_AFTER_WALKS: u32 = 10;

/// Most walks between two choices.
const CHOOSE_EVERY_WALKS: u32 = 64 * CHOOSE_AFTER_WALKS;

/// There is no cgroup tree to walk.
#[derive(Debug, Error)]
pub(in super::super) enum TreeError {
    /// The cgroup root cannot be read.
    #[error("cannot read the cgroup root {path}")]
    Root {
        /// The root.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Nothing below the root is a cgroup hierarchy.
    #[error("{0} holds no cgroup hierarchy: mount the host's cgroup tree there")]
    Empty(PathBuf),
    /// The hierarchy cannot be opened.
    #[error("cannot open the cgroup hierarchy {path}")]
    Open {
        /// The hierarchy.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
}

/// All hierarchies below the cgroup root, one of which is walked.
pub(in super::super) struct Forest {
    root: PathBuf,
    limits: Limits,
    current: Option<(PathBuf, Tree)>,
    walks_without_pods: u32,
}

impl Forest {
    pub(in super::super) const fn new(root: PathBuf, limits: Limits) -> Self {
        Self { root, limits, current: None, walks_without_pods: 0 }
    }

    /// The hierarchy that is walked.
    pub(in super::super) fn hierarchy(&self) -> Option<&Path> {
        self.current.as_ref().map(|(path, _)| path.as_path())
    }

    /// Walks the chosen hierarchy, choosing first where that is due.
    pub(in super::super) fn walk(&mut self, want: Want) -> Result<Walk, TreeError> {
        let walk = match &mut self.current {
            Some((_, tree)) if !choice_is_due(self.walks_without_pods) => tree.walk(want),
            _ => self.choose(want)?,
        };
        if walk.groups == 0 {
            // Its root is gone: unmounted, or another one by now.
            self.current = None;
        }
        self.walks_without_pods = if walk.has_pods() { 0 } else { self.walks_without_pods.wrapping_add(1) };
        Ok(walk)
    }

    fn choose(&mut self, want: Want) -> Result<Walk, TreeError> {
        let candidates = self.candidates()?;
        if let (Some((path, tree)), [only]) = (&mut self.current, candidates.as_slice())
            && path == only
        {
            return Ok(tree.walk(want));
        }
        let mut best: Option<(u8, PathBuf, Tree, Walk)> = None;
        for path in candidates {
            let open = Tree::open(&path, self.limits);
            let mut tree = open.map_err(|source| TreeError::Open { path: path.clone(), source })?;
            let walk = tree.walk(want);
            let rank = if walk.has_pods() { 2 } else { u8::from(!walk.places.is_empty()) };
            if best.as_ref().is_none_or(|(known, ..)| rank > *known) {
                best = Some((rank, path, tree, walk));
            }
            if rank == 2 {
                break;
            }
        }
        let Some((_, path, tree, walk)) = best else { return Err(TreeError::Empty(self.root.clone())) };
        self.current = Some((path, tree));
        Ok(walk)
    }

    fn candidates(&self) -> Result<Vec<PathBuf>, TreeError> {
        let error = |source| TreeError::Root { path: self.root.clone(), source };
        let is_hierarchy = |path: &Path| path.join("cgroup.procs").exists();
        if is_hierarchy(&self.root) {
            return Ok(vec![self.root.clone()]);
        }
        let mut found: Vec<PathBuf> = std::fs::read_dir(&self.root)
            .map_err(error)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_hierarchy(path))
            .take(MAX_HIERARCHIES)
            .collect();
        found.sort_by_key(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
            (PREFERRED.iter().position(|known| *known == name).unwrap_or(PREFERRED.len()), name)
        });
        Ok(found)
    }
}

/// After 10, 20, 40 ... 640, 1280, 1920 ... walks.
const fn choice_is_due(walks_without_pods: u32) -> bool {
    let doubled = walks_without_pods.is_multiple_of(CHOOSE_AFTER_WALKS)
        && (walks_without_pods / CHOOSE_AFTER_WALKS).is_power_of_two();
    walks_without_pods != 0 && (doubled || walks_without_pods.is_multiple_of(CHOOSE_EVERY_WALKS))
}
