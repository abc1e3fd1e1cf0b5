//! Network anomalies by the real binary, on a cable between two network namespaces: exactly as strong as asked, nothing
//! else touched, and gone whatever happens to the worker. Needs root.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "waits in real time, and starts a shell in a cgroup")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType, loaded_programs};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::netns::{
    Echo, INTERFACE, Lab, OTHER, PEER, Side, Worker, p50, percentile, round_trips, stream, transfer,
};

/// Times and rates are measured: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());
const PORT: u16 = 7_001;
const MS: Duration = Duration::from_millis(1);

fn lab(name: &str) -> (MutexGuard<'static, ()>, Lab) {
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (alone, Lab::new(name).unwrap())
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn count(seen: &Value, field: &str) -> u64 {
    seen[field].as_u64().unwrap_or_else(|| panic!("{seen} has no {field}"))
}

#[test]
fn a_delay_is_what_was_asked_for_in_both_directions_and_families() {
    let (_alone, lab) = lab("delay");
    for address in PEER {
        let echo = Echo::start(&lab, at(address, PORT)).unwrap();
        let before = p50(&round_trips(&lab, echo.at, 300, MS).unwrap()).unwrap();
        for (direction, delays) in [("egress", &[5_u32, 20, 50, 100, 200][..]), ("ingress", &[20])] {
            for delay in delays {
                let mut order = lab.order(&json!({"delay_ns": delay * 1_000_000}));
                order["filter"] = json!({"direction": direction});
                let worker = Worker::start(&order, 60).unwrap();
                let trips = round_trips(&lab, echo.at, 300, MS).unwrap();
                let seen = worker.stop().unwrap();
                let added = p50(&trips).unwrap() - before;
                assert!(
                    (added - f64::from(*delay)).abs() <= 0.5,
                    "{address} {direction} {delay} ms: {added:.3} ms more than {before:.3}; {seen}"
                );
                assert!(trips.iter().all(Option::is_some), "a delay loses nothing: {seen}");
                assert!(count(&seen, "matched") >= 300 && count(&seen, "released") >= 300, "{seen}");
                println!(
                    "{address} {direction} {delay} ms: +{added:.3} p50, {:.3} p99; {seen}",
                    percentile(&trips, 99).unwrap() - before
                );
            }
        }
        let after = p50(&round_trips(&lab, echo.at, 100, MS).unwrap()).unwrap();
        assert!((after - before).abs() < 0.5, "{before} ms before, {after} ms after");
    }
}

#[test]
fn jitter_spreads_evenly_around_the_delay() {
    let (_alone, lab) = lab("jitter");
    let echo = Echo::start(&lab, at(PEER[0], PORT)).unwrap();
    let before = p50(&round_trips(&lab, echo.at, 100, MS).unwrap()).unwrap();
    let order = lab.order(&json!({"delay_ns": 30_000_000, "jitter_ns": 20_000_000}));
    let worker = Worker::start(&order, 60).unwrap();
    let trips = round_trips(&lab, echo.at, 2_000, MS).unwrap();
    let seen = worker.stop().unwrap();
    for (percent, wanted) in [(10, 14.0), (50, 30.0), (90, 46.0)] {
        let added = percentile(&trips, percent).unwrap() - before;
        assert!((added - wanted).abs() < 2.5, "p{percent}: {added} ms instead of {wanted}; {seen}");
    }
}

#[test]
fn loss_is_what_was_asked_for() {
    let (_alone, lab) = lab("loss");
    for (fault, address, percent) in [
        (json!({"loss_percent": 10}), PEER[0], 10.0),
        (json!({"loss_percent": 50}), PEER[1], 50.0),
        // By the relay, packet by packet.
        (json!({"loss_percent": 10, "delay_ns": 5_000_000}), PEER[0], 10.0),
        (json!({"loss_percent": 100}), PEER[0], 100.0),
    ] {
        for from in [Side::Target, Side::Peer] {
            let mut order = lab.order(&fault);
            order["filter"] = json!({"direction": if from == Side::Target { "egress" } else { "ingress" }});
            let worker = Worker::start(&order, 60).unwrap();
            let arrivals = stream(from, &lab, at(address, PORT), (10_000, 64, 50)).unwrap();
            let seen = worker.stop().unwrap();
            let lost = 100.0 - arrivals.len() as f64 / 100.0;
            assert!((lost - percent).abs() <= 1.0, "{fault} {from:?}: {lost} %; {seen}");
            assert_eq!(
                count(&seen, "matched") - count(&seen, "dropped"),
                arrivals.len() as u64,
                "every packet is accounted for: {seen}"
            );
        }
    }
}

#[test]
fn duplicates_are_what_was_asked_for() {
    let (_alone, lab) = lab("double");
    for fault in [json!({"duplicate_percent": 20}), json!({"duplicate_percent": 20, "delay_ns": 5_000_000})] {
        for (from, direction) in [(Side::Target, "egress"), (Side::Peer, "ingress")] {
            let mut order = lab.order(&fault);
            order["filter"] = json!({"direction": direction});
            let worker = Worker::start(&order, 60).unwrap();
            let arrivals = stream(from, &lab, at(PEER[0], PORT), (10_000, 64, 50)).unwrap();
            let seen = worker.stop().unwrap();
            let different: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.number).collect();
            assert_eq!(different.len(), 10_000, "nothing is lost: {seen}");
            let twice = (arrivals.len() - 10_000) as f64 / 100.0;
            assert!((twice - 20.0).abs() <= 1.5, "{fault} {direction}: {twice} %; {seen}");
        }
    }
}

