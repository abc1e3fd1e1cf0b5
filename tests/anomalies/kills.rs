//! Whoever is killed, and whenever: the fault is gone, and nothing is left of it.
//!
//! `SEXTANT_KILLS` sets how often each kind is tried; a few times by default, a hundred for the record.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sextant_tests::provoke::workers;
use sextant_tests::role::eventually;

use super::effects::limits;
use super::rig::{PATIENCE, Rig, state, tree_with_limits};

const KILLS: u32 = 3;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Victim {
    Node,
    OneWorker,
    NodeAndOneWorker,
    AllWorkers,
}

const VICTIMS: [Victim; 4] = [Victim::Node, Victim::OneWorker, Victim::NodeAndOneWorker, Victim::AllWorkers];

fn strengths(rig: &Rig) -> Vec<(&'static str, Value)> {
    let path = rig.disk();
    vec![
        ("cpu", json!({"percent": 20, "workers": 2})),
        ("memory", json!({"bytes": 16 << 20, "workers": 2})),
        ("disk", json!({"mode": "load", "path": path, "bytes_per_s": 1 << 20, "workers": 2})),
        ("disk", json!({"mode": "fill", "path": path, "bytes": 16 << 20})),
        ("disk", json!({"mode": "slow", "path": path, "read_operations_per_s": 7})),
        ("process", json!({"action": "pause"})),
    ]
}

/// Nothing of the anomaly is on the machine.
fn clean(rig: &Rig, id: &str, before: &str) -> Result<()> {
    let left = workers(id);
    ensure!(left.is_empty(), "workers: {left:?}");
    ensure!(state(rig.sleeper) == 'S', "the target is {}", state(rig.sleeper));
    ensure!(limits(rig) == before, "limits: {}", limits(rig));
    ensure!(fs::read_dir(rig.disk())?.count() == 0, "a file");
    Ok(())
}

fn kill(proc: &Path) {
    let pid: i32 = proc.file_name().unwrap().to_str().unwrap().parse().unwrap();
    // One that ended before is as well.
    let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

#[test]
fn whoever_is_killed_at_whatever_moment_nothing_is_left() {
    let kills = std::env::var("SEXTANT_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut rig = Rig::start_in(&tree_with_limits(), "kills", "");
    let before = limits(&rig);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for (kind, strength) in strengths(&rig) {
        let mut longest = Duration::ZERO;
        for round in 0..kills {
            let victim = VICTIMS[round as usize % VICTIMS.len()];
            let id = rig.provoke(kind, &strength);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_millis(seed >> 56));
            let there = workers(&id);
            let doomed: Vec<&PathBuf> = match victim {
                Victim::Node => Vec::new(),
                Victim::OneWorker | Victim::NodeAndOneWorker => there.iter().take(1).collect(),
                Victim::AllWorkers => there.iter().collect(),
            };
            let with_node = matches!(victim, Victim::Node | Victim::NodeAndOneWorker);
            let begun = Instant::now();
            doomed.into_iter().for_each(|worker| kill(worker));
            if with_node {
                rig.node.take().unwrap().kill().unwrap();
            }
            let what = format!("{kind} {strength} is gone after the end of {victim:?}");
            eventually(PATIENCE, &what, || clean(&rig, &id, &before)).unwrap();
            longest = longest.max(begun.elapsed());
            if with_node {
                rig.start_node();
                let (status, view) = rig.ask("GET", &format!("/api/v1/anomalies/{id}"), None);
                // The node may have seen its worker's end, and undone all, before its own came.
                let over_before = victim == Victim::NodeAndOneWorker && status == 404;
                assert!(view["state"] == json!("aborted") || over_before, "{victim:?}: {view}");
            } else {
                rig.view(&id, "it is told as failed", |view| view["state"] == json!("failed"));
            }
        }
        println!("{kind} {strength}: {kills} kills, gone within {} ms", longest.as_millis());
    }
}

/// Negative control: without guards every kind outlives the node, so it is the guards that end them above. The next node
/// finds them by its journal.
#[test]
fn without_guards_every_kind_outlives_the_node_until_the_next_one_sweeps() {
    let mut rig = Rig::start_in(&tree_with_limits(), "unguarded", "unguarded_workers = true\n");
    let before = limits(&rig);
    for (kind, strength) in strengths(&rig) {
        let id = rig.provoke(kind, &strength);
        rig.node.take().unwrap().kill().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        assert!(clean(&rig, &id, &before).is_err(), "{kind}: nothing else ends it");
        rig.start_node();
        clean(&rig, &id, &before).unwrap();
        let log = rig.node.as_ref().unwrap().log();
        assert!(log.contains("an earlier life of this node left anomalies"), "{log}");
    }
}
