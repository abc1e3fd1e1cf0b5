//! A node in a container of sorts, as the anomalies component of the manifests runs it: with a network and a view of cgroups
//! of its own. What is asked for is meant for the host's all the same. Here the host is what a made-up `/proc` shows as the
//! first process: one in the target's namespace, and in this test's own view of cgroups.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command};

use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::netns::{Echo, Lab, PEER, Side, p50, round_trips};
use sextant_tests::provoke::{CONFIG, KEY, allow, ask, is_of, workers};
use sextant_tests::role::Role;

use super::{MS, PORT, at, lab};

/// A process in the host's network, in a group if there is one.
struct Sleeper(Child);

impl Sleeper {
    fn start(lab: &Lab, group: Option<&Path>) -> Self {
        let netns = format!("--net={}", lab.path(Side::Target).display());
        let sleeper = Self(Command::new("nsenter").args([&netns, "sleep", "86400"]).spawn().unwrap());
        if let Some(group) = group {
            std::fs::write(group.join("cgroup.procs"), sleeper.0.id().to_string()).unwrap();
        }
        sleeper
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// All that the node reads of `/proc`, with another process as the first.
fn proc(dir: &Path, first: &Sleeper, target: &Sleeper) {
    std::fs::create_dir(dir).unwrap();
    for name in ["self", "meminfo", "stat", "sys", &target.0.id().to_string()] {
        symlink(Path::new("/proc").join(name), dir.join(name)).unwrap();
    }
    symlink(Path::new("/proc").join(first.0.id().to_string()), dir.join("1")).unwrap();
}

#[test]
fn what_a_contained_node_is_asked_for_happens_to_the_host() {
    let (_alone, lab) = lab("box");
    let groups = HandMade::new(HandMade::trees().unwrap().last().unwrap(), "box").unwrap();
    let (container, app) = (groups.group("container").unwrap(), groups.group("app").unwrap());
    let first = Sleeper::start(&lab, None);
    let target = Sleeper::start(&lab, Some(&app));
    let dir = tempfile::tempdir().unwrap();
    allow(dir.path(), "").unwrap();
    proc(&dir.path().join("proc"), &first, &target);
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let args = ["--config", &path(CONFIG), "--proc-root", &path("proc")];
    let home = dir.path().join("node");
    // Its own network is the one at the other end of the cable.
    let node = Role::start_contained(&container, &lab.path(Side::Peer), "node", &home, &args).unwrap();
    let request = |method: &str, path: &str, body: Option<&Value>| {
        lab.inside(Side::Peer, || ask(&node.url, method, path, body, Some(KEY)).unwrap())
    };
    let provoke = |kind: &str, target: Value, strength: Value| {
        let body = json!({"kind": kind, "target": target, "strength": strength, "duration": 60});
        let (status, view) = request("POST", "/api/v1/anomalies", Some(&body));
        assert_eq!(status, 201, "{view}\n{}", node.log());
        view["id"].as_str().unwrap().to_owned()
    };
    let stop = || assert_eq!(request("DELETE", "/api/v1/anomalies", None).0, 200);
    let pid = json!({"pid": target.0.id()});

    // From within its view the target's group would be `/../app`.
    let id = provoke("cpu", pid.clone(), json!({"percent": 5}));
    let there = std::fs::read_to_string(app.join("cgroup.procs")).unwrap();
    let there = there.lines().filter(|pid| is_of(&Path::new("/proc").join(pid), &id)).count();
    assert_eq!((there, workers(&id).len()), (1, 1), "in the target's group");
    stop();

    let echo = Echo::start(&lab, at(PEER[0], PORT)).unwrap();
    let delay = json!({"delay_ms": 100});
    provoke("network", json!("node"), delay.clone());
    let trips = round_trips(&lab, echo.at, 10, MS).unwrap();
    assert!(p50(&trips).unwrap() >= 100.0, "all of the host is slow: {trips:?}");
    stop();

    // It shares the host's network, and is told apart by its group: nothing else of the host is slow.
    provoke("network", pid, delay);
    let trips = round_trips(&lab, echo.at, 10, MS).unwrap();
    assert!(p50(&trips).unwrap() < 100.0, "who is not the target is spared: {trips:?}");
    stop();

    // Its own group is protected, by the name that the host has for it.
    let own =
        json!({"kind": "cpu", "target": {"cgroup": groups.cgroup("container")}, "strength": {"percent": 5}});
    let (status, answer) = request("POST", "/api/v1/anomalies", Some(&own));
    assert_eq!(status, 403, "{answer}");
    assert!(answer.to_string().contains("node agent's own"), "{answer}");
}