#[test]
fn what_is_corrupted_arrives_and_is_noticed() {
    let (_alone, lab) = lab("corrupt");
    let wrong_sums = |lab: &Lab, ipv6: bool| -> u64 {
        let (file, line) = if ipv6 { ("snmp6", "Udp6InCsumErrors") } else { ("snmp", "Udp:") };
        let text = lab
            .inside(Side::Peer, || std::fs::read_to_string(format!("/proc/thread-self/net/{file}")))
            .unwrap();
        if ipv6 {
            let line = text.lines().find(|text| text.starts_with(line)).unwrap();
            return line.split_whitespace().nth(1).unwrap().parse().unwrap();
        }
        let [names, numbers] = [0, 1]
            .map(|at| text.lines().filter(|text| text.starts_with(line)).nth(at).unwrap().split_whitespace());
        names.zip(numbers).find(|(name, _)| *name == "InCsumErrors").unwrap().1.parse().unwrap()
    };
    for (address, ipv6) in [(PEER[0], false), (PEER[1], true)] {
        let before = wrong_sums(&lab, ipv6);
        let worker = Worker::start(&lab.order(&json!({"corrupt_percent": 30})), 60).unwrap();
        let arrivals = stream(Side::Target, &lab, at(address, PORT), (10_000, 1_000, 50)).unwrap();
        let seen = worker.stop().unwrap();
        let noticed = (wrong_sums(&lab, ipv6) - before) as f64 / 100.0;
        assert!((noticed - 30.0).abs() <= 1.5, "{address}: {noticed} % by their checksum; {seen}");
        let arrived = arrivals.len() as f64 / 100.0;
        assert!((arrived - 70.0).abs() <= 1.5, "{address}: {arrived} % arrive; {seen}");
        assert!(arrivals.iter().all(|arrival| arrival.intact), "what arrives is intact");
    }
}

#[test]
fn reordered_packets_overtake() {
    let (_alone, lab) = lab("reorder");
    let echo = Echo::start(&lab, at(PEER[0], PORT)).unwrap();
    let order = lab.order(&json!({"delay_ns": 30_000_000, "reorder_percent": 25}));
    let worker = Worker::start(&order, 60).unwrap();
    let trips = round_trips(&lab, echo.at, 2_000, MS).unwrap();
    let seen = worker.stop().unwrap();
    let fast = trips.iter().flatten().filter(|trip| **trip < 15.0).count() as f64 / 20.0;
    assert!((fast - 25.0).abs() <= 4.0, "{fast} %; {seen}");
}

#[test]
fn a_rate_is_what_was_asked_for() {
    let (_alone, lab) = lab("rate");
    for (rate, address, headers) in [(5_000_000_u32, PEER[0], 42.0), (50_000_000, PEER[1], 62.0)] {
        let worker = Worker::start(&lab.order(&json!({"rate_bits_per_s": rate})), 60).unwrap();
        // Several times what passes, also from a sender that is held up itself.
        let shape = (u64::from(rate) / 1_000, 1_000, u64::from(rate) / 625_000);
        let arrivals = stream(Side::Target, &lab, at(address, PORT), shape).unwrap();
        let seen = worker.stop().unwrap();
        let (first, last) = (arrivals.first().unwrap().at_s, arrivals.last().unwrap().at_s);
        let bits = (arrivals.len() - 1) as f64 * (1_000.0 + headers) * 8.0;
        let achieved = bits / (last - first) / f64::from(rate);
        assert!((achieved - 1.0).abs() <= 0.05, "{rate}: {achieved} of it; {seen}");
        println!("{rate} bits/s: {achieved:.4} of it, {} arrived; {seen}", arrivals.len());
    }
}

