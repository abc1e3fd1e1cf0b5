//! The queue in one file: what it confirmed is there after `kill -9`, its documented variables count, and a long backlog
//! costs it nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use sextant_tests::process::rss_bytes;
use sextant_tests::role::Role;

use crate::stream::Stream;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Status and body.
fn ask(method: &str, url: &str, body: &str) -> Result<(u16, String)> {
    runtime().block_on(async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let answer = client.request(method.parse()?, url).body(body.to_owned()).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    })
}

fn post(role: &Role, path: &str, body: &str) -> (u16, String) {
    ask("POST", &format!("{}{path}", role.url), body).unwrap()
}

/// Records of all partitions that a group has to see, acknowledged: id and payload.
fn drain(role: &Role, group: &str) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    loop {
        let url = format!("{}/consume?topic=t&group={group}&max=1000", role.url);
        let pulled: Value = serde_json::from_str(&ask("GET", &url, "").unwrap().1).unwrap();
        let messages = pulled["messages"].as_array().unwrap();
        if messages.is_empty() {
            return all;
        }
        let ids: Vec<_> = messages.iter().map(|message| &message["id"]).collect();
        let path = format!("/ack?topic=t&group={group}");
        let settled = post(role, &path, &json!({ "ids": ids }).to_string());
        assert_eq!(settled.0, 200, "{}", settled.1);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        all.extend(messages.iter().map(|message| (text(&message["id"]), text(&message["payload"]))));
    }
}

/// Clients that produce until the receiver is gone; what was confirmed.
fn produce_until_killed(
    role: Role,
    clients: usize,
    round: usize,
    time: Duration,
) -> BTreeSet<(String, String)> {
    let confirmed = Arc::new(Mutex::new(BTreeSet::new()));
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (confirmed, url) = (confirmed.clone(), role.url.clone());
            std::thread::spawn(move || {
                runtime().block_on(async {
                    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
                    for n in 0.. {
                        let payload = format!("{round}.{client}.{n}");
                        let url = format!("{url}/produce?topic=t&partition={}", client % 4);
                        let body = json!({ "payload": payload }).to_string();
                        let Ok(answer) = http.post(url).body(body).send().await else { return };
                        let Ok(kept) = answer.json::<Value>().await else { return };
                        let id = kept["id"].as_str().unwrap().to_owned();
                        confirmed.lock().unwrap().insert((id, payload));
                    }
                });
            })
        })
        .collect();
    std::thread::sleep(time);
    role.kill().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    Arc::into_inner(confirmed).unwrap().into_inner().unwrap()
}

const LARGE: &str = "1000000";

/// Kills a receiver under load again and again; how many confirmed records are not there in the end, of how many.
fn kill_loop(dir: &Path, between: impl Fn(&Path)) -> (usize, usize) {
    let start = || Role::start("receiver", dir, &["--queue-size", LARGE]).unwrap();
    let mut confirmed = BTreeSet::new();
    for round in 0..8 {
        let time = Duration::from_millis(200 + 90 * round);
        confirmed.extend(produce_until_killed(start(), 8, usize::try_from(round).unwrap(), time));
        between(dir);
    }
    let role = start();
    let found = drain(&role, "check");
    assert_eq!(drain(&role, "check").len(), 0, "acknowledged is done with");
    role.kill().unwrap();
    let role = start();
    assert_eq!(drain(&role, "check").len(), 0, "after a restart too");
    let doubled = found.iter().map(|(_, payload)| payload).collect::<BTreeSet<_>>().len() != found.len();
    assert!(!doubled, "a record is there twice");
    (confirmed.difference(&found).count(), confirmed.len())
}

#[test]
fn kill_9_loses_nothing_that_was_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let (lost, confirmed) = kill_loop(dir.path(), |_| {});
    assert_eq!(lost, 0, "of {confirmed}");
    assert!(confirmed > 100, "only {confirmed} were produced");
}

