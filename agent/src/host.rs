//! The host is a path: every place where the node's facts are read starts at one of these roots.
//!
//! In a DaemonSet they point into hostPath mounts, in tests into temporary directories and recorded trees.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the host's pseudo file systems are mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostRoots {
    /// The host's /proc (`--proc-root`).
    pub proc: PathBuf,
    /// The host's /sys (`--sys-root`).
    pub sys: PathBuf,
    /// The host's cgroup tree (`--cgroup-root`).
    pub cgroup: PathBuf,
    /// The host's /run (container runtimes' state and sockets) (`--run-root`).
    pub run: PathBuf,
    /// The host's /var (kubelet's sockets, pod log directories) (`--var-root`).
    pub var: PathBuf,
}

impl Default for HostRoots {
    fn default() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            cgroup: "/sys/fs/cgroup".into(),
            run: "/run".into(),
            var: "/var".into(),
        }
    }
}
