//! Workloads by the real binary: real sysbench on a real MariaDB, and our own generators; live figures, certain ends, no
//! secret where it could be read, and nothing left whatever happens to the node.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "asks with curl, and waits in real time")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sextant_tests::mariadb::{MariaDb, PASSWORD, USER};
use sextant_tests::role::{Role, eventually};
use sextant_tests::stored::{NODE, all_that_is_exposed};
use sextant_tests::tool::tool;

const KEY: &str = "correct horse battery staple";
/// `printf %s "$KEY" | sha256sum`
const KEY_SHA256: &str = "c4bbcb1fbec99d65bf59d85c8cb62ee2db963f0fe106f483d9afa73bd4e39a8a";
/// A loaded machine may take its time; nothing here is a promise about it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that takes workloads.
struct Rig {
    dir: tempfile::TempDir,
    node: Option<Role>,
}

/// What a rig's configuration says of the database.
struct Access<'a> {
    port: u16,
    password: &'a str,
    database: &'a str,
}

impl Rig {
    /// Without a database.
    fn start(more: &str) -> Self {
        Self::with(more, "")
    }

    fn on(access: &Access<'_>) -> Self {
        let Access { port, password, database } = access;
        let sysbench = tool("SEXTANT_SYSBENCH", "sysbench");
        let unpacked = sysbench.ancestors().nth(2).unwrap().join("usr/share/sysbench");
        let scripts = if unpacked.is_dir() { unpacked } else { PathBuf::new() };
        let rig = Self::with(
            &format!("sysbench = {sysbench:?}\nsysbench_scripts = {scripts:?}\ndatabase = {database:?}\n"),
            &format!(
                "[database]\nhost = \"127.0.0.1\"\nport = {port}\nuser = \"{USER}\"\npassword_file = \"DIR/password\"\n"
            ),
        );
        std::fs::write(rig.dir.path().join("password"), format!("{password}\n")).unwrap();
        rig
    }

    fn with(workloads: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let more = more.replace("DIR", dir.path().to_str().unwrap());
        let config = format!(
            "[[keys.key]]\nname = \"test\"\nsha256 = \"{KEY_SHA256}\"\nscopes = [\"act\"]\n\
             [workloads]\nenabled = true\n{workloads}{more}"
        );
        std::fs::write(dir.path().join("node.toml"), config).unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let args = ["--config", &path("node.toml"), "--unix-socket", &path("node.sock")];
        let node = Role::start("node", &dir.path().join("node"), &args).unwrap();
        Self { dir, node: Some(node) }
    }

    fn url(&self) -> &str {
        &self.node.as_ref().unwrap().url
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u32, Value) {
        ask(self.url(), method, path, body, Some(KEY)).unwrap()
    }

