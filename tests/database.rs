//! The database source by the real binary: a real MariaDB, a real database of OceanBase's family, a real Prometheus. What
//! it says is what a load on the same database says of itself, and what the receiver stores.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]
#![expect(clippy::disallowed_methods, reason = "asks with curl, serves a fixture, and waits in real time")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sextant_tests::mariadb::{MariaDb, PASSWORD, USER};
use sextant_tests::role::{Role, eventually};
use sextant_tests::stored::{self, all_that_is_exposed, stored};
use sextant_tests::tool::tool;

/// A loaded machine may take its time; nothing here is a promise about it.
const PATIENCE: Duration = Duration::from_secs(90);

const FIGURES: [&str; 12] = [
    "qps",
    "tps",
    "active_sessions",
    "sql_response_time",
    "disk_io_bytes",
    "disk_iops",
    "memory_usage",
    "cache_hit_ratio",
    "slow_queries",
    "deadlocks",
    "replication_lag",
    "connection_count",
];
const TENANT_FIGURES: [&str; 6] =
    ["cpu_percent", "memory_used", "disk_used", "iops", "session_count", "active_session_count"];

/// A node that looks every second, and takes workloads over its socket.
fn node(dir: &Path, variables: &[(&str, &str)], more: &[&str]) -> Role {
    let sysbench = tool("SEXTANT_SYSBENCH", "sysbench");
    let unpacked = sysbench.ancestors().nth(2).unwrap().join("usr/share/sysbench");
    let scripts = if unpacked.is_dir() { unpacked } else { "".into() };
    let config = format!(
        "[database_source]\ninterval_ms = 1000\n[workloads]\nenabled = true\nsysbench = {sysbench:?}\n\
         sysbench_scripts = {scripts:?}\ntables = 2\ntable_size = 2000\n"
    );
    std::fs::write(dir.join("node.toml"), config).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let args = ["--config", &path("node.toml"), "--unix-socket", &path("node.sock")];
    let args = [&args[..], more].concat();
    Role::start_with(variables, "node", &dir.join("node"), &args).unwrap()
}

fn receiver(dir: &Path) -> Role {
    Role::start("receiver", &dir.join("receiver"), &[]).unwrap()
}

/// Every stored value of the series is one that the node told, as often as it told it at most.
fn is_what_was_told(node: &Role, receiver: &Role, series: &str, figure: &str) {
    let mut values = stored(receiver, "sextant_database_").unwrap().remove(series).unwrap_or_default();
    let answer = curl(&[&format!("{}/api/metrics/database", node.url)]).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let mut told: Vec<_> = answer["metrics"].as_array().unwrap().iter().rev().collect();
    assert!(values.len() >= 3, "{series}: {values:?}");
    // Told values have three digits behind the point. Both are in the order of their times.
    while let Some(value) = values.pop() {
        let known = |one: &&Value| one[figure].as_f64().is_some_and(|one| (one - value).abs() < 0.000_6);
        let at = told.iter().position(known);
        assert!(at.is_some(), "{series}: {value} is not told before the values behind it: {answer}");
        told.drain(..=at.unwrap());
    }
}

/// The latest sample, with the reasons of what it lacks. Each figure is a number that is not negative, or has a reason.
fn latest(node: &Role, path: &str, figures: &[&str]) -> Result<(Value, Value)> {
    let answer: Value = serde_json::from_str(&curl(&[&format!("{}{path}", node.url)])?)?;
    let metrics = answer["metrics"].as_array().unwrap();
    ensure!(!metrics.is_empty(), "{answer}");
    for sample in metrics {
        for name in figures {
            let figure = &sample[*name];
            assert!(
                figure.is_null() || figure.as_f64().is_some_and(|figure| figure >= 0.0),
                "{name}: {sample}"
            );
        }
        assert!(sample["timestamp"].as_str().is_some_and(|text| text.len() == 19), "{sample}");
    }
    let sample = metrics.last().unwrap().clone();
    for name in figures {
        assert_eq!(sample[*name].is_null(), answer["reasons"][*name].is_string(), "{name}: {answer}");
    }
    Ok((sample, answer["reasons"].clone()))
}

fn database(node: &Role) -> Result<(Value, Value)> {
    latest(node, "/api/metrics/database", &FIGURES)
}

