//! Node and receiver as processes: what was acknowledged arrives once, whatever is killed, however long the receiver is
//! away, and whatever the line between them does.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "kills processes in real time")]

mod line;
mod pair;

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use sextant::store::Record;
use sextant_tests::role::{Role, eventually};

use self::pair::{Load, Pair, again, check, get, posted, runtime, stored};

#[test]
fn fifty_kills_of_node_and_receiver_lose_and_double_nothing() {
    let mut pair = Pair::start("");
    let load = Load::start(&pair.node_address, 4);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |end| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % end
    };
    for kill in 0..50 {
        // A kill counts when something was acknowledged since the last one.
        let before = load.count();
        eventually(Duration::from_secs(60), "the node acknowledges", || {
            ensure!(load.count() > before, "kill {kill}: {before} so far");
            Ok(())
        })
        .unwrap();
        std::thread::sleep(Duration::from_millis(below(300)));
        match below(3) {
            0 => {
                pair.receiver.take().unwrap().kill().unwrap();
                std::thread::sleep(Duration::from_millis(below(300)));
                pair.start_receiver();
            }
            1 => {
                pair.node.take().unwrap().kill().unwrap();
                pair.start_node();
            }
            _ => {
                pair.receiver.take().unwrap().kill().unwrap();
                pair.node.take().unwrap().kill().unwrap();
                pair.start_node();
                pair.start_receiver();
            }
        }
    }
    let acknowledged = load.stop();
    let (node, records) = pair.stop();
    check(&acknowledged, &records).unwrap();
    assert_eq!((&node["adds_up"], &node["spooled"]), (&json!(true), &json!(0)), "{node}");
    assert_eq!(node["stored"].as_u64(), Some(records.len() as u64), "{node}");
    assert!(acknowledged.len() > 100, "only {} records were acknowledged", acknowledged.len());

    // The control: the same judge sees one record missing, and one twice.
    let number = |record: &Record| record.kind == "bss_posted";
    let missing: Vec<_> = records.iter().filter(|record| !number(record)).cloned().collect();
    assert!(check(&acknowledged, &missing).is_err());
    let twice = records.iter().find(|record| number(record)).cloned();
    assert!(check(&acknowledged, &[records, twice.into_iter().collect()].concat()).is_err());
}

#[test]
fn a_receiver_that_was_away_gets_what_is_left_and_the_count_of_the_rest() {
    let mut pair = Pair::start("[spool]\nmax_size_bytes = 1048576\n");
    eventually(Duration::from_secs(30), "the receiver knows the node", || pair.node_at_receiver()).unwrap();
    pair.receiver.take().unwrap().kill().unwrap();
    let status = format!("http://{}/status?format=json", pair.node_address);
    let post = format!("http://{}/api/v1/metrics", pair.node_address);
    let mut sent = 0_u64;
    let delivery = eventually(Duration::from_secs(120), "the spool is full", || {
        let records: Vec<_> = (sent..sent + 1_000).map(|number| json!({ "nr_queued": number })).collect();
        sent += 1_000;
        runtime().block_on(async {
            let answer =
                reqwest::Client::new().post(&post).json(&json!({ "metrics": records })).send().await?;
            ensure!(answer.status() == 200, "{}", answer.text().await?);
            anyhow::Ok(())
        })?;
        let status = get(&status)?;
        let delivery = &status["delivery"];
        ensure!(delivery["accounts"]["dropped"]["spool_full"].as_u64() > Some(1_000), "{delivery}");
        Ok(delivery.clone())
    })
    .unwrap();
    assert!(delivery["accounts"]["spooled_bytes"].as_u64() <= Some(1 << 20), "{delivery}");
    assert_eq!(delivery["receivers"][0]["state"], "retrying", "{delivery}");
    assert!(delivery["receivers"][0]["last_error"].is_string(), "{delivery}");

    pair.start_receiver();
    eventually(Duration::from_secs(60), "everything is delivered", || {
        let node = pair.node_at_receiver()?;
        ensure!(node["spooled"].as_u64() < Some(5) && node["produced"].as_u64() > Some(sent), "{node}");
        Ok(())
    })
    .unwrap();
    let (node, records) = pair.stop();
    let dropped = node["dropped"]["spool_full"].as_u64().unwrap();
    assert_eq!((&node["adds_up"], &node["missing"]), (&json!(true), &json!(dropped)), "{node}");
    assert_eq!(node["produced"].as_u64(), Some(records.len() as u64 + dropped), "{node}");
    // What is left is the batch that was in flight and the newest: the hole lies between them.
    let counts = posted(&records);
    let lost: Vec<_> = (0..sent).filter(|number| !counts.contains_key(number)).collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert_eq!(last - first + 1, lost.len() as u64, "one hole");
    assert!(last < sent - 1_000, "{first} to {last} of {sent}");
}