    /// Starts a load; its id.
    fn load(&self, body: &Value) -> String {
        let (status, answer) = self.ask("POST", "/api/v1/workloads", Some(body));
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    /// A workload once it is as wanted.
    fn once(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(PATIENCE, what, || {
            let (_, view) = self.ask("GET", &format!("/api/v1/workloads/{id}"), None);
            ensure!(wanted(&view), "{view}");
            Ok(view)
        })
        .unwrap()
    }

    fn pid(&self, id: &str) -> u64 {
        self.ask("GET", &format!("/api/v1/workloads/{id}"), None).1["pid"].as_u64().unwrap()
    }
}

/// A number's process that is not merely waiting for its parent to look.
fn alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

fn reports(view: &Value, least: usize) -> bool {
    view["series"].as_array().is_some_and(|series| series.len() >= least)
}

#[test]
fn a_load_on_a_real_database_from_its_preparation_to_its_sum() {
    let database = MariaDb::start().unwrap();
    let rig = Rig::on(&Access { port: database.port, password: PASSWORD, database: "load" });
    let (status, answer) =
        rig.ask("POST", "/api/workload/start", Some(&json!({"workload_type": "oltp_read_write"})));
    assert_eq!(status, 502, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("Unknown database 'load'"), "{answer}");

    let small = json!({"tables": 2, "table_size": 2_000});
    for _ in 0..2 {
        let prepared = rig.ask("POST", "/api/workload/prepare", Some(&small));
        let done = json!({"workload_id": "prepare", "status": "Database prepared successfully"});
        assert_eq!(prepared, (200, done), "the second time nothing is to be done");
    }
    let more = json!({"tables": 3, "table_size": 2_000});
    let (status, answer) = rig.ask("POST", "/api/workload/prepare", Some(&more));
    assert_eq!(status, 409, "{answer}");
    let anew = json!({"tables": 3, "table_size": 2_000, "recreate": true});
    assert_eq!(rig.ask("POST", "/api/workload/prepare", Some(&anew)).0, 200);
    let prepared = rig.ask("GET", "/api/v1/workloads/prepare", None).1;
    assert_eq!((&prepared["state"], &prepared["phase"]), (&json!("ended"), &json!("stopped")));
    assert_eq!(prepared["progress"]["begun"], prepared["progress"]["of"], "{prepared}");

    // Two within a second, in both forms of the reference.
    let started = [
        json!({"workload_type": "oltp_read_write", "threads": 1}),
        json!({"type": "sysbench", "threads": 2}),
    ]
    .map(|body| {
        let (status, answer) = rig.ask("POST", "/api/workload/start", Some(&body));
        assert_eq!((status, &answer["status"]), (200, &json!("Workload started successfully")), "{answer}");
        answer["workload_id"].as_str().unwrap().to_owned()
    });
    assert_ne!(started[0], started[1]);
    for id in &started {
        let digits = id.strip_prefix("oltp_read_write_").unwrap().split('_').collect::<Vec<_>>();
        assert!(digits.iter().map(|part| part.len()).eq([8, 6]), "{id}");
        assert!(digits.concat().chars().all(|c| c.is_ascii_digit()), "{id}");
    }
    let view = rig.once(&started[1], "it reports", |view| reports(view, 3));
    assert!(
        view["latest"]["qps"].as_f64().unwrap() > 0.0 && view["latest"]["latency_ms"].as_f64().unwrap() > 0.0
    );
    assert_eq!(view["latest"]["threads"], json!(2));
    let active = rig.ask("GET", "/api/workload/active", None).1;
    assert_eq!(active["workloads"].as_array().unwrap().len(), 2);
    assert_eq!(active["workloads"][0]["running"], json!(true));
    let metrics = curl(&[&format!("{}/metrics", rig.url())]).unwrap();
    for family in ["event_rate", "query_rate", "latency_seconds"] {
        let series = format!("sextant_workload_{family}{{workload=\"{}\"", started[0]);
        assert!(metrics.contains(&series), "{series} is missing:\n{metrics}");
    }
    let stream = format!("{}/api/v1/stream?kind=workloads", rig.url());
    let told = curl(&["-N", "--max-time", "3", &stream]).unwrap();
    assert!(told.contains("event: workloads") && told.contains(&started[0]), "{told}");
    no_secret_is_readable(&rig, &started);

    let path = format!("/api/workload/{}/stop", started[0]);
    let pid = rig.pid(&started[0]);
    for _ in 0..2 {
        let (status, answer) = rig.ask("POST", &path, None);
        let done = json!({"workload_id": started[0], "status": "Workload stopped successfully"});
        assert_eq!((status, &answer), (200, &done), "as often as one likes");
    }
    assert!(!alive(pid), "gone when it answers");
    let over = rig.ask("GET", &format!("/api/v1/workloads/{}", started[0]), None).1;
    let sum: f64 =
        over["series"].as_array().unwrap().iter().map(|point| point["tps"].as_f64().unwrap()).sum();
    let total = over["totals"]["events"].as_f64().unwrap();
    // One report a second: the sum of the rates.
    assert!((sum - total).abs() <= 0.01 && sum > 0.0, "{sum} {total}: {over}");
    let all = json!({"workload_id": "all", "status": "All workloads stopped successfully"});
    assert_eq!(rig.ask("POST", "/api/workload/stop-all", None), (200, all.clone()));
    assert_eq!(rig.ask("POST", "/api/workload/stop-all", None), (200, all), "with nothing left to stop");
    assert_eq!(rig.ask("GET", "/api/workload/active", None).1, json!({"workloads": []}));
    let metrics = curl(&[&format!("{}/metrics", rig.url())]).unwrap();
    assert!(!metrics.contains("sextant_workload_event_rate{"), "series end with their workload");
}

/// The password is on no command line, in no environment, in no answer and in no log.
fn no_secret_is_readable(rig: &Rig, ids: &[String]) {
    let secret = PASSWORD.split(' ').next().unwrap();
    let mut looked = 0;
    let pids = ids.iter().map(|id| rig.pid(id)).chain([u64::from(rig.node.as_ref().unwrap().pid())]);
    for pid in pids {
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(secret), "{file} of {pid}: {text}");
            looked += text.matches("--config-file=/dev/fd/").count();
        }
    }
    assert_eq!(looked, ids.len(), "what is not secret is found where a secret would be");
    let list = rig.ask("GET", "/api/v1/workloads", None).1.to_string();
    let log = rig.node.as_ref().unwrap().log();
    assert!(log.contains("workload started") && !log.contains(secret) && !list.contains(secret), "{log}");
    let config = rig.dir.path().join("node.toml");
    let dump = Command::new(sextant_tests::role::sextant()).args(["config", "dump"]).arg(config).output();
    assert!(!String::from_utf8(dump.unwrap().stdout).unwrap().contains(secret));
}

