//! From what is sent to what is asked for, over real processes that are killed: telemetry and nodes' records become series,
//! each sample once; alerts on them are told once.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "waits in real time for processes")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sextant_tests::alertmanager::Alertmanager;
use sextant_tests::role::{Role, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// As anybody asks; long answers come in chunks.
fn ask(role: &Role, method: &str, path: &str, body: &str) -> Result<Value> {
    let url = format!("{}{path}", role.url);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--request", method, &url]);
    if !body.is_empty() {
        curl.args(["--header", "content-type: application/json", "--data", body]);
    }
    let output = curl.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{method} {path}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_str(&text)?)
}

fn get(role: &Role, path: &str) -> Result<Value> {
    ask(role, "GET", path, "")
}

fn receiver(dir: &Path, settings: &str) -> Role {
    let config = dir.join("receiver.toml");
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(&config, settings).unwrap();
    Role::start("receiver", dir, &["--config", config.to_str().unwrap()]).unwrap()
}

/// 2025-09-25T10:30:00Z and as many seconds.
fn at(second: usize) -> String {
    format!("2025-09-25T{:02}:{:02}:{:02}Z", 10 + second / 3_600, second / 60 % 60, second % 60)
}

fn record(second: usize) -> Value {
    json!({"device_id": "gpu-001", "metric": "DCGM_FI_DEV_GPU_UTIL", "value": second, "time": at(second), "uuid": "GPU-1",
        "hostname": "h"})
}

/// The values that are stored, by time.
fn stored(role: &Role) -> Result<Vec<f64>> {
    let path =
        "/api/v1/samples?match=DCGM_FI_DEV_GPU_UTIL&start=2025-09-25T00:00:00Z&end=2025-09-26T00:00:00Z";
    let answer = get(role, path)?;
    let samples = answer["series"][0]["samples"].as_array().cloned().unwrap_or_default();
    Ok(samples.iter().map(|sample| sample[1].as_f64().unwrap()).collect())
}

/// What was answered with 200 is queryable after any kill, each second once; nothing is left in the queue.
#[test]
fn telemetry_outlives_twenty_kills_of_the_receiver() {
    let dir = tempfile::tempdir().unwrap();
    let (mut accepted, mut sent) = (0, 0);
    for kill in 0..20 {
        let role = receiver(dir.path(), "");
        // As fast as it answers, until the kill: batches of one to nine seconds.
        for batch in 0..=kill * 3 {
            let records: Vec<_> = (sent..=sent + batch % 9).map(record).collect();
            let answer = ask(&role, "POST", "/telemetry", &json!(records).to_string()).unwrap();
            assert_eq!(answer["count"], records.len());
            sent += records.len();
            accepted = sent;
        }
        role.kill().unwrap();
    }
    let role = receiver(dir.path(), "");
    let values = eventually(PATIENCE, "all of it is queryable", || {
        let values = stored(&role)?;
        ensure!(values.len() >= accepted, "{} of {accepted}", values.len());
        Ok(values)
    })
    .unwrap();
    assert_eq!(values, (0..sent).map(|n| n as f64).collect::<Vec<_>>());
    assert!(accepted > 1_000, "only {accepted} records came that far");
    eventually(PATIENCE, "the queue owes nothing", || {
        let topics = get(&role, "/topics?verbose=true")?;
        let text = topics.to_string();
        ensure!(!text.contains("telemetry.dead"), "{text}");
        let partitions = topics["telemetry"]["partitions"].as_array().cloned().unwrap_or_default();
        let is_read = |one: &Value| one["depth"] == 0 && one["groups"][0]["group"] == "collector";
        ensure!(!partitions.is_empty() && partitions.iter().all(is_read), "{text}");
        Ok(())
    })
    .unwrap();
    assert_eq!(role.stop().unwrap(), Some(0));
}

/// The control: a client that forgets what was not yet answered with 200 loses it, and the same question finds that.
#[test]
fn what_was_never_sent_is_found_missing() {
    let dir = tempfile::tempdir().unwrap();
    let role = receiver(dir.path(), "");
    let records: Vec<_> = (0..50).filter(|n| n % 10 != 7).map(record).collect();
    ask(&role, "POST", "/telemetry", &json!(records).to_string()).unwrap();
    let values = eventually(PATIENCE, "some of it is queryable", || {
        let values = stored(&role)?;
        ensure!(values.len() == 45, "{}", values.len());
        Ok(values)
    });
    assert_ne!(values.unwrap(), (0..50).map(f64::from).collect::<Vec<_>>());
}

