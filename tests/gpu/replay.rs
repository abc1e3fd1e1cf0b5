//! `sextant replay` against a real receiver: what arrives, what does not and why, and a receiver that is full, gone or
//! another one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sextant_tests::role::{Role, eventually, sextant};

use crate::http::{ask, drain, take};

const HEADER: &str =
    "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,value,labels_raw";

/// A sample a second of each GPU.
fn file(dir: &Path, seconds: u32, gpus: u32, more: &str) -> PathBuf {
    let mut text = format!("{HEADER}\n");
    for second in 0..seconds {
        for gpu in 0..gpus {
            let at = format!("2025-07-18T20:{:02}:{:02}Z", second / 60, second % 60);
            let labels = format!("\"gpu=\"\"{gpu}\"\",UUID=\"\"GPU-{gpu}\"\"\"");
            writeln!(
                text,
                "{at},DCGM_FI_DEV_GPU_UTIL,{gpu},nvidia{gpu},GPU-{gpu},H100,host-1,,,,{second},{labels}"
            )
            .unwrap();
        }
    }
    text += more;
    let path = dir.join("samples.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn command(file: &Path, to: &str, args: &[&str]) -> Command {
    let mut command = Command::new(sextant());
    command.arg("replay").arg(file).args(["--to", to, "--json"]).args(args);
    command.env_remove("MSG_QUEUE_ADDR").env_remove("MSG_QUEUE_TOPIC").env_remove("SEXTANT_API_KEY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn replay(file: &Path, to: &str, args: &[&str]) -> Output {
    command(file, to, args).output().unwrap()
}

fn account(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn number(account: &Value, path: &str) -> u64 {
    account.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} of {account}"))
}

fn adds_up(account: &Value) {
    let parts = ["/sent", "/quarantined/total", "/blank/total", "/unsent"].map(|path| number(account, path));
    assert_eq!(number(account, "/rows"), parts.iter().sum::<u64>(), "{account}");
}

fn seconds(record: &Value) -> f64 {
    let time = record["time"].as_str().unwrap();
    let output = Command::new("date").args(["+%s.%N", "-d", time]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn every_row_arrives_or_is_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", dir.path(), &[]).unwrap();
    let bad = "2025-07-18T20:00:00Z,broken \"quote,0,d,GPU-0,M,h,,,,1,\nyesterday,m,0,d,GPU-0,M,h,,,,1,\n";
    let blank = "2025-07-18T20:00:00Z,m,0,d,GPU-0,M,h,,,,NaN,\n2025-07-18T20:00:00Z,m,0,d,GPU-0,M,h,,,,9223372036854775794,\n";
    let path = file(dir.path(), 10, 3, &format!("{bad}{blank}2025-07-18T20:00:00Z,m,0,d,GP"));
    let before = now();
    let output = replay(&path, &receiver.url, &["--rate", "max"]);
    let (after, account) = (now(), account(&output));
    assert!(output.status.success(), "{account}");
    adds_up(&account);
    assert_eq!((number(&account, "/rows"), number(&account, "/sent")), (35, 30));
    for (path, count) in [
        ("quarantined/quotes", 1),
        ("quarantined/timestamp", 1),
        ("quarantined/truncated", 1),
        ("blank/not_finite", 1),
        ("blank/blank", 1),
    ] {
        assert_eq!(number(&account, &format!("/{path}")), count, "{account}");
    }
    let bad = std::fs::read_to_string(dir.path().join("samples.csv.quarantine.csv")).unwrap();
    assert_eq!(bad.lines().count(), 4, "{bad}");
    assert!(bad.contains("32,quotes,\"2025-07-18T20:00:00Z,broken \"\"quote"), "{bad}");

    let records = drain(&receiver, "check");
    assert_eq!(records.len(), 30);
    let first = records.iter().find(|record| record["uuid"] == "GPU-2" && record["value"] == 0.0).unwrap();
    assert_eq!(
        (&first["modelName"], &first["Hostname"], &first["device_id"]),
        (&"H100".into(), &"host-1".into(), &"nvidia2".into())
    );
    assert_eq!(first["labels_raw"], "gpu=\"2\",UUID=\"GPU-2\"");
    // The last row is now, and the others keep their distance; rows of a device are in order.
    let times: Vec<f64> = records.iter().filter(|record| record["uuid"] == "GPU-2").map(seconds).collect();
    assert!(
        times.iter().all(|time| before - 10.0 < *time && *time < after),
        "{times:?} in {before} to {after}"
    );
    assert!(times.array_windows().all(|[one, next]| (next - one - 1.0).abs() < 0.001), "{times:?}");
}

#[test]
fn the_files_own_times_can_be_kept_and_the_references_variables_count() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", dir.path(), &[]).unwrap();
    let path = file(dir.path(), 1, 1, "");
    let mut command = Command::new(sextant());
    command.arg("replay").arg(&path).args(["--keep-time", "--rate", "max"]);
    let output =
        command.env("MSG_QUEUE_ADDR", &receiver.url).env("MSG_QUEUE_TOPIC", "other").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("sent         1\n"), "{text}");
    let (_, pulled) = ask("GET", &format!("{}/consume?topic=other&group=g&max=5", receiver.url), "").unwrap();
    assert!(pulled.contains("2025-07-18T20:00:00Z"), "{pulled}");
}

#[test]
fn realtime_takes_as_long_as_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", dir.path(), &[]).unwrap();
    let path = file(dir.path(), 3, 1, "");
    let started = Instant::now();
    let output = replay(&path, &receiver.url, &[]);
    let took = started.elapsed();
    assert!(output.status.success() && (2.0..8.0).contains(&took.as_secs_f64()), "{took:?}");
    let started = Instant::now();
    let slow = replay(&path, &receiver.url, &["--rate", "2"]);
    assert!(slow.status.success() && started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn a_full_queue_is_waited_for_and_nothing_is_skipped_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    // For a group that reads nothing 4 partitions hold 4,000 rows, and a batch is 1,000.
    let receiver = Role::start("receiver", dir.path(), &["--queue-size", "1000"]).unwrap();
    let first =
        json!({"metric": "m", "value": 1, "time": "2025-07-18T20:00:00Z", "uuid": "first"}).to_string();
    assert_eq!(ask("POST", &format!("{}/telemetry", receiver.url), &first).unwrap().0, 200);
    assert_eq!(take(&receiver, "check").len(), 1, "from now on what comes waits for it");
    let path = file(dir.path(), 300, 40, "");
    let mut child = command(&path, &receiver.url, &["--rate", "max"]).spawn().unwrap();
    let mut values = BTreeSet::new();
    let mut count = 0;
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    eventually(Duration::from_secs(120), "everything arrives", || {
        let some = take(&receiver, "check");
        count += some.len();
        values.extend(some.iter().map(|record| format!("{} {}", record["uuid"], record["value"])));
        anyhow::ensure!(values.len() == 12_000, "{} of 12000", values.len());
        Ok(())
    })
    .unwrap();
    assert_eq!(count, 12_000, "none came twice");
    let output = child.wait_with_output().unwrap();
    let account = account(&output);
    adds_up(&account);
    assert_eq!((number(&account, "/sent"), number(&account, "/unsent")), (12_000, 0));
    assert!(number(&account, "/retries") > 0, "{account}");
}

#[test]
fn a_receiver_that_is_killed_gets_every_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("receiver");
    let args = ["--queue-size", "1000000"];
    let mut receiver = Role::start("receiver", &data, &args).unwrap();
    let (url, address) = (receiver.url.clone(), receiver.address().to_owned());
    let path = file(dir.path(), 600, 20, "");
    let child = command(&path, &url, &["--rate", "6000"]).spawn().unwrap();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(400));
        receiver.kill().unwrap();
        receiver = eventually(Duration::from_secs(10), "it comes back", || {
            Role::start_on("receiver", &address, &data, &args)
        })
        .unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let account = account(&output);
    assert!(output.status.success(), "{account}");
    adds_up(&account);
    assert_eq!(number(&account, "/sent"), 12_000);
    let records = drain(&receiver, "check");
    let different: BTreeSet<_> =
        records.iter().map(|record| format!("{} {}", record["uuid"], record["value"])).collect();
    assert_eq!((records.len(), different.len()), (12_000, 12_000));
}

