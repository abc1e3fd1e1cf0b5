//! Whatever moment the worker is killed at: the network is what it was, within a second.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};
use sextant_tests::netns::{Echo, INTERFACE, Lab, PEER, Side, Worker, round_trips};

use super::{MS, PORT, at, lab};

/// Faults of every kind, for the matrix.
fn faults(lab: &Lab) -> Vec<Value> {
    let with = |fault: Value, filter: Value| {
        let mut order = lab.order(&fault);
        order["filter"] = filter;
        order
    };
    vec![
        with(json!({"delay_ns": 200_000_000}), json!({})),
        with(json!({"delay_ns": 100_000_000, "jitter_ns": 90_000_000}), json!({})),
        with(json!({"loss_percent": 80}), json!({})),
        with(json!({"duplicate_percent": 80}), json!({})),
        with(json!({"corrupt_percent": 80}), json!({})),
        with(json!({"delay_ns": 100_000_000, "reorder_percent": 20}), json!({})),
        with(json!({"rate_bits_per_s": 100_000}), json!({})),
        with(json!({"partition": true}), json!({"peers": ["0.0.0.0/0", "::/0"]})),
        with(json!({"delay_ns": 150_000_000}), json!({"direction": "ingress"})),
        with(json!({"loss_percent": 100}), json!({"direction": "ingress"})),
    ]
}

/// What is not as it was before, in words.
pub(super) fn left_behind(lab: &Lab, before: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let shown = lab.shown()?;
    if shown != before {
        left.push(format!("ip and tc show\n{shown}"));
    }
    for way in [TcAttachType::Egress, TcAttachType::Ingress] {
        let (_, programs) = lab.inside(Side::Target, || SchedClassifier::query_tcx(INTERFACE, way))?;
        left.extend(programs.iter().map(|program| format!("{way:?}: {:?}", program.name_as_str())));
    }
    // One that goes while we look cannot be asked for its name.
    let ours = loaded_programs().flatten().filter_map(|program| program.name_as_str().map(str::to_owned));
    left.extend(ours.filter(|name| name.starts_with("sextant_")).map(|name| format!("program {name}")));
    let echo = Echo::start(lab, at(PEER[0], PORT))?;
    let trips = round_trips(lab, echo.at, 5, MS)?;
    let slow = trips.iter().filter(|trip| trip.is_none_or(|trip| trip > 50.0)).count();
    if slow > 0 {
        left.push(format!("round trips {trips:?}"));
    }
    Ok(left)
}

/// Nothing is left within a second; else what is.
fn is_normal(lab: &Lab, before: &str) -> Result<()> {
    let killed = Instant::now();
    loop {
        let began = killed.elapsed();
        let left = left_behind(lab, before)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(began < Duration::from_secs(1), "a second after the kill: {left:?}");
    }
}

#[test]
fn after_a_kill_at_any_moment_the_network_is_what_it_was() {
    let (_alone, lab) = lab("kill");
    let before = lab.shown().unwrap();
    let faults = faults(&lab);
    let mut hit = 0;
    for round in 0..100_u64 {
        let worker = Worker::spawn(&faults[usize::try_from(round).unwrap() % faults.len()], 60).unwrap();
        // From before it attaches anything to well after, with packets held.
        let moment = Duration::from_millis(round * 7_919 % 250);
        let began = Instant::now();
        while began.elapsed() < moment {
            let _some = stream_a_little(&lab);
        }
        hit += usize::from(lab.shown().unwrap() != before || has_program(&lab));
        worker.kill().unwrap();
        is_normal(&lab, &before).unwrap_or_else(|error| panic!("round {round}, {moment:?}: {error:#}"));
    }
    assert!((30..100).contains(&hit), "{hit} of 100 were killed at work");
    println!("{hit} of 100 were killed at work");
}

/// Negative control: somebody who holds the same descriptors, as one who pins them would, keeps the fault alive, and the
/// matrix above would say so.
#[test]
fn a_fault_whose_descriptors_somebody_keeps_is_found() {
    let (_alone, lab) = lab("kept");
    let before = lab.shown().unwrap();
    for fault in &faults(&lab)[..3] {
        let worker = Worker::start(fault, 60).unwrap();
        let kept = descriptors(worker.pid());
        assert!(!kept.is_empty());
        worker.kill().unwrap();
        let error = is_normal(&lab, &before).unwrap_err().to_string();
        assert!(error.contains("sextant_sieve") && error.contains("round trips"), "{error}");
        drop(kept);
        is_normal(&lab, &before).unwrap();
    }
}

/// Copies of a worker's links and TAP.
fn descriptors(pid: u32) -> Vec<OwnedFd> {
    let handle = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let handle = pidfd_open(handle, PidfdFlags::empty()).unwrap();
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let held = entries.filter(|entry| {
        let name = std::fs::read_link(entry.path()).unwrap_or_default();
        ["anon_inode:bpf_link", "anon_inode:bpf-link", "/dev/net/tun"]
            .iter()
            .any(|kind| name.as_os_str() == *kind)
    });
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str().unwrap().parse().unwrap();
    held.map(|entry| pidfd_getfd(&handle, number(entry), PidfdGetfdFlags::empty()).unwrap()).collect()
}

fn has_program(lab: &Lab) -> bool {
    [TcAttachType::Egress, TcAttachType::Ingress].into_iter().any(|way| {
        lab.inside(Side::Target, || SchedClassifier::query_tcx(INTERFACE, way))
            .is_ok_and(|(_, programs)| !programs.is_empty())
    })
}

/// A burst of datagrams to nobody.
fn stream_a_little(lab: &Lab) -> std::io::Result<()> {
    let socket = lab.inside(Side::Target, || std::net::UdpSocket::bind("0.0.0.0:0"))?;
    for _ in 0..20 {
        socket.send_to(&[0; 500], at(PEER[0], PORT + 1))?;
    }
    std::thread::sleep(MS);
    Ok(())
}
