//! A recorded host in a temporary directory: cgroup tree, /proc, /run and /var.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::super::tasks::stat;
use crate::host::HostRoots;

pub(in super::super) struct FakeHost(TempDir);

impl FakeHost {
    pub(in super::super) fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        for dir in ["proc", "cgroup", "run", "var"] {
            fs::create_dir(this.path(dir)).unwrap();
        }
        this
    }

    pub(in super::super) fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    pub(in super::super) fn roots(&self) -> HostRoots {
        HostRoots {
            proc: self.path("proc"),
            sys: self.path("sys"),
            cgroup: self.path("cgroup"),
            run: self.path("run"),
            var: self.path("var"),
        }
    }

    /// A process with `/proc/PID/stat`.
    pub(in super::super) fn task(&self, pid: u32, comm: &str) {
        fs::create_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
        let line = stat::line(pid, comm, 1, 3, u64::from(pid) * 10);
        fs::write(self.path(&format!("proc/{pid}/stat")), line).unwrap();
    }

    /// A group of `hierarchy` (empty for a v2 root) and its processes.
    pub(in super::super) fn group(&self, hierarchy: &str, group: &str, pids: &[u32]) {
        let root = self.path("cgroup").join(hierarchy);
        let path = root.join(group.trim_start_matches('/'));
        fs::create_dir_all(&path).unwrap();
        for above in path.ancestors().take_while(|above| above.starts_with(&root)) {
            if !above.join("cgroup.procs").exists() {
                fs::write(above.join("cgroup.procs"), "").unwrap();
            }
        }
        let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(path.join("cgroup.procs"), lines).unwrap();
    }

    pub(in super::super) fn log_directory(&self, namespace: &str, name: &str, uid: &str) {
        fs::create_dir_all(self.path(&format!("var/log/pods/{namespace}_{name}_{uid}"))).unwrap();
    }

    /// containerd's bundle of a container.
    pub(in super::super) fn bundle(&self, id: &str, kind: &str, name: &str) {
        let dir = self.path(&format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}"));
        fs::create_dir_all(&dir).unwrap();
        let text = format!(
            r#"{{"annotations":{{"io.kubernetes.cri.container-type":"{kind}","io.kubernetes.cri.container-name":"{name}"}}}}"#
        );
        fs::write(dir.join("config.json"), text).unwrap();
    }
}