#[test]
fn a_loop_begins_again_until_it_is_stopped_and_says_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start("receiver", dir.path(), &["--queue-size", "1000000"]).unwrap();
    let path = file(dir.path(), 2, 5, "no row\n");
    let child = command(&path, &receiver.url, &["--rate", "500", "--loop"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let output = stopped(child);
    let account = account(&output);
    adds_up(&account);
    assert!(output.status.success() && number(&account, "/passes") > 3, "{account}");
    let bad = std::fs::read_to_string(dir.path().join("samples.csv.quarantine.csv")).unwrap();
    assert_eq!(bad.lines().count(), 2, "a bad row is written once: {bad}");
    // The control: stopped before the end is no success without --loop.
    let path = file(dir.path(), 600, 1, "");
    let child = command(&path, &receiver.url, &["--rate", "10"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(stopped(child).status.code(), Some(1));
}

fn stopped(child: Child) -> Output {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_will_not_get_better_ends_it_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Role::start_with(&[("API_KEY", "the key")], "receiver", dir.path(), &[]).unwrap();
    let path = file(dir.path(), 1, 1, "");
    let ended = |file: &Path, to: &str, args: &[&str]| {
        let output = replay(file, to, args);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, words) = ended(&path, &receiver.url, &["--rate", "max"]);
    assert!(code == Some(1) && words.contains("--key-file"), "{code:?} {words}");
    let mut with_key = command(&path, &receiver.url, &["--rate", "max"]);
    assert!(with_key.env("SEXTANT_API_KEY", "the key").output().unwrap().status.success(), "the control");
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, "the key\n").unwrap();
    assert_eq!(
        ended(&path, &receiver.url, &["--rate", "max", "--key-file", key_file.to_str().unwrap()]).0,
        Some(0)
    );

    let (code, words) = ended(&path, &liar(), &["--rate", "max"]);
    assert!(code == Some(1) && words.contains("no receiver"), "{code:?} {words}");
    let other = dir.path().join("other.csv");
    std::fs::write(&other, "a,b\n1,2\n").unwrap();
    for (file, to, args, wanted, text) in [
        (dir.path().join("nothing.csv"), &*receiver.url, &[][..], 1, "nothing.csv"),
        (dir.path().to_owned(), &receiver.url, &[], 1, "regular file"),
        (other, &receiver.url, &[], 1, "without timestamp"),
        (path.clone(), &receiver.url, &["--rate", "fast"], 2, "realtime"),
        (path.clone(), "gpu:80:80", &[], 2, "--to"),
        (path, &receiver.url, &["--topic", "a b"], 2, "--topic"),
    ] {
        let (code, words) = ended(&file, to, args);
        assert!(code == Some(wanted) && words.contains(text), "{args:?}: {code:?} {words}");
    }
}

/// A server that says 200 to everything and keeps nothing.
fn liar() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    url
}
