//! The same through the node: asked for by a request, told as what it is, gone when the node is.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::netns::{Echo, Lab, PEER, Side, p50, round_trips};
use sextant_tests::provoke::{CONFIG, KEY, allow, ask, workers};
use sextant_tests::role::{Role, eventually};

use super::kill::left_behind;
use super::{MS, PORT, at, lab};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process in the target's namespace.
struct Sleeper(Child);

impl Sleeper {
    fn start(lab: &Lab) -> Self {
        let netns = lab.of(Side::Target);
        Self(Command::new("ip").args(["netns", "exec", &netns, "sleep", "86400"]).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

#[test]
fn a_delay_that_was_asked_for_is_measured_told_and_gone_with_the_node() {
    let (_alone, lab) = lab("node");
    let before = lab.shown().unwrap();
    // Not among the node's own processes, which are protected; the group goes after its process.
    let group = HandMade::new(HandMade::trees().unwrap().last().unwrap(), "network").unwrap();
    let sleeper = Sleeper::start(&lab);
    let procs = group.group("app").unwrap().join("cgroup.procs");
    std::fs::write(procs, sleeper.0.id().to_string()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    allow(dir.path(), "").unwrap();
    let config = dir.path().join(CONFIG);
    let node =
        Role::start("node", &dir.path().join("node"), &["--config", config.to_str().unwrap()]).unwrap();
    let provoke = |strength: Value| {
        let body = json!({"kind": "network", "target": {"pid": sleeper.0.id()}, "strength": strength, "duration": 60});
        ask(&node.url, "POST", "/api/v1/anomalies", Some(&body), Some(KEY)).unwrap()
    };
    for (strength, says) in [
        (json!({}), "asks for nothing"),
        (json!({"delay_ms": -1}), "strength.delay_ms"),
        (json!({"delay_ms": 1, "jitter_ms": 2}), "strength.jitter_ms"),
        (json!({"loss_percent": 101}), "strength.loss_percent"),
        (json!({"partition": true}), "from whom"),
        (json!({"delay_ms": 1, "peers": ["$(reboot)"]}), "no address"),
        (json!({"delay_ms": 1, "ports": ["0-99999"]}), "no port"),
        (json!({"delay_ms": 1, "interfaces": ["; reboot"]}), "no name"),
        (json!({"rate_bits_per_s": 1}), "strength.rate"),
    ] {
        let (status, answer) = provoke(strength.clone());
        assert_eq!(status, 400, "{strength}: {answer}");
        assert!(answer.to_string().contains(says), "{strength}: {answer}");
    }
    assert_eq!(left_behind(&lab, &before).unwrap(), Vec::<String>::new(), "nothing was started");

    // A process' target is known by its pid; this one has its cgroup with others, but a network of its own.
    let (status, view) = provoke(json!({"delay_ms": 100}));
    assert_eq!((status, &view["unit"]), (201, &json!("ms")), "{view}");
    let echo = Echo::start(&lab, at(PEER[0], PORT)).unwrap();
    let trips = round_trips(&lab, echo.at, 20, MS).unwrap();
    assert!(p50(&trips).unwrap() >= 100.0, "{trips:?}");
    let path = format!("/api/v1/anomalies/{}", view["id"].as_str().unwrap());
    eventually(PATIENCE, "it tells what it achieved", || {
        let (_, view) = ask(&node.url, "GET", &path, None, None)?;
        let achieved = view["achieved"].as_f64().context("nothing yet")?;
        ensure!(
            (100.0..200.0).contains(&achieved) && view["details"]["released"].as_u64() > Some(19),
            "{view}"
        );
        Ok(())
    })
    .unwrap();
    assert_eq!(ask(&node.url, "POST", "/api/anomaly/stop", None, Some(KEY)).unwrap().0, 200);
    let trips = round_trips(&lab, echo.at, 20, MS).unwrap();
    assert!(p50(&trips).unwrap() < 100.0, "stopped: {trips:?}");

    // As clients of the reference backend ask for it: 100 ms, which they cannot choose.
    let body = json!({"type": "network_delay", "target": {"pid": sleeper.0.id()}, "duration": 60});
    let (status, answer) = ask(&node.url, "POST", "/api/anomaly/start", Some(&body), Some(KEY)).unwrap();
    assert_eq!((status, &answer["status"]), (200, &json!("success")), "{answer}");
    let (_, active) = ask(&node.url, "GET", "/api/anomaly/active", None, None).unwrap();
    assert_eq!(active[0]["type"], json!("network_delay"), "{active}");
    let trips = round_trips(&lab, echo.at, 20, MS).unwrap();
    assert!(p50(&trips).unwrap() >= 100.0, "{trips:?}");

    // What looks for leftovers takes its port.
    drop(echo);
    node.kill().unwrap();
    eventually(PATIENCE, "the network is what it was", || {
        ensure!(workers(active[0]["id"].as_str().context("id")?).is_empty(), "a worker");
        let left = left_behind(&lab, &before)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .unwrap();
}
