//! Anomalies by the real binary on real cgroups: exactly where and as strong as asked, and gone afterwards whatever
//! happens to the node. Needs root, as joining groups does.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "asks with curl, and waits in real time")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::role::{Role, eventually};

const KEY: &str = "correct horse battery staple";
/// `printf %s "$KEY" | sha256sum`
const KEY_SHA256: &str = "c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a";
/// A loaded machine may take its time; nothing here is a promise about it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that takes anomalies, and a group with one process that is their target.
struct Rig {
    dir: tempfile::TempDir,
    node: Option<Role>,
    group: HandMade,
    sleeper: u32,
}

impl Rig {
    fn start(name: &str, more: &str) -> Self {
        let mut group = HandMade::new(HandMade::trees().unwrap().last().unwrap(), name).unwrap();
        let sleeper = group.sleepers("app", 1).unwrap()[0];
        let dir = tempfile::tempdir().unwrap();
        let switch = dir.path().join("off");
        let config = format!(
            "[actions]\nenabled = true\nkeys_sha256 = [\"{KEY_SHA256}\"]\nkill_switch = {switch:?}\n{more}"
        );
        std::fs::write(dir.path().join("node.toml"), config).unwrap();
        let mut rig = Self { dir, node: None, group, sleeper };
        rig.start_node();
        rig
    }

    fn start_node(&mut self) {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let args = ["--config", &path("node.toml"), "--unix-socket", &path("node.sock")];
        self.node = Some(Role::start("node", &self.dir.path().join("node"), &args).unwrap());
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u32, Value) {
        ask(&self.node.as_ref().unwrap().url, method, path, body, Some(KEY)).unwrap()
    }

    /// Starts `workers` of 30 % for a minute in the sleeper's group; the anomaly's id.
    fn provoke(&self, workers: u32) -> String {
        let strength = json!({"percent": 30, "workers": workers});
        let body =
            json!({"kind": "cpu", "target": {"pid": self.sleeper}, "strength": strength, "duration": 60});
        let (status, answer) = self.ask("POST", "/api/v1/anomalies", Some(&body));
        assert_eq!(status, 201, "{answer}");
        let id = answer["id"].as_str().unwrap().to_owned();
        assert_eq!(
            self.workers(&id).len(),
            workers as usize,
            "they are in the target's group when it answers"
        );
        id
    }

    /// Workers of an anomaly in the target's group.
    fn workers(&self, id: &str) -> Vec<PathBuf> {
        let procs = std::fs::read_to_string(self.group.path("app").join("cgroup.procs")).unwrap();
        let procs = procs.lines().map(|pid| Path::new("/proc").join(pid));
        procs
            .filter(|proc| std::fs::read_to_string(proc.join("cmdline")).is_ok_and(|line| line.contains(id)))
            .collect()
    }

