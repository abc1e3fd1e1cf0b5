//! The units in `systemd/`, installed as a package would and started by a systemd that is process 1: nothing that the
//! programs need is closed to them by the sandbox.

#![expect(clippy::disallowed_methods, reason = "runs systemd's own tools")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::netns::{Lab, Side};
use sextant_tests::role::{eventually, sextant};
use sextant_tests::scheduler::{Kind, Scheduler, undisturbed};

use super::roles::dispatches;

use super::roles::curl;

/// Emulated machines are many times slower: a debug build has loaded its programs there in one to three minutes, on the one
/// CPU that the unit may use.
const PATIENCE: Duration = Duration::from_secs(360);

/// Between two looks at a node that starts: each takes of the CPU that it needs.
const LOOK: Duration = Duration::from_secs(5);
const NODE: &str = "http://127.0.0.1:8090";
const DROP_IN: &str = "/run/systemd/system/sextant-node.service.d/control.conf";

/// Where a package puts each file.
const FILES: [(&str, &str); 5] = [
    ("/usr/lib/systemd/system/sextant-node.service", include_str!("../../systemd/sextant-node.service")),
    (
        "/usr/lib/systemd/system/sextant-receiver.service",
        include_str!("../../systemd/sextant-receiver.service"),
    ),
    ("/etc/default/sextant-receiver", include_str!("../../systemd/sextant-receiver.env")),
    ("/usr/lib/sysusers.d/sextant.conf", include_str!("../../systemd/sysusers.d/sextant.conf")),
    ("/usr/lib/tmpfiles.d/sextant.conf", include_str!("../../systemd/tmpfiles.d/sextant.conf")),
];

#[test]
fn both_units_work_inside_their_sandboxes() -> Result<()> {
    install()?;
    undisturbed(a_scheduler_is_read_and_its_numbers_arrive)
}

fn a_scheduler_is_read_and_its_numbers_arrive() -> Result<()> {
    systemctl(&["start", "sextant-receiver", "sextant-node"])?;
    for unit in ["sextant-receiver", "sextant-node"] {
        ensure!(systemctl(&["is-active", unit])? == "active", "{unit}");
    }
    let socket = ["--unix-socket", "/run/sextant/node.sock"];
    let health = run("curl", &[&socket[..], &["-s", "--fail", "http://node/health"]].concat())?;
    ensure!(health.contains("healthy"), "{health}");

    let scheduler = Scheduler::start(Kind::Rustland1_1_4)?;
    eventually(PATIENCE, "the receiver shows the scheduler's counters", || {
        let nodes: Value = serde_json::from_slice(&curl("http://127.0.0.1:8080/api/v1/nodes")?)?;
        ensure!(dispatches(&nodes["nodes"][0]["scheduler"]) > Some(0), "{nodes}");
        Ok(())
    })?;
    eventually(PATIENCE, "pods and run queues are measured", || {
        std::thread::sleep(LOOK);
        let pods: Value = serde_json::from_slice(&curl(&format!("{NODE}/api/v1/pods"))?)?;
        let metrics = String::from_utf8(curl(&format!("{NODE}/metrics"))?)?;
        ensure!(pods.is_object() && metrics.contains("sextant_runqueue_"), "{pods}\n{metrics}");
        Ok(())
    })?;
    // Everything that needs a capability or a system call of its own says so when it lacks it.
    let lacks = lacks()?;
    ensure!(lacks.iter().all(|lack| !refused(lack)), "the sandbox is too narrow: {lacks:?}");
    drop(scheduler);

    without_bpf()?;
    systemctl(&["stop", "sextant-node", "sextant-receiver"])?;
    for unit in ["sextant-receiver", "sextant-node"] {
        let ended = systemctl(&["show", "--property=Result,NRestarts", unit])?;
        ensure!(ended.contains("Result=success") && ended.contains("NRestarts=0"), "{unit}: {ended}");
    }
    Ok(())
}

/// The control: with one line less in the sandbox the same questions have other answers, and all else goes on.
fn without_bpf() -> Result<()> {
    write(DROP_IN, "[Service]\nSystemCallFilter=~bpf\n")?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["restart", "sextant-node"])?;
    let found = eventually(PATIENCE, "the sources say what they lack", || {
        std::thread::sleep(LOOK);
        let lacks = lacks()?;
        ensure!(lacks.iter().any(|lack| refused(lack)), "{lacks:?}");
        Ok(())
    });
    let still_active = systemctl(&["is-active", "sextant-node"]);
    fs::remove_file(DROP_IN)?;
    systemctl(&["daemon-reload"])?;
    found?;
    ensure!(still_active? == "active", "a refused system call ended the node");
    Ok(())
}

