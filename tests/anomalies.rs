//! Anomalies by the real binary on real cgroups: exactly where and as strong as asked, and gone afterwards whatever
//! happens to the node. Needs root, as joining groups does.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "asks with curl, and waits in real time")]

use std::path::PathBuf;

use anyhow::ensure;
use serde_json::{Value, json};
use sextant_tests::provoke::{KEY, ask, workers};
use sextant_tests::role::{Role, eventually};

#[path = "anomalies/effects.rs"]
mod effects;
#[path = "anomalies/kills.rs"]
mod kills;
#[path = "anomalies/rig.rs"]
mod rig;

use rig::{PATIENCE, Rig};

#[test]
fn a_node_that_is_asked_to_stop_undoes_first() {
    let mut rig = Rig::start("stop", "");
    let id = rig.load(2);
    let node = rig.node.take().unwrap();
    let log = rig.dir.path().join("node/node.log");
    assert_eq!(node.stop().unwrap(), Some(0));
    assert_eq!(workers(&id), Vec::<PathBuf>::new());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("anomaly undone") && log.contains("the node stopped"), "{log}");
}

#[test]
fn the_receiver_is_told_of_each_beginning_and_end_once() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", dir.path(), &[]).unwrap();
    let forward = format!("[node]\nname = \"told\"\n[forward]\nreceiver = {:?}", receiver.url);
    let mut rig = Rig::start("told", &forward);
    let stopped = rig.load(1);
    rig.ask("DELETE", &format!("/api/v1/anomalies/{stopped}"), None);
    let aborted = rig.load(1);
    let told = |wanted: &[(&String, &str)]| {
        let look = || {
            let (_, answer) = ask(&receiver.url, "GET", "/api/v1/nodes/told/anomalies", None, None)?;
            let events = answer["events"].as_array().cloned().unwrap_or_default();
            let told: Vec<_> = events.iter().map(|one| (one["id"].clone(), one["state"].clone())).collect();
            let wanted: Vec<_> = wanted.iter().map(|(id, state)| (json!(id), json!(state))).collect();
            ensure!(told == wanted, "{answer}");
            Ok(events)
        };
        eventually(PATIENCE, "the receiver knows them all", look).unwrap()
    };
    let before = [(&stopped, "running"), (&stopped, "stopped"), (&aborted, "running")];
    told(&before);
    // What ends with the node is told by the next.
    rig.node.take().unwrap().kill().unwrap();
    rig.start_node();
    let events = told(&[&before[..], &[(&aborted, "aborted")]].concat());
    let asked = |event: &Value| (event["kind"].clone(), event["unit"].clone(), event["asked"].clone());
    assert!(events.iter().all(|event| asked(event) == (json!("cpu"), json!("percent_of_core"), json!(30.0))));
    assert!(events.is_sorted_by_key(|event| event["at_ns"].as_i64()), "{events:?}");
}

#[test]
fn the_kill_switch_ends_everything() {
    let rig = Rig::start("switch", "");
    let id = rig.load(1);
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
    let of = |kind: &str, target: Value, strength: Value| json!({"kind": kind, "target": target, "strength": strength});
    let good = cpu(json!("node"), json!(10));
    for (method, path) in [
        ("POST", "/api/v1/anomalies"),
        ("DELETE", "/api/v1/anomalies"),
        ("DELETE", "/api/v1/anomalies/x"),
        ("POST", "/api/anomaly/start"),
        ("POST", "/api/anomaly/stop"),
    ] {
        for key in [None, Some("wrong")] {
            let (status, answer) = ask(&url, method, path, Some(&good), key).unwrap();
            assert_eq!(status, 401, "{method} {path} {key:?}: {answer}");
        }
    }
    for (body, wanted) in [
        (json!({}), 400),
        (json!({"kind": "cpu", "target": "node", "strength": {"percent": 10}, "surprise": 1}), 400),
        (json!({"kind": "quake", "target": "node", "strength": {"percent": 10}}), 400),
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
        (of("memory", json!("node"), json!({"percent": 99.9})), 400),
        (of("memory", json!("node"), json!({"bytes": 1_u64 << 62})), 400),
        (of("memory", json!("node"), json!({"bytes": "$(reboot)"})), 400),
        (of("disk", json!("node"), json!({"mode": "fill", "path": "/tmp", "percent": 99})), 400),
        (of("disk", json!("node"), json!({"mode": "fill", "path": "/no/such", "percent": 90})), 400),
        (of("disk", json!("node"), json!({"mode": "load", "path": "/proc", "operations_per_s": 1})), 400),
        (of("disk", json!("node"), json!({"mode": "slow", "path": "/", "read_operations_per_s": 1})), 400),
        (
            of("disk", json!("node"), json!({"mode": "slow", "path": "/proc", "read_operations_per_s": 1})),
            400,
        ),
        (of("disk", json!("node"), json!({"mode": "erase", "path": "/"})), 400),
        (of("process", json!("node"), json!({"action": "kill"})), 400),
        (of("process", json!({"pid": 1}), json!({"action": "kill"})), 403),
        (of("process", json!({"pid": rig.node.as_ref().unwrap().pid()}), json!({"action": "pause"})), 403),
        (of("process", json!({"pid": rig.sleeper}), json!({"action": "kill", "signal": "11; reboot"})), 400),
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
    let (status, answer) = rig.ask("POST", "/api/anomaly/start", Some(&json!({"type": "sabotage"})));
    assert_eq!(status, 400, "{answer}");
    assert!(answer["detail"].is_string(), "{answer}");
    // Not the delay of the whole machine's network: others use it. `tests/network` delays one of its own.
    for kind in ["memory_stress", "disk_stress"] {
        let body = json!({"type": kind, "duration": 30});
        let (status, answer) = rig.ask("POST", "/api/anomaly/start", Some(&body));
        assert_eq!(answer["message"], json!(format!("Started {kind} anomaly")), "{status}: {answer}");
        assert_eq!(rig.ask("GET", "/api/anomaly/active", None).1[0]["type"], json!(kind));
        assert_eq!(rig.ask("POST", "/api/anomaly/stop", None).0, 200);
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