/// Prepares and starts a load; its id.
fn load(dir: &Path) -> String {
    let socket = dir.join("node.sock");
    let post = |path: &str, body: &Value| -> Value {
        let url = format!("http://localhost{path}");
        let args = ["--unix-socket", socket.to_str().unwrap(), "-X", "POST", &url, "-d", &body.to_string()];
        serde_json::from_str(&curl(&args).unwrap()).unwrap()
    };
    let prepared = post("/api/workload/prepare", &json!({}));
    assert_eq!(prepared["workload_id"], json!("prepare"), "{prepared}");
    let started = post("/api/workload/start", &json!({"workload_type": "oltp_read_write", "threads": 2}));
    assert!(started["workload_id"].is_string(), "{started}");
    started["workload_id"].as_str().unwrap().to_owned()
}

/// The rates that the database tells are those that the load tells, over some seconds of both.
fn rates_agree(node: &Role, id: &str) {
    let path = format!("{}/api/v1/workloads/{id}", node.url);
    let mean = |list: &Value, key: &str, last: usize| -> f64 {
        let list = list.as_array().unwrap();
        let values: Vec<f64> = list.iter().rev().take(last).filter_map(|one| one[key].as_f64()).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    eventually(PATIENCE, "both tell the same", || {
        let theirs: Value = serde_json::from_str(&curl(&[&format!("{}/api/metrics/database", node.url)])?)?;
        let ours: Value = serde_json::from_str(&curl(&[&path])?)?;
        ensure!(ours["series"].as_array().is_some_and(|series| series.len() >= 10), "{ours}");
        for key in ["tps", "qps"] {
            let (theirs, ours) = (mean(&theirs["metrics"], key, 6), mean(&ours["series"], key, 6));
            // Not the same seconds, and a machine whose load comes and goes.
            ensure!(ours > 0.0 && (theirs / ours - 1.0).abs() < 0.25, "{key}: {theirs} and {ours}");
        }
        Ok(())
    })
    .unwrap();
}

fn environment(pid: u64) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned()
}

#[test]
fn a_mariadb_tells_every_figure_or_why_not_and_a_restart_gives_no_rate() {
    let mut server = MariaDb::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let port = server.port.to_string();
    let told = [("OB_HOST", "localhost"), ("OB_PORT", &port), ("OB_USER", USER), ("OB_PASSWORD", PASSWORD)];
    let receiver = receiver(dir.path());
    let node = node(dir.path(), &told, &stored::args(&receiver));
    let id = load(dir.path());
    let (sample, reasons) = eventually(PATIENCE, "a sample of two looks under load", || {
        let (sample, reasons) = database(&node)?;
        ensure!(sample["qps"].as_f64().is_some_and(|qps| qps > 10.0), "{sample} {reasons}");
        ensure!(sample["active_sessions"].as_f64().is_some_and(|active| active > 0.0), "{sample}");
        Ok((sample, reasons))
    })
    .unwrap();
    let lacking: Vec<&str> = FIGURES.into_iter().filter(|name| sample[*name].is_null()).collect();
    assert_eq!(lacking, ["replication_lag"], "{reasons}");
    assert_eq!(reasons["replication_lag"], json!("the server has no replica and is none"));
    rates_agree(&node, &id);
    let view: Value =
        serde_json::from_str(&curl(&[&format!("{}/api/v1/workloads/{id}", node.url)]).unwrap()).unwrap();
    assert!(environment(node.pid().into()).contains(PASSWORD), "the node was told so");
    let theirs = environment(view["pid"].as_u64().unwrap());
    assert!(theirs.contains("PATH=") && !theirs.contains(PASSWORD), "{theirs}");
    let metrics = curl(&[&format!("{}/metrics", node.url)]).unwrap();
    assert!(
        metrics.contains("sextant_database_query_rate ") && !metrics.contains("database_replication_lag")
    );
    let kept = all_that_is_exposed(&node, &receiver, "sextant_database_", PATIENCE).unwrap();
    assert_eq!(kept.len(), FIGURES.len() - lacking.len(), "null is no sample: {kept:?}");
    let kept = all_that_is_exposed(&node, &receiver, "sextant_workload_", PATIENCE).unwrap();
    let live = format!("sextant_workload_query_rate{{kind=\"oltp_read_write\",workload=\"{id}\"}}");
    assert!(kept[&live].iter().any(|qps| *qps > 10.0), "{kept:?}");
    let prepared = "sextant_workload_runs_total{kind=\"prepare\",result=\"ended\"}";
    assert_eq!(kept[prepared], [1.0], "a beginning and an end, told once each");
    let tenant: Value =
        serde_json::from_str(&curl(&[&format!("{}/api/metrics/tenant?tenant_name=x", node.url)]).unwrap())
            .unwrap();
    assert!(tenant["reasons"]["tenant"].as_str().unwrap().contains("MariaDB"), "{tenant}");

    server.restart().unwrap();
    // It may still be from before.
    let (last, _) = database(&node).unwrap();
    let (sample, reasons) = eventually(PATIENCE, "it answers again", || {
        let (sample, reasons) = database(&node)?;
        let fresh = sample["timestamp"] != last["timestamp"];
        ensure!(fresh && reasons["database"].is_null() && sample["qps"].is_number(), "{sample} {reasons}");
        Ok((sample, reasons))
    })
    .unwrap();
    assert!(sample["qps"].as_f64().unwrap() < 1_000.0, "{sample} {reasons}");
    drop(server);
    let off = eventually(PATIENCE, "it says that nobody answers", || {
        let (_, reasons) = database(&node)?;
        ensure!(reasons["database"].is_string(), "{reasons}");
        Ok(reasons)
    })
    .unwrap();
    assert!(off["database"].as_str().unwrap().contains("no connection"), "{off}");
    // Over the restart and behind the end too: a look that found nothing is no sample, and no 0.
    is_what_was_told(&node, &receiver, "sextant_database_query_rate{}", "qps");
    is_what_was_told(&node, &receiver, "sextant_database_sessions{}", "connection_count");
    let log = node.log();
    assert!(!log.contains(PASSWORD.split(' ').next().unwrap()), "{log}");
}