/// The drop-in that a node which provokes anomalies is given: every kind works with it, and none without it.
#[test]
fn the_drop_in_opens_what_anomalies_need() -> Result<()> {
    install()?;
    let config = "/etc/sextant/node.toml";
    // An emulated machine takes its time to check a program.
    write(config, "[actions]\nenabled = true\n[http]\nrequest_timeout_ms = 120000\n")?;
    write("/etc/default/sextant-node", &format!("SEXTANT_CONFIG={config}\n"))?;
    let mut targets = HandMade::new(Path::new("/sys/fs/cgroup"), "targets")?;
    // In a network of its own: nothing else goes through that.
    let lab = Lab::new("drop-in")?;
    let sleeper = lab.inside(Side::Target, || targets.sleepers("app", 1))?[0];
    let wanted = [
        ("cpu", json!({"percent": 2, "class": "fifo", "cpus": [0]})),
        ("memory", json!({"bytes": 8 << 20})),
        ("disk", json!({"mode": "fill", "path": "/run", "bytes": 1 << 20})),
        ("process", json!({"action": "pause"})),
        // With a delay, so that it needs its relay.
        ("network", json!({"delay_ms": 20})),
    ];
    for opened in [false, true] {
        if opened {
            write(DROP_IN, include_str!("../../systemd/sextant-node.service.d/anomalies.conf"))?;
            systemctl(&["daemon-reload"])?;
        }
        systemctl(&["restart", "sextant-node"])?;
        for (kind, strength) in &wanted {
            let body =
                json!({"kind": kind, "target": {"pid": sleeper}, "strength": strength, "duration": 60});
            let body = body.to_string();
            let asked = [
                "-s",
                "--unix-socket",
                "/run/sextant/node.sock",
                "-d",
                &body,
                "http://node/api/v1/anomalies",
            ];
            let ask = || {
                let answer: Value = serde_json::from_str(&run("curl", &asked)?)?;
                ensure!((answer["state"] == "running") == opened, "{kind} with drop-in {opened}: {answer}");
                Ok(())
            };
            // A worker that does not begin in time, as on a busy emulated machine, is refused: asked again.
            if opened {
                eventually(PATIENCE, kind, ask)?;
            } else {
                ask()?;
            }
            let all = [
                "-s",
                "--unix-socket",
                "/run/sextant/node.sock",
                "-X",
                "DELETE",
                "http://node/api/v1/anomalies",
            ];
            run("curl", &all)?;
        }
    }
    systemctl(&["stop", "sextant-node"])?;
    fs::remove_file(DROP_IN)?;
    fs::remove_file(config)?;
    systemctl(&["daemon-reload"]).map(drop)
}

/// What the sources of the node lack, in words.
fn lacks() -> Result<Vec<String>> {
    let status: Value = serde_json::from_slice(&curl(&format!("{NODE}/status?format=json"))?)?;
    let sources = status["sources"].as_array().context("sources")?;
    let words = |source: &Value| -> Vec<String> {
        let lacks = source["lacks"].as_array().into_iter().flatten();
        lacks.filter_map(|lack| Some(format!("{}: {}", source["name"].as_str()?, lack.as_str()?))).collect()
    };
    Ok(sources.iter().flat_map(words).collect())
}

/// A sentence about a refusal by the kernel, and not about something that this machine does not have.
fn refused(lack: &str) -> bool {
    let lack = lack.to_lowercase();
    ["permitted", "permission", "cap_", "denied", "refused"].iter().any(|word| lack.contains(word))
}

fn install() -> Result<()> {
    // What a test before left running would keep its file; the first time there is none.
    let _none_yet = systemctl(&["stop", "sextant-node", "sextant-receiver"]);
    fs::copy(sextant(), "/usr/bin/sextant").context("cannot install the binary")?;
    for (path, text) in FILES {
        write(path, text)?;
    }
    write("/etc/default/sextant-node", "SEXTANT_RECEIVER=http://127.0.0.1:8080\n")?;
    run("systemd-sysusers", &[])?;
    run("systemd-tmpfiles", &["--create", "sextant.conf"])?;
    systemctl(&["daemon-reload"])?;
    Ok(())
}

fn write(path: &str, text: &str) -> Result<()> {
    let folder = Path::new(path).parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder)?;
    fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

/// What it says; on failure with what the units said last.
fn systemctl(args: &[&str]) -> Result<String> {
    run("systemctl", args).map_err(|error| {
        let journal = run("journalctl", &["--no-pager", "--lines=60", "--unit=sextant-*"]);
        error.context(journal.unwrap_or_default())
    })
}

fn run(program: &str, args: &[&str]) -> Result<String> {
    let done =
        Command::new(program).args(args).output().with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    let complained = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {args:?}: {} {said} {complained}", done.status);
    Ok(said)
}