#[test]
fn what_the_database_refuses_is_named_and_starts_nothing() {
    let database = MariaDb::start().unwrap();
    let port = database.port;
    let start = json!({"workload_type": "oltp_read_only", "threads": 1});
    let refused = |password: &str, port: u16, wanted: &str| {
        let rig = Rig::on(&Access { port, password, database: "empty" });
        for (path, body) in [("/api/workload/start", &start), ("/api/workload/prepare", &json!({}))] {
            let (status, answer) = rig.ask("POST", path, Some(body));
            assert_eq!(status, 502, "{path}: {answer}");
            assert!(answer["detail"].as_str().unwrap().contains(wanted), "{wanted}: {answer}");
        }
        assert_eq!(rig.ask("GET", "/api/workload/active", None).1, json!({"workloads": []}));
    };
    refused("wrong", port, "denies access: Access denied for user");
    refused(PASSWORD, 1, "no connection to the database at 127.0.0.1:1");

    let rig = Rig::on(&Access { port, password: PASSWORD, database: "empty" });
    let one = json!({"tables": 1, "table_size": 100});
    assert_eq!(rig.ask("POST", "/api/workload/prepare", Some(&one)).0, 200);
    for (threads, wanted) in [(0, 400), (65, 400), (-1, 400), (1, 200), (64, 200)] {
        let body = json!({"workload_type": "oltp_point_select", "threads": threads});
        let (status, answer) = rig.ask("POST", "/api/workload/start", Some(&body));
        assert_eq!(status, wanted, "{threads}: {answer}");
        if status == 200 {
            let id = answer["workload_id"].as_str().unwrap();
            let view = rig.once(id, "it reports", |view| reports(view, 1));
            assert_eq!(view["latest"]["threads"], json!(threads), "{view}");
            // A script that dies with its server says so.
            rig.ask("POST", &format!("/api/workload/stop/{id}"), None);
        }
    }
    let id = rig.load(&json!({"kind": "oltp_read_only", "threads": 1}));
    rig.once(&id, "it reports", |view| reports(view, 1));
    drop(database);
    let view = rig.once(&id, "it is over", |view| view["state"] == json!("failed"));
    assert!(view["reason"].as_str().unwrap().contains("error"), "{view}");
}