/// The control: the same loop notices when the file does not survive.
#[test]
fn a_queue_that_forgets_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let forget = |dir: &Path| std::fs::remove_file(dir.join("data/queue.redb")).unwrap();
    let (lost, confirmed) = kill_loop(dir.path(), forget);
    assert_eq!(lost, confirmed);
}

#[test]
fn the_documented_variables_count() {
    let dir = tempfile::tempdir().unwrap();
    let variables = [("QUEUE_SIZE", "3"), ("VISIBILITY_TIMEOUT", "1s"), ("PARTITIONS_PER_TOPIC", "2")];
    let role = Role::start_with(&variables, "receiver", dir.path(), &[]).unwrap();
    for expected in [200, 200, 200, 429] {
        assert_eq!(post(&role, "/produce?topic=t&partition=1", "x").0, expected);
    }
    assert_eq!(post(&role, "/produce?topic=t&partition=2", "x").0, 400);
    let mut stream = Stream::open(&role, "topic=t&partition=1&group=g", None);
    let first = stream.message().unwrap();
    let since = Instant::now();
    let again = std::iter::from_fn(|| stream.message().ok()).find(|message| message["id"] == first["id"]);
    let took = since.elapsed();
    assert_eq!(again.unwrap()["deliveries"], 2);
    let in_time = Duration::from_millis(900)..Duration::from_millis(2_000);
    assert!(in_time.contains(&took), "delivered again after {took:?}");
}

#[test]
fn a_stream_is_flushed_carries_large_records_and_goes_on_after_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let role = Role::start("receiver", dir.path(), &[]).unwrap();
    let mut stream = Stream::open(&role, "topic=t&partition=0&group=g", None);
    let mut slowest = Duration::ZERO;
    let mut last = Value::Null;
    for n in 0..50 {
        let sent = Instant::now();
        post(&role, "/produce?topic=t&partition=0", &json!({ "payload": n.to_string() }).to_string());
        last = stream.message().unwrap();
        slowest = slowest.max(sent.elapsed());
        assert_eq!(last["payload"], n.to_string());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // More than any line buffer: a megabyte in one line.
    let large = "x".repeat(1 << 20);
    post(&role, "/produce?topic=t&partition=0", &large);
    assert_eq!(stream.message().unwrap()["payload"], large);
    post(&role, "/produce?topic=t&partition=0", "after");
    drop(stream);
    // The client goes on behind the last record that it knows of.
    let id = last["id"].as_str().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut stream = Stream::open(&role, "topic=t&partition=0&group=g", Some(id));
    assert_eq!(stream.message().unwrap()["payload"], large);
    assert_eq!(stream.message().unwrap()["payload"], "after");
    assert_eq!(role.stop().unwrap(), Some(0), "an open stream holds nothing up");
}

#[test]
fn a_large_backlog_costs_neither_memory_nor_time_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Role::start("receiver", dir.path(), &["--queue-size", LARGE]).unwrap();
    let role = start();
    let message = json!({ "payload": "x".repeat(4_000) });
    let batch = json!({ "messages": vec![message; 500] }).to_string();
    post(&role, "/produce/batch?topic=t&partition=0", &batch);
    let before = rss_bytes(role.pid()).unwrap();
    for _ in 0..100 {
        assert_eq!(post(&role, "/produce/batch?topic=t&partition=0", &batch).0, 200);
    }
    let grown = rss_bytes(role.pid()).unwrap().saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes more for 200 MB");
    role.kill().unwrap();
    let since = Instant::now();
    let role = start();
    let took = since.elapsed();
    // With debug assertions redb itself walks all pages when it opens a file.
    let limit = if cfg!(debug_assertions) { Duration::from_secs(60) } else { Duration::from_secs(2) };
    assert!(took < limit, "{took:?} to start");
    let grown = rss_bytes(role.pid()).unwrap();
    assert!(grown < 150 << 20, "{grown} bytes to start");
}
