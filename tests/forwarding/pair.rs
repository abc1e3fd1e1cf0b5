//! A node, its receiver, clients of the node that remember what was acknowledged, and the judge of what is on the
//! receiver's disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sextant::store::{self, Record, Store};
use sextant_tests::faulty::Proxy;
use sextant_tests::role::{Role, eventually};

/// A node and its receiver, each with a directory and an address that survive it.
pub(super) struct Pair {
    pub(super) dir: tempfile::TempDir,
    pub(super) receiver: Option<Role>,
    pub(super) node: Option<Role>,
    pub(super) receiver_address: String,
    pub(super) node_address: String,
    /// What lies between them, if anything does.
    pub(super) line: Option<Proxy>,
    config: PathBuf,
}

impl Pair {
    pub(super) fn start(config: &str) -> Self {
        Self::start_through(config, |_| None)
    }

    /// With a line to the receiver's address.
    pub(super) fn start_through(config: &str, line: impl FnOnce(&str) -> Option<Proxy>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Role::start("receiver", &dir.path().join("receiver"), &[]).unwrap();
        let receiver_address = receiver.address().to_owned();
        let file = dir.path().join("node.toml");
        std::fs::write(&file, config).unwrap();
        let mut pair = Self {
            receiver: Some(receiver),
            node: None,
            node_address: "127.0.0.1:0".to_owned(),
            line: line(&receiver_address),
            receiver_address,
            config: file,
            dir,
        };
        pair.start_node();
        pair.node_address = pair.node.as_ref().unwrap().address().to_owned();
        pair
    }

    pub(super) fn start_node(&mut self) {
        let to = self.line.as_ref().map_or(&*self.receiver_address, Proxy::address);
        let url = format!("http://{to}");
        let (config, socket) = (self.config.to_str().unwrap(), self.dir.path().join("node.sock"));
        let socket = socket.to_str().unwrap();
        let args = ["--receiver", &url, "--interval", "100ms", "--unix-socket", socket, "--config", config];
        let dir = self.dir.path().join("node");
        self.node = Some(again(|| Role::start_on("node", &self.node_address, &dir, &args)));
    }

    pub(super) fn start_receiver(&mut self) {
        let dir = self.dir.path().join("receiver");
        self.receiver = Some(again(|| Role::start_on("receiver", &self.receiver_address, &dir, &[])));
    }

    /// The receiver's own words on the one node.
    pub(super) fn node_at_receiver(&self) -> Result<Value> {
        let nodes = get(&format!("http://{}/api/v1/nodes", self.receiver_address))?;
        ensure!(nodes["nodes"].as_array().is_some_and(|nodes| nodes.len() == 1), "{nodes}");
        Ok(nodes["nodes"][0].clone())
    }

    /// Stops the node, which empties its spool, and the receiver; returns what is on the receiver's disk.
    pub(super) fn stop(mut self) -> (Value, Vec<Record>) {
        assert_eq!(self.node.take().unwrap().stop().unwrap(), Some(0));
        let node = self.node_at_receiver().unwrap();
        assert_eq!(self.receiver.take().unwrap().stop().unwrap(), Some(0));
        (node, stored(&self.dir.path().join("receiver/data")))
    }
}

/// The port is free again at once, but for a moment a client's connection may sit on it.
pub(super) fn again(start: impl FnMut() -> Result<Role>) -> Role {
    eventually(Duration::from_secs(20), "it starts again where it was", start).unwrap()
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(super) fn get(url: &str) -> Result<Value> {
    runtime().block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        Ok(client.get(url).send().await?.error_for_status()?.json().await?)
    })
}

/// Every record in a receiver's data directory.
pub(super) fn stored(data: &Path) -> Vec<Record> {
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
pub(super) fn posted(records: &[Record]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == "bss_posted") {
        let record: Value = serde_json::from_slice(&record.bytes).unwrap();
        *counts.entry(record["body"]["nr_queued"].as_u64().unwrap()).or_default() += 1;
    }
    counts
}

/// Clients that post numbers to a node and remember which it acknowledged. A number is posted once: what a dying
/// node did with it nobody can say.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Vec<u64>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(node: &str, clients: u64) -> Self {
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

    pub(super) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    pub(super) fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

/// Each stream number once, each acknowledged number once, no number twice.
pub(super) fn check(acknowledged: &[u64], records: &[Record]) -> Result<()> {
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