#[test]
fn a_sysbench_that_cannot_run_says_why() {
    let database = MariaDb::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("sysbench");
    std::fs::write(&broken, "no program").unwrap();
    let more = format!("sysbench = {broken:?}\n");
    let access = format!("[database]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{USER}\"\n", database.port);
    let rig = Rig::with(&more, &format!("{access}password_file = \"DIR/password\"\n"));
    std::fs::write(rig.dir.path().join("password"), PASSWORD).unwrap();
    let (status, answer) = rig.ask("POST", "/api/workload/prepare", None);
    assert_eq!(status, 500, "{answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("not prepared") && detail.contains("Permission denied"), "{answer}");
}

#[test]
fn nothing_of_a_load_outlives_the_node() {
    let database = MariaDb::start().unwrap();
    let mut rig = Rig::on(&Access { port: database.port, password: PASSWORD, database: "kill" });
    assert_eq!(
        rig.ask("POST", "/api/workload/prepare", Some(&json!({"tables": 1, "table_size": 100}))).0,
        200
    );
    let kinds = ["oltp_read_write", "ping_pong", "fork_storm", "cpu_burst", "batch"];
    let ids = kinds.map(|kind| rig.load(&json!({"kind": kind, "threads": 1})));
    for id in &ids {
        rig.once(id, "it reports", |view| reports(view, 1));
    }
    let pids = ids.map(|id| rig.pid(&id));
    assert!(pids.iter().all(|pid| alive(*pid)));
    let sysbench = std::fs::read_to_string(format!("/proc/{}/comm", pids[0])).unwrap();
    assert_eq!(sysbench.trim(), "sysbench", "it has become it");
    rig.node.take().unwrap().kill().unwrap();
    eventually(Duration::from_secs(5), "every process is gone", || {
        let left: Vec<_> = pids.iter().filter(|pid| alive(**pid)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .unwrap();
}

/// Negative control: without the wish to die with the node a process outlives it, so it is the wish that ends it above.
#[test]
fn without_their_guard_processes_outlive_the_node() {
    let mut rig = Rig::start("unguarded_workers = true\n");
    let id = rig.load(&json!({"kind": "cpu_burst", "threads": 1, "duration": 60}));
    rig.once(&id, "it reports", |view| reports(view, 1));
    let pid = rig.pid(&id);
    rig.node.take().unwrap().kill().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let outlived = alive(pid);
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(outlived, "nothing else ends it");
}

#[test]
fn our_own_loads_need_nothing_and_end_in_time() {
    let beside = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", beside.path(), &[]).unwrap();
    let forward = format!("[node]\nname = {NODE:?}\n[forward]\nreceivers = [{:?}]\n", receiver.url);
    let mut rig = Rig::with("sysbench = \"no-such-sysbench\"\nmax_concurrent = 2\n", &forward);
    let (status, answer) =
        rig.ask("POST", "/api/workload/start", Some(&json!({"workload_type": "oltp_read_only"})));
    assert_eq!(status, 501, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("apt install sysbench"), "{answer}");
    let storm = rig.load(&json!({"kind": "fork_storm", "threads": 2, "rate": 20, "duration": 3}));
    let pairs = rig.load(&json!({"kind": "ping_pong", "threads": 2, "duration": 60}));
    let third = json!({"kind": "batch", "threads": 1});
    assert_eq!(rig.ask("POST", "/api/v1/workloads", Some(&third)).0, 409, "as many as may");
    let over = rig.once(&storm, "its time is over", |view| view["state"] == json!("ended"));
    let events = over["totals"]["events"].as_f64().unwrap();
    // As many as the machine manages; more than was asked for is never right, but for the first of each thread.
    assert!((1.0..=62.0).contains(&events), "{over}");
    assert_eq!(over["latest"]["qps"], Value::Null);
    let view = rig.once(&pairs, "it reports", |view| reports(view, 2));
    assert!(view["latest"]["tps"].as_f64().unwrap() > 10.0, "{view}");
    let pid = rig.pid(&pairs);
    let kept =
        all_that_is_exposed(rig.node.as_ref().unwrap(), &receiver, "sextant_workload_", PATIENCE).unwrap();
    let live = |name: &str, kind: &str, id: &str| {
        kept.get(&format!("sextant_workload_{name}{{kind=\"{kind}\",workload=\"{id}\"}}"))
    };
    assert!(live("event_rate", "ping_pong", &pairs).unwrap().iter().any(|tps| *tps > 10.0), "{kept:?}");
    assert_eq!(live("query_rate", "ping_pong", &pairs), None, "null is no sample");
    let reported: Vec<f64> =
        over["series"].as_array().unwrap().iter().map(|point| point["tps"].as_f64().unwrap()).collect();
    let stored = live("event_rate", "fork_storm", &storm).unwrap();
    assert!(stored.iter().all(|tps| reported.contains(tps)), "{stored:?} {reported:?}");
    assert!((1..=reported.len()).contains(&stored.len()), "each report once: {stored:?} {reported:?}");
    let ends = &kept["sextant_workload_runs_total{kind=\"fork_storm\",result=\"ended\"}"];
    assert_eq!(ends, &[1.0], "its end, once");
    let node = rig.node.take().unwrap();
    let log = rig.dir.path().join("node/node.log");
    assert_eq!(node.stop().unwrap(), Some(0));
    assert!(!alive(pid), "a node that is asked to stop ends them first");
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("workload over") && log.contains("the node stopped"), "{log}");
}

/// Status and JSON of an answer.
fn ask(url: &str, method: &str, path: &str, body: Option<&Value>, key: Option<&str>) -> Result<(u32, Value)> {
    let url = format!("{url}{path}");
    let body = body.map(Value::to_string);
    let key = key.map(|key| format!("X-API-Key: {key}"));
    let mut args = vec!["-X", method, "-w", "\n%{http_code}", &url];
    if let Some(key) = &key {
        args.extend(["-H", key]);
    }
    if let Some(body) = &body {
        args.extend(["-H", "Content-Type: application/json", "-d", body]);
    }
    let output = curl(&args)?;
    let (json, status) = output.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, serde_json::from_str(json).with_context(|| json.to_owned())?))
}

fn curl(args: &[&str]) -> Result<String> {
    // A stream ends when its time is over, which curl calls a failure.
    Ok(String::from_utf8(Command::new("curl").arg("-s").args(args).output()?.stdout)?)
}