/// A real node's readings, by the names that its own exposition has.
#[test]
fn a_nodes_records_become_series_and_go_on_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let role = receiver(&dir.path().join("receiver"), "");
    let node_dir = dir.path().join("node");
    let socket = dir.path().join("node.sock");
    let args = [
        "--receiver",
        &role.url,
        "--interval",
        "200ms",
        "--node-name",
        "n1",
        "--unix-socket",
        socket.to_str().unwrap(),
    ];
    let node = Role::start("node", &node_dir, &args).unwrap();
    let states = "/api/v1/samples?match=sextant_scheduler_state%7Bnode%3D%22n1%22%7D";
    let count = |role: &Role| -> Result<usize> {
        let answer = get(role, states)?;
        let of = answer["series"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|series| series["samples"].as_array().map_or(0, Vec::len));
        Ok(of.sum())
    };
    let before = eventually(PATIENCE, "the scheduler's state is a series", || {
        let count = count(&role)?;
        ensure!(count >= 10, "{count} samples");
        Ok(count)
    })
    .unwrap();
    let address = role.address().to_owned();
    role.kill().unwrap();
    let config = dir.path().join("receiver/receiver.toml");
    let role = Role::start_on(
        "receiver",
        &address,
        &dir.path().join("receiver"),
        &["--config", config.to_str().unwrap()],
    )
    .unwrap();
    assert!(count(&role).unwrap() >= before, "what was queryable still is");
    eventually(PATIENCE, "it goes on", || {
        let count = count(&role)?;
        ensure!(count > before + 5, "{count} samples");
        Ok(())
    })
    .unwrap();
    let seen = get(&role, "/api/v1/samples?match=sextant_node_last_record_timestamp_seconds").unwrap();
    assert_eq!(seen["series"][0]["labels"]["node"], "n1");
    assert_eq!(node.stop().unwrap(), Some(0));
}

/// The time so many seconds ago.
fn ago(seconds: u32) -> String {
    let before = format!("-{seconds} seconds");
    let time = Command::new("date").args(["--utc", "--date", &before, "+%Y-%m-%dT%H:%M:%S.%NZ"]).output();
    String::from_utf8(time.unwrap().stdout).unwrap().trim().to_owned()
}

/// What a tail of some seconds is sent: host and value of each sample, and the last event's id.
fn tail(role: &Role, since: Option<&str>, meanwhile: impl FnOnce()) -> (Vec<(String, f64)>, Option<String>) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--no-buffer", "--max-time", "6"]);
    curl.arg(format!("{}/api/v1/samples/stream?match=temperature", role.url));
    if let Some(since) = since {
        curl.args(["--header", &format!("last-event-id: {since}")]);
    }
    let mut child = curl.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("retry: 5000"));
    meanwhile();
    let (mut samples, mut id) = (Vec::new(), None);
    for line in lines {
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            for series in data["series"].as_array().unwrap() {
                let host = series["labels"]["Hostname"].as_str().unwrap();
                let values = series["samples"].as_array().unwrap().iter();
                samples.extend(values.map(|sample| (host.to_owned(), sample[1].as_f64().unwrap())));
            }
        }
        id = line.strip_prefix("id: ").map(str::to_owned).or(id);
    }
    child.wait().unwrap();
    (samples, id)
}

/// A host whose samples come later than another's newer ones is in the tail too; who comes back misses nothing.
#[test]
fn a_tail_follows_hosts_that_lag() {
    let dir = tempfile::tempdir().unwrap();
    let role = receiver(dir.path(), "");
    let post = |host: &str, value: f64, seconds: u32| {
        let record = json!({"device_id": "d", "metric": "temperature", "value": value, "time": ago(seconds),
            "hostname": host, "uuid": host});
        ask(&role, "POST", "/telemetry", &record.to_string()).unwrap();
    };
    let connected = Instant::now();
    let (samples, id) = tail(&role, None, || {
        // What is to come late belongs to a time at which the tail was there already.
        std::thread::sleep(Duration::from_millis(2_500));
        post("ahead", 50.0, 0);
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(connected.elapsed() > Duration::from_secs(4));
        post("behind", 60.0, 3);
    });
    assert_eq!(samples, [("ahead".to_owned(), 50.0), ("behind".to_owned(), 60.0)]);
    post("ahead", 51.0, 0);
    let (samples, _) = tail(&role, id.as_deref(), || post("behind", 61.0, 0));
    let of =
        |host: &str| samples.iter().filter(|(of, _)| of == host).map(|(_, value)| *value).collect::<Vec<_>>();
    assert_eq!((of("behind"), of("ahead").last()), (vec![61.0], Some(&51.0)), "{samples:?}");
    assert_eq!(role.stop().unwrap(), Some(0));
}

