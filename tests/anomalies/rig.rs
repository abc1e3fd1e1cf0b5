//! A node that takes anomalies, and a group with one process that is their target.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::provoke::{CONFIG, KEY, allow, ask, is_of, workers};
use sextant_tests::role::{Role, eventually};

/// A loaded machine may take its time; nothing here is a promise about it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Rig {
    pub(super) dir: tempfile::TempDir,
    pub(super) node: Option<Role>,
    pub(super) group: HandMade,
    pub(super) sleeper: u32,
}

impl Rig {
    /// With lines for `[actions]`.
    pub(super) fn start(name: &str, more: &str) -> Self {
        Self::start_in(HandMade::trees().unwrap().last().unwrap(), name, more)
    }

    /// Its group is in this tree.
    pub(super) fn start_in(tree: &Path, name: &str, more: &str) -> Self {
        let mut group = HandMade::new(tree, name).unwrap();
        let sleeper = group.sleepers("app", 1).unwrap()[0];
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("disk")).unwrap();
        allow(dir.path(), more).unwrap();
        let mut rig = Self { dir, node: None, group, sleeper };
        rig.start_node();
        rig
    }

    pub(super) fn start_node(&mut self) {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let args = ["--config", &path(CONFIG), "--unix-socket", &path("node.sock")];
        self.node = Some(Role::start("node", &self.dir.path().join("node"), &args).unwrap());
    }

    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u32, Value) {
        ask(&self.node.as_ref().unwrap().url, method, path, body, Some(KEY)).unwrap()
    }

    /// A directory on a real disk.
    pub(super) fn disk(&self) -> String {
        self.dir.path().join("disk").to_str().unwrap().to_owned()
    }

    /// Starts one for a minute on the sleeper; its id.
    pub(super) fn provoke(&self, kind: &str, strength: &Value) -> String {
        let body =
            json!({"kind": kind, "target": {"pid": self.sleeper}, "strength": strength, "duration": 60});
        let (status, answer) = self.ask("POST", "/api/v1/anomalies", Some(&body));
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Two workers of 30 %; the anomaly's id.
    pub(super) fn load(&self, workers: u32) -> String {
        let id = self.provoke("cpu", &json!({"percent": 30, "workers": workers}));
        let there = self.in_group(&id);
        assert_eq!(there, workers as usize, "they are in the target's group when it answers");
        id
    }

    /// What `GET` says, once `ready`.
    pub(super) fn view(&self, id: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
        let look = || {
            let (_, view) = self.ask("GET", &format!("/api/v1/anomalies/{id}"), None);
            ensure!(ready(&view), "{view}");
            Ok(view)
        };
        eventually(PATIENCE, what, look).unwrap()
    }

    /// Workers of an anomaly in the target's group.
    pub(super) fn in_group(&self, id: &str) -> usize {
        let procs = fs::read_to_string(self.group.path("app").join("cgroup.procs")).unwrap();
        procs.lines().filter(|pid| is_of(&Path::new("/proc").join(pid), id)).count()
    }

    pub(super) fn nothing_is_left(&self, id: &str) {
        eventually(PATIENCE, "every worker is gone", || {
            let left = workers(id);
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })
        .unwrap();
    }
}

/// The state letter of a process; `t` while a tracer holds it.
pub(super) fn state(pid: u32) -> char {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("State:"));
    line.and_then(|line| line.trim().chars().next()).unwrap_or('-')
}

/// A tree of this machine in which a group has limits for a disk.
pub(super) fn tree_with_limits() -> PathBuf {
    for tree in HandMade::trees().unwrap() {
        let _may_be_on = fs::write(tree.join("cgroup.subtree_control"), "+io");
        let probe = HandMade::new(&tree, "probe").unwrap();
        if ["io.max", "blkio.throttle.read_bps_device"].iter().any(|name| probe.path(name).exists()) {
            return tree;
        }
    }
    panic!("no tree with limits for a disk: the kernel has neither the io nor the blkio controller");
}