#[test]
fn a_partition_hits_its_peers_and_ports_and_nothing_else() {
    let (_alone, lab) = lab("partition");
    for family in 0..2 {
        let echoes: Vec<_> = [(PEER, PORT), (OTHER, PORT), (PEER, 443), (PEER, 53)]
            .map(|(peer, port)| Echo::start(&lab, at(peer[family], port)).unwrap())
            .into();
        let answers = || -> Vec<bool> {
            let trips = |echo: &Echo| round_trips(&lab, echo.at, 5, MS).unwrap();
            let some = |trips: Vec<Option<f64>>| trips.iter().filter(|trip| trip.is_some()).count();
            echoes.iter().map(|echo| some(trips(echo)) == 5).collect()
        };
        assert_eq!(answers(), [true; 4]);
        let network = ["10.99.0.2/31", "fd99::2/127"][family];
        for (filter, exclude, wanted) in [
            (json!({"peers": [OTHER[family]]}), None, [true, false, true, true]),
            (json!({"peers": [network]}), None, [false, false, false, true]),
            (json!({"ports": [443]}), None, [true, true, false, true]),
            (json!({"ports": ["7000-7999"]}), None, [false, false, true, true]),
            (json!({"peers": [PEER[family]], "ports": [443]}), None, [true, true, false, true]),
            (
                json!({"ports": ["0-65535"], "protocol": "udp"}),
                Some(json!({"peers": [OTHER[family]]})),
                [false, true, false, false],
            ),
            (
                json!({"ports": ["0-65535"]}),
                Some(json!({"peers": [], "ports": [53, 443]})),
                [false, false, true, true],
            ),
            (json!({"peers": ["0.0.0.0/0", "::/0"], "protocol": "tcp"}), None, [true; 4]),
            (json!({"peers": [network], "direction": "ingress"}), None, [false, false, false, true]),
        ] {
            let mut order = lab.order(&json!({"partition": true}));
            order["filter"] = filter.clone();
            if let Some(mut exclude) = exclude {
                if exclude.get("ports").is_none() {
                    exclude["ports"] = json!([]);
                }
                order["exclude"] = exclude;
            }
            let worker = Worker::start(&order, 60).unwrap();
            assert_eq!(answers(), wanted, "{filter}");
            worker.stop().unwrap();
            assert_eq!(answers(), [true; 4], "after {filter}");
        }
    }
}