/// A webhook that takes one post after another; what came, as JSON.
fn webhook(listener: TcpListener) -> mpsc::Receiver<Value> {
    let (told, came) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_ok() && length > 0 {
                let _gone = told.send(serde_json::from_slice(&body).unwrap());
            }
            let _gone =
                (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    came
}

/// Settings and the rule of these tests, with a target.
fn alerting(dir: &Path, target: &str) -> String {
    let rules = dir.join("rules.toml");
    let rule = "[[rule]]\nname = \"Hot\"\nmetric = \"temperature\"\nby = [\"gpu\"]\nabove = 80\nwindow_s = 3600\n\
        severity = \"critical\"\nsummary = \"{gpu} is at {value}\"\n";
    std::fs::write(&rules, rule).unwrap();
    format!("[alerts]\ninterval_ms = 1000\n{target}\nrules_file = \"{}\"\n", rules.display())
}

fn heat(role: &Role, value: f64) {
    let record =
        json!({"device_id": "d", "metric": "temperature", "value": value, "time": ago(0), "gpu_id": "3"});
    ask(role, "POST", "/telemetry", &record.to_string()).unwrap();
}

/// So many events say that it fired.
fn fired(role: &Role, count: usize) -> Value {
    eventually(PATIENCE, "it is an event too", || {
        let events = get(role, "/api/v1/events?type=alert_fired")?;
        ensure!(events["events"].as_array().is_some_and(|all| all.len() == count), "{events}");
        Ok(events)
    })
    .unwrap()
}

/// It is on disk that everybody was told everything.
fn all_told(dir: &Path) {
    eventually(PATIENCE, "nothing is owed", || {
        let page: Value = serde_json::from_slice(&std::fs::read(dir.join("data/alerts.json"))?)?;
        ensure!(page["owed"]["posts"].as_array().is_some_and(Vec::is_empty), "{page}");
        Ok(())
    })
    .unwrap();
}

/// An alert fires, is told by post and as an event, survives `kill -9` without being told again, and resolves.
#[test]
fn an_alert_is_told_once_over_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings =
        alerting(dir.path(), &format!("webhooks = [\"http://{}/hook\"]", listener.local_addr().unwrap()));
    let came = webhook(listener);
    let role = receiver(dir.path(), &settings);
    heat(&role, 91.0);
    let told = came.recv_timeout(PATIENCE).unwrap();
    let alert = &told["alerts"][0];
    assert_eq!(
        (&alert["status"], &alert["annotations"]["summary"]),
        (&json!("firing"), &json!("3 is at 91"))
    );
    let events = fired(&role, 1);
    assert_eq!(events["events"][0]["labels"]["alertname"], "Hot");
    all_told(dir.path());
    role.kill().unwrap();
    let role = receiver(dir.path(), &settings);
    let shown = get(&role, "/api/v1/alerts").unwrap();
    assert_eq!(shown["alerts"][0]["state"], "firing", "{shown}");
    assert!(came.recv_timeout(Duration::from_secs(4)).is_err(), "told twice");
    heat(&role, 60.0);
    let told = came.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told["alerts"][0]["status"], "resolved");
    assert_eq!(role.stop().unwrap(), Some(0));
}

/// A webhook that is down over a kill hears of it from who comes after, and not again after the next kill.
#[test]
fn a_webhook_that_was_down_over_a_kill_is_told_after_it() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there for now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = alerting(dir.path(), &format!("webhooks = [\"http://{address}/hook\"]"));
    let role = receiver(dir.path(), &settings);
    heat(&role, 91.0);
    fired(&role, 1);
    role.kill().unwrap();
    let came = webhook(TcpListener::bind(address).unwrap());
    let role = receiver(dir.path(), &settings);
    let told = came.recv_timeout(PATIENCE).unwrap();
    assert_eq!(told["alerts"][0]["annotations"]["summary"], "3 is at 91");
    all_told(dir.path());
    role.kill().unwrap();
    let role = receiver(dir.path(), &settings);
    assert!(came.recv_timeout(Duration::from_secs(4)).is_err(), "told twice");
    fired(&role, 1);
    assert_eq!(role.stop().unwrap(), Some(0));
}

/// What a real Alertmanager says of it: there while it fires, with its labels and words, and not behind its end.
#[test]
fn an_alertmanager_shows_what_fires_until_it_is_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Alertmanager::start(&dir.path().join("alertmanager")).unwrap();
    let settings = alerting(dir.path(), &format!("alertmanagers = [\"{}\"]", manager.url()));
    let role = receiver(dir.path(), &settings);
    assert_eq!(manager.alerts().unwrap(), Vec::<Value>::new());
    heat(&role, 91.0);
    let shown = eventually(PATIENCE, "it is shown", || {
        let alerts = manager.alerts()?;
        ensure!(alerts.len() == 1, "{alerts:?}");
        Ok(alerts[0].clone())
    })
    .unwrap();
    assert_eq!(shown["labels"], json!({"alertname": "Hot", "gpu": "3", "severity": "critical"}));
    assert_eq!(shown["annotations"], json!({"summary": "3 is at 91"}));
    assert_eq!(shown["status"]["state"], "active");
    // By itself it would end it after five minutes, not before.
    heat(&role, 60.0);
    eventually(PATIENCE, "it is resolved", || {
        let alerts = manager.alerts()?;
        ensure!(alerts.is_empty(), "{alerts:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!(role.stop().unwrap(), Some(0));
}