#[test]
fn of_two_receivers_the_other_one_takes_over_and_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let start = |name: &str, listen: &str| again(|| Role::start_on("receiver", listen, &place(name), &[]));
    let mut receivers = ["one", "other"].map(|name| (name, Some(start(name, "127.0.0.1:0"))));
    let addresses = receivers.each_ref().map(|(_, role)| role.as_ref().unwrap().address().to_owned());
    let urls = addresses.each_ref().map(|address| format!("http://{address}")).join(",");
    let socket = place("node.sock");
    // Pauses as short as a test's patience.
    std::fs::write(place("node.toml"), "[forward]\nretry_max_ms = 1000\n").unwrap();
    let config = place("node.toml");
    let args = ["--receiver", &urls, "--interval", "100ms", "--unix-socket", socket.to_str().unwrap()];
    let args = [&args[..], &["--config", config.to_str().unwrap()]].concat();
    let node = Role::start("node", &place("node"), &args).unwrap();
    let load = Load::start(node.address(), 2);
    // Which of the two takes records now, once it has taken some since.
    let taken_by = |wanted: &dyn Fn(&str) -> bool| {
        eventually(Duration::from_secs(60), "a receiver takes records", || {
            let status = get(&format!("{}/status?format=json", node.url))?;
            let receiver = &status["delivery"]["receivers"][0];
            let url = receiver["url"].as_str().unwrap_or_default().to_owned();
            ensure!(receiver["state"] == "connected" && wanted(&url), "{receiver}");
            Ok(url)
        })
        .unwrap()
    };
    let home_url = taken_by(&|_| true);
    let home = addresses.iter().position(|address| home_url.contains(address)).unwrap();
    receivers[home].1.take().unwrap().kill().unwrap();
    let other_url = taken_by(&|url| url != home_url);
    assert!(other_url.contains(&addresses[1 - home]), "{other_url}");
    receivers[home].1 = Some(start(receivers[home].0, &addresses[home]));
    taken_by(&|url| url == home_url);
    let acknowledged = load.stop();
    assert_eq!(node.stop().unwrap(), Some(0));
    // Each of them can say where every record is, though neither has all.
    for address in &addresses {
        let nodes = get(&format!("http://{address}/api/v1/nodes")).unwrap();
        assert_eq!(nodes["nodes"][0]["adds_up"], true, "{address}: {nodes}");
    }
    let told = get(&format!("http://{}/api/v1/nodes", addresses[home])).unwrap();
    assert!(told["nodes"][0]["elsewhere"].as_u64() > Some(0), "{told}");
    let mut all = Vec::new();
    for (name, role) in receivers {
        assert_eq!(role.unwrap().stop().unwrap(), Some(0));
        let records = stored(&place(name).join("data"));
        assert!(!posted(&records).is_empty(), "{name} took nothing");
        check(&[], &records).unwrap();
        all.push(posted(&records));
    }
    let lost = |number: &&u64| all.iter().all(|counts| !counts.contains_key(number));
    let lost: Vec<_> = acknowledged.iter().filter(lost).collect();
    assert!(lost.is_empty() && acknowledged.len() > 20, "{lost:?} of {}", acknowledged.len());
    // The control: neither of them has all.
    assert!(all.iter().all(|counts| acknowledged.iter().any(|number| !counts.contains_key(number))));
}

/// A v2 host with one container, as it was recorded.
fn recorded_host(root: &Path) {
    let group = "kubepods/burstable/pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
    let container = root.join(group).join("17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a");
    std::fs::create_dir_all(&container).unwrap();
    for above in container.ancestors().take_while(|above| above.starts_with(root)) {
        std::fs::write(above.join("cgroup.procs"), "").unwrap();
    }
    std::fs::write(root.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cgroup/v2");
    for file in std::fs::read_dir(fixture).unwrap().flatten() {
        std::fs::copy(file.path(), container.join(file.file_name())).unwrap();
    }
}

#[test]
fn what_a_container_uses_is_seen_at_the_node_and_at_the_receiver() {
    let host = tempfile::tempdir().unwrap();
    recorded_host(host.path());
    let config = format!("[host]\ncgroup = {:?}\n[usage]\ninterval_ms = 1000\n", host.path());
    let pair = Pair::start(&config);
    let node = eventually(Duration::from_secs(60), "the receiver has a usage record", || {
        let node = pair.node_at_receiver()?;
        ensure!(node["usage"]["usage_usec"].is_u64(), "{node}");
        Ok(node)
    })
    .unwrap();
    assert_eq!((&node["usage"]["pods"], &node["usage"]["usage_usec"]), (&json!(1), &json!(5_979_315)));
    assert_eq!(node["usage"]["memory_working_set_bytes"], 23_003_136 - 237_568);
    let pods = get(&format!("http://{}/api/v1/pods", pair.node_address)).unwrap();
    let container = &pods["pods"][0]["containers"][0]["usage"];
    assert_eq!((&container["cpu"]["nr_throttled"], &container["pids"]), (&json!(297), &json!(2)));
    let (node, records) = pair.stop();
    assert_eq!(node["adds_up"], true);
    let usage: Vec<Value> = records
        .iter()
        .filter_map(|record| serde_json::from_slice::<Value>(&record.bytes).ok())
        .filter(|record| record["kind"] == "usage")
        .collect();
    assert_eq!(usage.len(), 1, "one at once, the next half a minute later");
    let body = &usage[0]["body"];
    let at = body["fields"].as_array().unwrap().iter().position(|name| name == "memory_max_bytes").unwrap();
    assert_eq!(body["pods"][0]["containers"][0]["row"]["values"][at], 128 << 20);
}