#[test]
fn a_large_transfer_arrives_whole() {
    let (_alone, lab) = lab("transfer");
    let bytes: Vec<u8> = (0..24_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (fault, share) in [
        (json!({"delay_ns": 20_000_000}), 1),
        (json!({"delay_ns": 5_000_000, "jitter_ns": 1_000_000}), 8),
        (json!({"delay_ns": 2_000_000, "loss_percent": 1, "duplicate_percent": 5, "corrupt_percent": 1}), 16),
        (json!({"loss_percent": 1, "duplicate_percent": 5}), 4),
    ] {
        for (address, direction) in [(PEER[0], "egress"), (PEER[1], "egress"), (PEER[0], "ingress")] {
            let mut order = lab.order(&fault);
            order["filter"] = json!({"direction": direction});
            let worker = Worker::start(&order, 120).unwrap();
            let sent = &bytes[..bytes.len() / share];
            let (got, took) = transfer(&lab, at(address, PORT), sent).unwrap();
            let seen = worker.stop().unwrap();
            assert!(got == sent, "{fault} {address} {direction}: {} of {} bytes", got.len(), sent.len());
            println!("{fault} {address} {direction}: {} MB in {took:?}; {seen}", sent.len() >> 20);
        }
    }
}

#[test]
fn one_cgroup_of_a_shared_network_is_hit_alone() {
    let (_alone, lab) = lab("cgroup");
    let group = HandMade::new(HandMade::trees().unwrap().last().unwrap(), "net").unwrap();
    let (hit, spared) = (group.group("hit/inner").unwrap(), group.group("spared").unwrap());
    let mut order = lab.order(&json!({"loss_percent": 100}));
    order["cgroup"] = json!(group.path("hit"));
    let worker = Worker::start(&order, 60).unwrap();
    let receiver = lab.inside(Side::Peer, || std::net::UdpSocket::bind(at(PEER[0], PORT))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    for (directory, said) in [(&hit, "hit"), (&spared, "spared")] {
        let script = format!(
            "echo 0 > {}/cgroup.procs && exec 3<>/dev/udp/{}/{PORT} && for i in 1 2 3 4 5; do echo {said} >&3; done",
            directory.display(),
            PEER[0]
        );
        let netns = format!("--net={}", lab.path(Side::Target).display());
        let done = Command::new("nsenter").args([&netns, "bash", "-c", &script]).status().unwrap();
        assert!(done.success());
    }
    let mut got = Vec::new();
    let mut buffer = [0; 64];
    while let Ok((length, _)) = receiver.recv_from(&mut buffer) {
        got.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    assert_eq!(got, ["spared"; 5]);
    assert_eq!(count(&worker.stop().unwrap(), "dropped"), 5);
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_leaves_nothing() {
    let (_alone, lab) = lab("refused");
    let before = lab.shown().unwrap();
    let delay = json!({"delay_ns": 1_000_000});
    let worker = Worker::start(&lab.order(&delay), 60).unwrap();
    for fault in [&delay, &json!({"loss_percent": 1})] {
        for direction in ["egress", "ingress"] {
            let mut second = lab.order(fault);
            second["filter"] = json!({"direction": direction});
            let error = Worker::start(&second, 60).unwrap_err().to_string();
            assert!(error.contains("has an anomaly already"), "{error}");
        }
    }
    worker.stop().unwrap();
    let with = |field: &str, value: Value| {
        let mut order = lab.order(&delay);
        order[field] = value;
        order
    };
    for (order, words) in [
        (with("interfaces", json!(["none0"])), "interface none0: "),
        (with("interfaces", json!(["../../etc"])), "is no name"),
        (with("interfaces", json!([INTERFACE, INTERFACE])), "twice"),
        (with("netns", json!("/proc/1/no/such")), "/proc/1/no/such: "),
        (with("netns", json!("/etc/passwd")), "/etc/passwd"),
        (with("netns_inode", json!(1)), "another network namespace"),
        (with("cgroup", json!("/tmp")), "no cgroup"),
        (with("surprise", json!(1)), "unknown field"),
        (with("filter", json!({"peers": ["10.0.0.0/33"]})), "is no address"),
        (with("filter", json!({"ports": ["http"]})), "is no port"),
        (lab.order(&json!({})), "asks for nothing"),
        (lab.order(&json!({"loss_percent": -1})), "strength.loss_percent"),
        (lab.order(&json!({"partition": true})), "from whom"),
    ] {
        let error = Worker::start(&order, 60).unwrap_err().to_string();
        assert!(error.contains(words), "{order}: {error}");
    }
    assert_eq!(lab.shown().unwrap(), before);
    assert_eq!(left_behind(&lab, &before).unwrap(), Vec::<String>::new());
}

#[test]
fn it_ends_at_its_deadline_and_with_its_interface() {
    let (_alone, lab) = lab("ends");
    let before = lab.shown().unwrap();
    let last = Worker::start(&lab.order(&json!({"delay_ns": 1_000_000})), 2).unwrap().ended().unwrap();
    assert!(last.get("error").is_none(), "{last}");
    assert_eq!(left_behind(&lab, &before).unwrap(), Vec::<String>::new());
    // The relay's own first: somebody tidies up.
    for (link, words) in
        [("sextant0", "interface sextant0 is gone"), (INTERFACE, "interface target0 is gone")]
    {
        let worker = Worker::start(&lab.order(&json!({"delay_ns": 1_000_000})), 60).unwrap();
        let netns = lab.of(Side::Target);
        Command::new("ip").args(["-n", &netns, "link", "delete", link]).status().unwrap();
        let last = worker.ended().unwrap();
        assert!(last["error"].as_str().unwrap().contains(words), "{last}");
    }
}

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
fn left_behind(lab: &Lab, before: &str) -> Result<Vec<String>> {
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
        let worker = Worker::spawn(&faults[round as usize % faults.len()], 60).unwrap();
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