#[test]
fn without_a_database_it_is_off_and_says_how_to_configure_one() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(dir.path());
    let node = node(dir.path(), &[], &stored::args(&receiver));
    let answer: Value =
        serde_json::from_str(&curl(&[&format!("{}/api/metrics/database", node.url)]).unwrap()).unwrap();
    assert_eq!(answer["metrics"], json!([]), "nothing is made up");
    assert!(answer["reasons"]["database"].as_str().unwrap().contains("OB_HOST"), "{answer}");
    let status = curl(&[&format!("{}/status", node.url)]).unwrap();
    assert!(status.contains("database lacks: no database is configured"), "{status}");
    eventually(PATIENCE, "its other records are stored", || {
        ensure!(!stored(&receiver, "sextant_scheduler_")?.is_empty(), "none yet");
        Ok(())
    })
    .unwrap();
    assert_eq!(stored(&receiver, "sextant_(database|workload)_").unwrap(), stored::Stored::new());
}

/// Killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running seekdb and its port. It takes no port 0, and a port that was free is somebody's connection a moment later now
/// and then: it is started again with another one.
fn seekdb(dir: &Path) -> (Killed, String) {
    let start = |n: u32| {
        let port = free_port();
        let mut seekdb = Command::new(tool("SEXTANT_SEEKDB", "seekdb"));
        seekdb.arg(dir.join(n.to_string())).arg(port.to_string()).current_dir(dir);
        let seekdb = seekdb.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let seekdb = Killed(seekdb.unwrap());
        let listens = eventually(PATIENCE / 2, "it listens", || Ok(TcpStream::connect(("127.0.0.1", port))?));
        listens.is_ok().then(|| (seekdb, port.to_string()))
    };
    (0..3).find_map(start).unwrap()
}

#[test]
fn a_database_of_oceanbases_family_tells_of_itself_and_its_tenant() {
    let data = tempfile::tempdir().unwrap();
    let (_seekdb, port) = seekdb(data.path());
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver(dir.path());
    let variables = [("OB_HOST", "127.0.0.1"), ("OB_PORT", &port)];
    let node = node(dir.path(), &variables, &stored::args(&receiver));
    eventually(PATIENCE, "it answers", || {
        let (_, reasons) = database(&node)?;
        ensure!(reasons["database"].is_null(), "{reasons}");
        Ok(())
    })
    .unwrap();
    let id = load(dir.path());
    let (sample, reasons) = eventually(PATIENCE, "a sample of two looks under load", || {
        let (sample, reasons) = database(&node)?;
        ensure!(sample["tps"].as_f64().is_some_and(|tps| tps > 1.0), "{sample} {reasons}");
        Ok((sample, reasons))
    })
    .unwrap();
    let lacking: Vec<&str> = FIGURES.into_iter().filter(|name| sample[*name].is_null()).collect();
    // Its tables are in memory: the block cache may not be asked at all.
    assert!(lacking.iter().all(|name| ["cache_hit_ratio", "replication_lag"].contains(name)), "{reasons}");
    assert_eq!(reasons["replication_lag"], json!("the server has no replica and is none"));
    rates_agree(&node, &id);
    let path = "/api/metrics/tenant?tenant_name=sys";
    let (tenant, reasons) = latest(&node, path, &TENANT_FIGURES).unwrap();
    assert_eq!((&tenant["tenant"], reasons), (&json!("sys"), json!({})), "{tenant}");
    assert!(tenant["memory_used"].as_f64().unwrap() > 10.0, "{tenant}");
    let metrics = curl(&[&format!("{}/metrics", node.url)]).unwrap();
    assert!(metrics.contains("sextant_database_tenant_memory_bytes{tenant=\"sys\"}"), "{metrics}");
    let kept = all_that_is_exposed(&node, &receiver, "sextant_database_", PATIENCE).unwrap();
    let memory = &kept["sextant_database_tenant_memory_bytes{tenant=\"sys\"}"];
    assert!(memory.iter().all(|bytes| *bytes > 10_000_000.0), "{memory:?}");
    assert!(!kept.contains_key("sextant_database_replication_lag_seconds{}"), "null is no sample: {kept:?}");
}

