//! What is hit and what is not, and that packets which are hit stay what they are.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sextant_tests::hand_made::HandMade;
use sextant_tests::netns::{Echo, INTERFACE, OTHER, PEER, Side, Worker, round_trips, stream, transfer};

use super::kill::left_behind;
use super::{MS, PORT, at, count, lab};

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
fn jumbo_frames_pass_whole() {
    let (_alone, lab) = lab("jumbo");
    lab.ip(Side::Target, &["link", "set", INTERFACE, "mtu", "9000"]).unwrap();
    lab.ip(Side::Peer, &["link", "set", "peer0", "mtu", "9000"]).unwrap();
    for fault in [json!({"delay_ns": 2_000_000}), json!({"delay_ns": 2_000_000, "duplicate_percent": 100})] {
        for (from, direction) in [(Side::Target, "egress"), (Side::Peer, "ingress")] {
            let mut order = lab.order(&fault);
            order["filter"] = json!({"direction": direction});
            let worker = Worker::start(&order, 60).unwrap();
            let arrivals = stream(from, &lab, at(PEER[1], PORT), (200, 8_900, 10)).unwrap();
            let seen = worker.stop().unwrap();
            let different: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.number).collect();
            assert!(different.len() == 200 && arrivals.iter().all(|arrival| arrival.intact), "{seen}");
        }
    }
}

#[test]
fn neighbours_stay_known_when_nothing_else_passes() {
    let (_alone, lab) = lab("neighbours");
    for direction in ["egress", "ingress"] {
        let mut order = lab.order(&json!({"loss_percent": 100}));
        order["filter"] = json!({"direction": direction});
        let worker = Worker::start(&order, 60).unwrap();
        for address in PEER {
            lab.ip(Side::Target, &["neigh", "flush", "dev", INTERFACE]).unwrap();
            let echo = Echo::start(&lab, at(address, PORT)).unwrap();
            assert_eq!(round_trips(&lab, echo.at, 2, MS).unwrap(), [None, None]);
            let known = lab.ip(Side::Target, &["neigh", "show", address]).unwrap();
            assert!(known.contains("lladdr"), "{direction} {address}: {known:?}");
        }
        worker.stop().unwrap();
    }
}

#[test]
fn what_is_held_goes_on_when_the_fault_is_ended_in_order() {
    let (_alone, lab) = lab("held");
    let worker = Worker::start(&lab.order(&json!({"delay_ns": 30_000_000_000_u64})), 60).unwrap();
    let receiver = lab.inside(Side::Peer, || UdpSocket::bind(at(PEER[0], PORT))).unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let sender = lab.inside(Side::Target, || UdpSocket::bind("0.0.0.0:0")).unwrap();
    for number in 0..100 {
        sender.send_to(&[number], at(PEER[0], PORT)).unwrap();
    }
    let mut buffer = [0];
    assert!(receiver.recv_from(&mut buffer).is_err(), "they are held");
    worker.stop().unwrap();
    let got: Vec<u8> =
        (0..100).map_while(|_| receiver.recv_from(&mut buffer).ok().map(|_| buffer[0])).collect();
    assert_eq!(got, (0..100).collect::<Vec<u8>>());
}

#[test]
fn every_interface_has_a_line_of_its_own() {
    let (_alone, lab) = lab("two");
    let cable = ["link", "add", "target1", "type", "veth", "peer", "name", "peer1", "netns"];
    lab.ip(Side::Target, &[&cable[..], &[&lab.of(Side::Peer)]].concat()).unwrap();
    for (side, device, address) in
        [(Side::Target, "target1", "10.98.0.1/24"), (Side::Peer, "peer1", "10.98.0.2/24")]
    {
        lab.ip(side, &["address", "add", address, "dev", device]).unwrap();
        lab.ip(side, &["link", "set", device, "up"]).unwrap();
    }
    let echoes = [PEER[0], "10.98.0.2"].map(|address| Echo::start(&lab, at(address, PORT)).unwrap());
    for (interfaces, wanted) in
        [(vec![], [20.0, 0.0]), (vec!["target1"], [0.0, 20.0]), (vec!["target1", INTERFACE], [20.0, 20.0])]
    {
        let mut order = lab.order(&json!({"delay_ns": 20_000_000}));
        order["interfaces"] = json!(interfaces);
        let worker = Worker::start(&order, 60).unwrap();
        for (echo, wanted) in echoes.iter().zip(wanted) {
            // From whichever address leads there.
            let socket = lab.inside(Side::Target, || UdpSocket::bind("0.0.0.0:0")).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let began = Instant::now();
            socket.send_to(&[1], echo.at).unwrap();
            socket.recv_from(&mut [0]).unwrap();
            let took_ms = began.elapsed().as_secs_f64() * 1e3;
            assert!((wanted..wanted + 15.0).contains(&took_ms), "{interfaces:?} {}: {took_ms} ms", echo.at);
        }
        worker.stop().unwrap();
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
    let receiver = lab.inside(Side::Peer, || UdpSocket::bind(at(PEER[0], PORT))).unwrap();
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
    for (capabilities, words) in [
        ("-net_admin", "CAP_NET_ADMIN"),
        ("-bpf,-sys_admin", "CAP_BPF, CAP_SYS_ADMIN"),
        ("-sys_admin", "CAP_SYS_ADMIN (for the network namespaces of others)"),
    ] {
        let last = Worker::without(capabilities, &lab.order(&delay)).unwrap();
        assert!(last["error"].as_str().unwrap().contains(words), "{capabilities}: {last}");
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
        lab.ip(Side::Target, &["link", "delete", link]).unwrap();
        let last = worker.ended().unwrap();
        assert!(last["error"].as_str().unwrap().contains(words), "{last}");
    }
}
