//! Node and receiver as processes: what was acknowledged arrives once, whatever is killed and however long the
//! receiver is away.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "kills processes in real time")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sextant::store::{self, Record, Store};
use sextant_tests::role::{Role, eventually};

/// A node and its receiver, each with a directory and an address that survive it.
struct Pair {
    dir: tempfile::TempDir,
    receiver: Option<Role>,
    node: Option<Role>,
    receiver_address: String,
    node_address: String,
    config: PathBuf,
}

impl Pair {
    fn start(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Role::start("receiver", &dir.path().join("receiver"), &[]).unwrap();
        let receiver_address = receiver.address().to_owned();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, config).unwrap();
        let mut pair = Self {
            receiver: Some(receiver),
            node: None,
            node_address: "127.0.0.1:0".to_owned(),
            receiver_address,
            config: file,
            dir,
        };
        pair.start_node();
        pair.node_address = pair.node.as_ref().unwrap().address().to_owned();
        pair
    }

    fn start_node(&mut self) {
        let url = format!("http://{}", self.receiver_address);
        let (config, socket) = (self.config.to_str().unwrap(), self.dir.path().join("node.sock"));
        let socket = socket.to_str().unwrap();
        let args = ["--receiver", &url, "--interval", "100ms", "--unix-socket", socket, "--config", config];
        let dir = self.dir.path().join("node");
        self.node = Some(again(|| Role::start_on("node", &self.node_address, &dir, &args)));
    }

    fn start_receiver(&mut self) {
        let dir = self.dir.path().join("receiver");
        self.receiver = Some(again(|| Role::start_on("receiver", &self.receiver_address, &dir, &[])));
    }

    /// The receiver's own words on the one node.
    fn node_at_receiver(&self) -> Result<Value> {
        let nodes = get(&format!("http://{}/api/v1/nodes", self.receiver_address))?;
        ensure!(nodes["nodes"].as_array().is_some_and(|nodes| nodes.len() == 1), "{nodes}");
        Ok(nodes["nodes"][0].clone())
    }

    /// Stops the node, which empties its spool, and the receiver; returns what is on the receiver's disk.
    fn stop(mut self) -> (Value, Vec<Record>) {
        assert_eq!(self.node.take().unwrap().stop().unwrap(), Some(0));
        let node = self.node_at_receiver().unwrap();
        assert_eq!(self.receiver.take().unwrap().stop().unwrap(), Some(0));
        (node, stored(&self.dir.path().join("receiver/data")))
    }
}

/// The port is free again at once, but for a moment a client's connection may sit on it.
fn again(start: impl FnMut() -> Result<Role>) -> Role {
    eventually(Duration::from_secs(20), "it starts again where it was", start).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn get(url: &str) -> Result<Value> {
    runtime().block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        Ok(client.get(url).send().await?.error_for_status()?.json().await?)
    })
}

/// Every record in a receiver's data directory.
fn stored(data: &Path) -> Vec<Record> {
    runtime().block_on(async {
        let store = Store::open(data, &store::Config::default(), store::Metrics::default()).unwrap();
        let (mut records, mut after) = (Vec::new(), 0);
        loop {
            let page = store.read(after, 1_000, 1 << 20).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.id;
            records.extend(page);
        }
        store.close().await;
        records
    })
}

/// How often each posted number is among the records.
fn posted(records: &[Record]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == "bss_posted") {
        let record: Value = serde_json::from_slice(&record.bytes).unwrap();
        *counts.entry(record["body"]["nr_queued"].as_u64().unwrap()).or_default() += 1;
    }
    counts
}

/// Clients that post numbers to a node and remember which it acknowledged. A number is posted once: what a dying
/// node did with it nobody can say.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(node: &str, clients: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (acknowledged, next) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(1)));
        let threads = (0..clients).map(|_| {
            let (stop, acknowledged, next) = (stop.clone(), acknowledged.clone(), next.clone());
            let url = format!("http://{node}/api/v1/metrics");
            std::thread::spawn(move || {
                runtime().block_on(async {
                    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let sent = client.post(&url).json(&json!({ "nr_queued": number })).send().await;
                        match sent {
                            Ok(answer) if answer.status() == 200 => acknowledged.lock().unwrap().push(number),
                            _ => tokio::time::sleep(Duration::from_millis(20)).await,
                        }
                    }
                });
            })
        });
        Self { threads: threads.collect(), stop, acknowledged }
    }

    fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

/// Each stream number once, each acknowledged number once, no number twice.
fn check(acknowledged: &[u64], records: &[Record]) -> Result<()> {
    let mut seqs: Vec<_> = records.iter().map(|record| (record.stream, record.seq)).collect();
    seqs.sort_unstable();
    ensure!(seqs.windows(2).all(|pair| pair[0] != pair[1]), "a sequence number is stored twice");
    let counts = posted(records);
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(doubled.is_empty(), "stored more than once: {doubled:?}");
    let lost: Vec<_> = acknowledged.iter().filter(|number| !counts.contains_key(number)).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    Ok(())
}

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
