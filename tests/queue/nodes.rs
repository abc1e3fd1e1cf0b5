//! Nodes that put their batches into the queue that receivers share, past every receiver.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sextant_tests::keep_alive::{Connection, request};
use sextant_tests::nats::{Leaf, Nats, Servers, free_port};
use sextant_tests::role::{Role, eventually};

/// A loaded machine may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way to these servers.
fn settings(servers: &[String], monitors: &[String]) -> String {
    format!("servers = {servers:?}\nmonitors = {monitors:?}\nreplicas = 1\n")
}

/// A node that forwards over these servers.
pub(crate) fn node(dir: &Path, settings: &str) -> Result<Role> {
    std::fs::create_dir_all(dir)?;
    let (file, socket) = (dir.join("node.toml"), dir.join("node.sock"));
    std::fs::write(&file, format!("[forward]\nretry_max_ms = 500\n[forward.jetstream]\n{settings}"))?;
    let (file, socket) = (file.to_str().unwrap(), socket.to_str().unwrap());
    Role::start("node", dir, &["--config", file, "--unix-socket", socket, "--node-name", "worker-7"])
}

/// A receiver that stores what comes over these servers.
pub(crate) fn receiver(dir: &Path, settings: &str) -> Result<Role> {
    std::fs::create_dir_all(dir)?;
    let file = dir.join("receiver.toml");
    let text = format!(
        "[receiver]\nnodes_from_queue = true\n[queue]\nengine = \"jetstream\"\nvisibility_timeout_ms = 2000\n\
         [queue.jetstream]\n{settings}"
    );
    std::fs::write(&file, text)?;
    Role::start("receiver", dir, &["--config", file.to_str().unwrap()])
}

fn get(role: &Role, path: &str) -> Result<Value> {
    let mut connection = Connection::open(role.address())?;
    Ok(serde_json::from_str(connection.ask(&request("GET", path, "", b""))?)?)
}

/// Posts so many records to the node, one after another; each was acknowledged.
fn post(node: &Role, count: u64) {
    let mut connection = Connection::open(node.address()).unwrap();
    for number in 0..count {
        let body = json!({ "nr_queued": number }).to_string();
        connection.ask(&request("POST", "/api/v1/metrics", "", body.as_bytes())).unwrap();
    }
}

/// Until the node has nothing left and the receiver has all of it; what the receiver says.
pub(crate) fn arrived(node: &Role, receiver: &Role, at_least: u64) -> Value {
    let all = eventually(PATIENCE, "everything arrives", || {
        let status = get(node, "/status?format=json")?;
        let accounts = &status["delivery"]["accounts"];
        let nodes = get(receiver, "/api/v1/nodes")?;
        let known = nodes["nodes"].get(0).with_context(|| format!("no node yet: {}", status["delivery"]))?;
        // Its own records go on.
        let acknowledged = accounts["acknowledged"].as_u64().unwrap_or_default();
        let stored = known["stored"].as_u64().unwrap_or_default();
        ensure!(acknowledged >= at_least && stored >= acknowledged, "{known}\n{}", status["delivery"]);
        ensure!(known["spooled"] == 0, "{known}");
        Ok(known.clone())
    });
    let all = all.unwrap();
    assert_eq!((&all["adds_up"], &all["missing"]), (&json!(true), &json!(0)), "{all}");
    let dropped = all["dropped"].as_object().unwrap();
    assert!(dropped.values().all(|count| *count == 0), "{all}");
    all
}

#[test]
fn what_a_node_puts_into_the_queue_is_stored_once_whatever_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = Nats::start(&Servers::default()).unwrap();
    let settings = settings(&servers.urls(), &servers.monitors());
    let place = dir.path().join("receiver");
    // The node is first: its records wait until there is a topic.
    let node = node(&dir.path().join("node"), &settings).unwrap();
    let mut first = Some(receiver(&place, &settings).unwrap());
    post(&node, 100);
    arrived(&node, first.as_ref().unwrap(), 100);
    first.take().unwrap().kill().unwrap();
    post(&node, 100);
    servers.kill(0).unwrap();
    post(&node, 100);
    servers.revive(0).unwrap();
    let again = eventually(PATIENCE, "it starts again", || receiver(&place, &settings)).unwrap();
    post(&node, 100);
    let all = arrived(&node, &again, 400);
    let produced = all["produced"].as_u64();
    assert_eq!(produced, all["stored"].as_u64(), "each once: {all}");
    // What it is stored from is nobody's to write over HTTP.
    let refused = std::process::Command::new("curl")
        .args(["-s", "-w", "%{http_code}", "-d", "{}"])
        .arg(format!("{}/produce?topic=sextant.nodes", again.url))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&refused.stdout).ends_with("403"), "{refused:?}");
    assert_eq!(node.stop().unwrap(), Some(0));
}

/// The control of every other test here: with servers that acknowledge what they do not sync nothing leaves the node.
#[test]
fn servers_that_do_not_sync_get_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let lazy = Nats::start(&Servers { sync_interval: "2m", ..Servers::default() }).unwrap();
    let node = node(&dir.path().join("node"), &settings(&lazy.urls(), &lazy.monitors())).unwrap();
    post(&node, 10);
    let delivery = eventually(PATIENCE, "the node says why", || {
        let delivery = get(&node, "/status?format=json")?["delivery"].clone();
        let words = delivery["receivers"][0]["last_error"].as_str().unwrap_or_default();
        ensure!(words.contains("n0 acknowledges records before they are on its disk"), "{delivery}");
        Ok(delivery)
    })
    .unwrap();
    assert_eq!(delivery["accounts"]["acknowledged"], 0, "{delivery}");
    assert!(delivery["accounts"]["spooled"].as_u64() >= Some(10), "{delivery}");
}

#[test]
fn a_leaf_beside_the_node_leads_to_the_servers() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let more = format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}\n");
    let hub = Nats::start(&Servers { more, domain: "hub", ..Servers::default() }).unwrap();
    let leaf = Leaf::start(port).unwrap();
    let receiver = receiver(&dir.path().join("receiver"), &settings(&hub.urls(), &hub.monitors())).unwrap();
    // The node knows the leaf only; whether records are synced is asked where they lie.
    let way = settings(std::slice::from_ref(&leaf.url), &hub.monitors()) + "domain = \"hub\"\n";
    let node = node(&dir.path().join("node"), &way).unwrap();
    post(&node, 50);
    arrived(&node, &receiver, 50);
    // Without it records wait, and go on when it is back.
    drop(leaf);
    post(&node, 50);
    let status = get(&node, "/status?format=json").unwrap();
    assert!(status["delivery"]["accounts"]["spooled"].as_u64() > Some(0), "{}", status["delivery"]);
}