/// What obagent would serve of a tenant whose name needs quoting; its operations grow by 100 a second.
fn obagent(since: Instant) -> String {
    let tenant = r#"tenant_name="x\"y",svr_ip="10.0.0.1""#;
    let io = since.elapsed().as_secs_f64() * 100.0;
    let mut text = String::new();
    for (stat, value) in [("140006", 50.0), ("140005", 400.0), ("140003", 3_145_728.0), ("60000", io)] {
        text += &format!("ob_sysstat{{stat_id=\"{stat}\",{tenant}}} {value}\n");
    }
    for (name, value) in [
        ("ob_tenant_disk_data_size", 2_097_152),
        ("ob_tenant_disk_log_size", 1_048_576),
        ("ob_all_session_num", 7),
        ("ob_active_session_num", 3),
    ] {
        text += &format!("{name}{{{tenant}}} {value}\n");
    }
    text
}

/// Serves it at every path until the process ends; the port.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, since) = (listener.local_addr().unwrap().port(), Instant::now());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4_096]);
            let body = obagent(since);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
            let _ = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[test]
fn tenants_come_from_a_prometheus_that_scrapes_obagent() {
    let dir = tempfile::tempdir().unwrap();
    let scraped = serve();
    std::fs::write(
        dir.path().join("prometheus.yml"),
        format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: ob\n  static_configs:\n  - targets: ['127.0.0.1:{scraped}']\n"
        ),
    )
    .unwrap();
    let port = free_port();
    let mut prometheus = Command::new(tool("SEXTANT_PROMETHEUS", "prometheus"));
    prometheus.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
    prometheus.arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()));
    prometheus.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let quiet = prometheus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let killed = Killed(quiet.spawn().unwrap());
    let listens = || Ok(TcpStream::connect(("127.0.0.1", port))?);
    eventually(PATIENCE, "prometheus listens", listens).unwrap();
    let node = node(dir.path(), &[("PROMETHEUS_URL", &format!("http://127.0.0.1:{port}"))], &[]);
    // Its samples are on whole quarters of a minute, so the first may take one.
    let (tenant, reasons) = eventually(PATIENCE, "every expression has a value", || {
        let (tenant, reasons) = latest(&node, "/api/metrics/tenant?tenant_name=x%22y", &TENANT_FIGURES)?;
        ensure!(reasons == json!({}), "{tenant} {reasons}");
        Ok((tenant, reasons))
    })
    .unwrap();
    for (name, wanted) in [
        ("cpu_percent", 12.5),
        ("memory_used", 3.0),
        ("disk_used", 3.0),
        ("session_count", 7.0),
        ("active_session_count", 3.0),
    ] {
        assert_eq!(tenant[name].as_f64(), Some(wanted), "{name}: {tenant} {reasons}");
    }
    let iops = tenant["iops"].as_f64().unwrap();
    // Its window of a minute is not full yet: Prometheus tells the less the emptier it is.
    assert!((1.0..=110.0).contains(&iops), "{tenant}");
    assert_eq!(tenant["tenant"], json!("x\"y"));
    let none = curl(&[&format!("{}/api/metrics/tenant?tenant_name=nobody", node.url)]).unwrap();
    assert!(none.contains("knows no tenant"), "{none}");
    drop(killed);
    let gone =
        curl(&["-w", " %{http_code}", &format!("{}/api/metrics/tenant?tenant_name=a", node.url)]).unwrap();
    assert!(gone.ends_with(" 502") && gone.contains("Prometheus"), "{gone}");
}

fn curl(args: &[&str]) -> Result<String> {
    Ok(String::from_utf8(Command::new("curl").arg("-s").args(args).output()?.stdout)?)
}