    fn nothing_is_left(&self, id: &str) {
        eventually(PATIENCE, "every worker is gone", || {
            ensure!(self.workers(id).is_empty(), "{:?}", self.workers(id));
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_load_runs_in_the_targets_group_as_strong_as_asked_until_it_is_stopped() {
    let rig = Rig::start("load", "");
    let id = rig.provoke(1);
    let path = format!("/api/v1/anomalies/{id}");
    let view = eventually(PATIENCE, "it reports what it takes", || {
        let (_, view) = rig.ask("GET", &path, None);
        ensure!(view["achieved"].as_array().is_some_and(|points| points.len() >= 3), "{view}");
        Ok(view)
    })
    .unwrap();
    // How much it gets is the machine's; more than was asked for is never right.
    let achieved = view["achieved_percent"].as_f64().unwrap();
    assert!((1.0..=31.0).contains(&achieved), "{view}");
    let ticks = std::fs::read_to_string(rig.workers(&id)[0].join("stat")).unwrap();
    assert_ne!(
        ticks.rsplit(')').next().unwrap().split(' ').nth(12),
        Some("0"),
        "the kernel saw the load: {ticks}"
    );

    let (status, view) = rig.ask("DELETE", &path, None);
    assert_eq!((status, &view["state"], &view["steps"][0]["undone"]), (200, &json!("stopped"), &json!(true)));
    assert_eq!(rig.workers(&id), Vec::<PathBuf>::new(), "gone when it answers");
}

#[test]
fn after_a_kill_of_the_node_nothing_is_left_and_the_next_one_knows() {
    let mut rig = Rig::start("kill", "");
    let id = rig.provoke(2);
    rig.node.take().unwrap().kill().unwrap();
    rig.nothing_is_left(&id);
    rig.start_node();
    let (status, view) = rig.ask("GET", &format!("/api/v1/anomalies/{id}"), None);
    assert_eq!((status, &view["state"]), (200, &json!("aborted")), "{view}");
}

/// Negative control: without guards the workers outlive the node, so it is the guards that end them above. The next
/// node finds them by its journal.
#[test]
fn without_guards_workers_outlive_the_node_until_the_next_one_sweeps() {
    let mut rig = Rig::start("unguarded", "unguarded_workers = true\n");
    let id = rig.provoke(2);
    rig.node.take().unwrap().kill().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(rig.workers(&id).len(), 2, "nothing else ends a worker");
    rig.start_node();
    assert_eq!(rig.workers(&id), Vec::<PathBuf>::new(), "swept before it listens");
    assert!(rig.node.as_ref().unwrap().log().contains("an earlier life of this node left anomalies"));
}

#[test]
fn a_node_that_is_asked_to_stop_undoes_first() {
    let mut rig = Rig::start("stop", "");
    let id = rig.provoke(2);
    let node = rig.node.take().unwrap();
    let log = rig.dir.path().join("node/node.log");
    assert_eq!(node.stop().unwrap(), Some(0));
    assert_eq!(rig.workers(&id), Vec::<PathBuf>::new());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("anomaly undone") && log.contains("the node stopped"), "{log}");
}

#[test]
fn the_kill_switch_ends_everything() {
    let rig = Rig::start("switch", "");
    let id = rig.provoke(1);
    std::fs::write(rig.dir.path().join("off"), "").unwrap();
    rig.nothing_is_left(&id);
    let (status, answer) = rig.ask("POST", "/api/anomaly/start", Some(&json!({"type": "cpu_stress"})));
    assert_eq!(status, 409, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("kill switch"), "{answer}");
}

#[test]
fn only_a_key_opens_and_no_bad_request_starts_anything() {
    let rig = Rig::start("guard", "");
    let url = rig.node.as_ref().unwrap().url.clone();
    let cpu = |target: Value, percent: Value| json!({"kind": "cpu", "target": target, "strength": {"percent": percent}});
    let good = cpu(json!("node"), json!(10));
    for (method, path) in [
        ("POST", "/api/v1/anomalies"),
        ("DELETE", "/api/v1/anomalies"),
        ("DELETE", "/api/v1/anomalies/x"),
        ("POST", "/api/anomaly/start"),
        ("POST", "/api/anomaly/stop"),
    ] {
        for (key, wanted) in [(None, 401), (Some("wrong"), 403)] {
            let (status, answer) = ask(&url, method, path, Some(&good), key).unwrap();
            assert_eq!(status, wanted, "{method} {path} {key:?}: {answer}");
        }
    }
    for (body, wanted) in [
        (json!({}), 400),
        (json!({"kind": "cpu", "target": "node", "strength": {"percent": 10}, "surprise": 1}), 400),
        (json!({"kind": "quake", "target": "node", "strength": {"percent": 10}}), 400),
        (json!({"kind": "memory", "target": "node", "strength": {"percent": 10}}), 501),
        (cpu(json!("node"), json!(-1)), 400),
        (cpu(json!("node"), json!(0)), 400),
        (cpu(json!("node"), json!(1e300)), 400),
        (cpu(json!("node"), json!("10; reboot")), 400),
        (cpu(json!({"pid": 1}), json!(10)), 403),
        (cpu(json!({"pid": rig.node.as_ref().unwrap().pid()}), json!(10)), 403),
        (cpu(json!({"pid": 4_194_304}), json!(10)), 400),
        (cpu(json!({"pid": "1"}), json!(10)), 400),
        (cpu(json!({"cgroup": "/../../etc"}), json!(10)), 400),
        (cpu(json!({"cgroup": "/$(reboot)"}), json!(10)), 400),
        (cpu(json!({"pod": "no/such"}), json!(10)), 400),
        (cpu(json!({"container": ""}), json!(10)), 400),
        (json!({"kind": "cpu", "target": "node", "strength": {"percent": 10}, "duration": 1e9}), 400),
        (json!({"kind": "cpu", "target": "node", "strength": {"percent": 10, "workers": 1_000_000}}), 400),
        (json!({"kind": "cpu", "target": "node", "strength": {"percent": 90, "workers": 1_000}}), 400),
    ] {
        let (status, answer) = rig.ask("POST", "/api/v1/anomalies", Some(&body));
        assert_eq!(status, wanted, "{body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| !error.is_empty()), "{answer}");
    }
    let mut dry = good;
    dry["dry_run"] = json!(true);
    let (status, plan) = rig.ask("POST", "/api/v1/anomalies", Some(&dry));
    assert_eq!((status, &plan["state"], &plan["steps"][0]["done"]), (200, &json!("planned"), &json!(false)));
    assert_eq!(rig.ask("DELETE", "/api/v1/anomalies/none", None).0, 404);
    assert_eq!(rig.ask("GET", "/api/v1/anomalies", None).1["anomalies"], json!([]), "nothing was started");
}

#[test]
fn the_references_requests_get_its_answers() {
    let rig = Rig::start("reference", "max_percent_of_node = 100\n");
    // Two workers of 90 %: as the reference does it, on machines that have the CPUs.
    let cpus = std::thread::available_parallelism().unwrap().get();
    if cpus >= 2 {
        let body = json!({"type": "cpu_stress", "duration": 30});
        let (status, answer) = rig.ask("POST", "/api/anomaly/start", Some(&body));
        assert_eq!(answer, json!({"status": "success", "message": "Started cpu_stress anomaly"}), "{status}");
        assert_eq!(rig.ask("GET", "/api/anomaly/active", None).1[0]["type"], json!("cpu_stress"));
    }
    let stopped = rig.ask("POST", "/api/anomaly/stop", None).1;
    assert_eq!(stopped, json!({"status": "success", "message": "Stopped all anomalies"}));
    assert_eq!(rig.ask("GET", "/api/anomaly/active", None).1, json!([]));
    for (kind, wanted) in
        [("network_delay", 501), ("memory_stress", 501), ("disk_stress", 501), ("sabotage", 400)]
    {
        let (status, answer) = rig.ask("POST", "/api/anomaly/start", Some(&json!({"type": kind})));
        assert_eq!(status, wanted, "{answer}");
        assert!(answer["detail"].is_string(), "{answer}");
    }
}

#[test]
fn a_node_that_was_not_told_to_takes_none_and_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("node.sock");
    let node = Role::start("node", dir.path(), &["--unix-socket", socket.to_str().unwrap()]).unwrap();
    for (method, path) in
        [("POST", "/api/v1/anomalies"), ("DELETE", "/api/v1/anomalies"), ("POST", "/api/anomaly/start")]
    {
        let (status, answer) = ask(&node.url, method, path, Some(&json!({})), Some(KEY)).unwrap();
        assert_eq!(status, 403, "{answer}");
        assert!(answer.to_string().contains("[actions]"), "{answer}");
    }
    let (status, list) = ask(&node.url, "GET", "/api/v1/anomalies", None, None).unwrap();
    assert_eq!((status, &list["enabled"], &list["anomalies"]), (200, &json!(false), &json!([])));
}

/// Status and JSON of an answer.
fn ask(url: &str, method: &str, path: &str, body: Option<&Value>, key: Option<&str>) -> Result<(u32, Value)> {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-X", method, "-w", "\n%{http_code}", &format!("{url}{path}")]);
    if let Some(key) = key {
        curl.args(["-H", &format!("X-API-Key: {key}")]);
    }
    if let Some(body) = body {
        curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
    }
    let output = String::from_utf8(curl.output()?.stdout)?;
    let (json, status) = output.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, serde_json::from_str(json).with_context(|| json.to_owned())?))
}
