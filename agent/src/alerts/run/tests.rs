use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::FutureExt as _;

use super::*;
use crate::domain::series::{Labels, Sample, SeriesSamples};

/// Each test has its own clock: they run side by side.
macro_rules! clock {
    ($now:ident) => {{
        static $now: AtomicI64 = AtomicI64::new(1_800_000_000_000);
        let clock: WallClock = || $now.load(Ordering::SeqCst) * 1_000_000;
        (&$now, clock)
    }};
}

struct Lab {
    directory: tempfile::TempDir,
    series: Series,
    clock: WallClock,
    config: Config,
}

impl Lab {
    async fn new(clock: WallClock, rules: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules_file = directory.path().join("rules.toml");
        std::fs::write(&rules_file, rules).unwrap();
        let config = series::Config::default();
        let series =
            Series::open(directory.path(), &config, series::Metrics::default(), clock).await.unwrap();
        Self { directory, series, clock, config: Config { rules_file, ..Config::default() } }
    }

    fn start(&self) -> (Alerts, Reader) {
        let path = self.directory.path();
        let alerts = Alerts::new(&self.config, path, self.series.clone(), Metrics::default(), self.clock);
        let alerts = alerts.unwrap();
        let changes = alerts.changes();
        (alerts, changes)
    }

    async fn append(&self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let labels = Labels::new(metric, labels.iter().copied()).unwrap();
        let samples = vec![Sample { at_ms: (self.clock)() / 1_000_000, value }];
        self.series.append("s", vec![SeriesSamples { labels, samples }]).await.unwrap();
    }
}

fn told(changes: &mut Reader) -> Vec<(String, State)> {
    let mut all = Vec::new();
    while let Some(alerts) = changes.next().now_or_never() {
        all.extend(alerts.into_iter().map(|alert| (alert.summary, alert.state)));
        changes.told();
    }
    all
}

impl Alerts {
    async fn evaluate(&mut self) {
        let looked = self.look().await;
        self.apply(looked).await;
    }
}

const RULES: &str = r#"
[[rule]]
name = "Hot"
metric = "temperature"
by = ["gpu"]
above = 80
clear = 70
for_s = 10
summary = "{gpu} is at {value}"

[[rule]]
name = "Gone"
metric = "temperature"
by = ["gpu"]
window_s = 60
absent = true
summary = "{gpu} is gone"
"#;

#[tokio::test]
async fn an_alert_fires_once_over_a_restart_and_resolves() {
    let (now, clock) = clock!(NOW);
    let lab = Lab::new(clock, RULES).await;
    let (mut alerts, mut changes) = lab.start();
    lab.append("temperature", &[("gpu", "0")], 90.0).await;
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    assert_eq!(alerts.watch().borrow().alerts[0].state, State::Pending);
    now.fetch_add(11_000, Ordering::SeqCst);
    lab.append("temperature", &[("gpu", "0")], 95.0).await;
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [("0 is at 95".to_owned(), State::Firing)]);
    // A restart tells nothing again, and knows what fires before it asked anything.
    alerts.finish().await;
    drop(alerts);
    let (mut alerts, mut changes) = lab.start();
    assert_eq!(alerts.watch().borrow().alerts[0].state, State::Firing);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    // Between the limit and where it is clear it goes on.
    for (value, expected) in [(75.0, vec![]), (69.0, vec![("0 is at 75".to_owned(), State::Resolved)])] {
        now.fetch_add(1_000, Ordering::SeqCst);
        lab.append("temperature", &[("gpu", "0")], value).await;
        alerts.evaluate().await;
        let told: Vec<_> = told(&mut changes);
        assert_eq!(told.len(), expected.len(), "{value}: {told:?}");
    }
    // And when it says nothing any more, that is told.
    now.fetch_add(61_000, Ordering::SeqCst);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [("0 is gone".to_owned(), State::Firing)]);
}

/// GPU 0 is too hot, and everybody was told so before the end.
async fn fired_and_stopped(lab: &Lab, now: &AtomicI64) {
    let (mut alerts, mut changes) = lab.start();
    for value in [90.0, 95.0] {
        lab.append("temperature", &[("gpu", "0")], value).await;
        alerts.evaluate().await;
        now.fetch_add(11_000, Ordering::SeqCst);
    }
    assert_eq!(told(&mut changes), [("0 is at 95".to_owned(), State::Firing)]);
    alerts.finish().await;
}

#[tokio::test]
async fn the_alert_of_a_rule_that_is_removed_is_told_to_be_over() {
    let (now, clock) = clock!(NOW);
    let mut lab = Lab::new(clock, RULES).await;
    fired_and_stopped(&lab, now).await;
    lab.config.rules_file = lab.directory.path().join("others.toml");
    let other = "[[rule]]\nname = \"Other\"\nmetric = \"other\"\nabove = 1";
    std::fs::write(&lab.config.rules_file, other).unwrap();
    let (mut alerts, mut changes) = lab.start();
    assert_eq!(told(&mut changes), []);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [("0 is at 95".to_owned(), State::Resolved)]);
    // Once; it is shown for an hour, and then forgotten.
    now.fetch_add(3_600_000, Ordering::SeqCst);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    assert!(alerts.known.is_empty());
}

/// Hours later, before anything of them was read, nothing is known to be over and nobody to be gone.
#[tokio::test]
async fn a_restart_after_a_long_time_changes_nothing_until_its_window_is_over() {
    let (now, clock) = clock!(NOW);
    let lab = Lab::new(clock, RULES).await;
    fired_and_stopped(&lab, now).await;
    now.fetch_add(7_200_000, Ordering::SeqCst);
    let (mut alerts, mut changes) = lab.start();
    for _ in 0..2 {
        alerts.evaluate().await;
        assert_eq!(told(&mut changes), []);
        assert_eq!(alerts.watch().borrow().alerts[0].state, State::Firing);
        now.fetch_add(59_000, Ordering::SeqCst);
    }
    lab.append("temperature", &[("gpu", "0")], 95.0).await;
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    // After its window each rule says what it sees: one of a minute, and one of five.
    now.fetch_add(61_000, Ordering::SeqCst);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [("0 is gone".to_owned(), State::Firing)]);
    now.fetch_add(240_000, Ordering::SeqCst);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [("0 is at 95".to_owned(), State::Resolved)]);
}

/// What was pending when the receiver stopped has to hold for its whole time again.
#[tokio::test]
async fn a_pending_alert_begins_anew_after_a_restart() {
    let (now, clock) = clock!(NOW);
    let lab = Lab::new(clock, &format!("{RULES}[[rule]]\nname = \"Any\"\nmetric = \"m\"\nabove = 0\n")).await;
    let (mut alerts, mut changes) = lab.start();
    lab.append("temperature", &[("gpu", "0")], 90.0).await;
    lab.append("m", &[], 1.0).await;
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [(String::new(), State::Firing)], "the file is written");
    alerts.finish().await;
    drop(alerts);
    now.fetch_add(11_000, Ordering::SeqCst);
    // A file of a build that kept them too.
    let path = lab.directory.path().join("alerts.json");
    let mut page: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut pending = page["alerts"][0].clone();
    for (key, value) in [("rule", "Hot"), ("state", "pending")] {
        pending[key] = value.into();
    }
    pending["labels"] = serde_json::json!({"gpu": "0"});
    page["alerts"].as_array_mut().unwrap().push(pending);
    std::fs::write(&path, page.to_string()).unwrap();
    let (mut alerts, mut changes) = lab.start();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    now.fetch_add(9_000, Ordering::SeqCst);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    now.fetch_add(1_000, Ordering::SeqCst);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), [("0 is at 90".to_owned(), State::Firing)]);
}

/// Killed between the state and the telling of it: who comes after tells it, under the same id, and once.
#[tokio::test]
async fn what_was_not_told_is_told_after_a_kill() {
    let (now, clock) = clock!(NOW);
    let lab = Lab::new(clock, "[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 0\nsummary = \"s\"").await;
    lab.append("m", &[], 1.0).await;
    let (mut alerts, mut changes) = lab.start();
    alerts.evaluate().await;
    let id = changes.next().await[0].id();
    drop(alerts);
    now.fetch_add(60_000, Ordering::SeqCst);
    let (mut alerts, mut changes) = lab.start();
    assert_eq!(changes.next().await[0].id(), id);
    assert_eq!(told(&mut changes), [("s".to_owned(), State::Firing)]);
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    alerts.finish().await;
    drop(alerts);
    assert_eq!(told(&mut lab.start().1), []);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_tried_again_without_a_change() {
    let (_, clock) = clock!(NOW);
    let lab = Lab::new(clock, "[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 0\nsummary = \"s\"").await;
    lab.append("m", &[], 1.0).await;
    let (mut alerts, mut changes) = lab.start();
    let (kept, fresh) = ["alerts.json", "alerts.new"].map(|name| lab.directory.path().join(name)).into();
    std::fs::create_dir(&fresh).unwrap();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes).len(), 1);
    assert!(!kept.exists());
    std::fs::remove_dir(&fresh).unwrap();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
    assert!(std::fs::read_to_string(&kept).unwrap().contains("firing"));
}

/// The control: without its file, a restart tells again what was told.
#[tokio::test]
async fn without_its_states_a_restart_tells_twice() {
    let (_, clock) = clock!(NOW);
    let lab = Lab::new(clock, "[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 0\nsummary = \"s\"").await;
    lab.append("m", &[], 1.0).await;
    let (mut alerts, mut changes) = lab.start();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes).len(), 1);
    std::fs::remove_file(lab.directory.path().join("alerts.json")).unwrap();
    let (mut alerts, mut changes) = lab.start();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes).len(), 1, "told twice: the file is what prevents it");
    // And a damaged one is set aside.
    std::fs::write(lab.directory.path().join("alerts.json"), "{\"format\":1,\"alerts\":[{").unwrap();
    let (alerts, _) = lab.start();
    assert!(alerts.watch().borrow().alerts.is_empty());
    assert!(lab.directory.path().join("alerts.damaged").exists());
}

#[tokio::test]
async fn the_rules_that_come_along_see_what_they_are_for() {
    let (now, clock) = clock!(NOW);
    let mut lab = Lab::new(clock, "").await;
    lab.config.rules_file = std::path::PathBuf::new();
    let (mut alerts, mut changes) = lab.start();
    let node = ("node", "n1");
    lab.append("sextant_node_dropped_records_total", &[node, ("reason", "spool_full")], 1.0).await;
    lab.append("sextant_node_last_record_timestamp_seconds", &[("node", "n2")], 1.0).await;
    now.fetch_add(301_000, Ordering::SeqCst);
    lab.append("sextant_scheduler_exits", &[node, ("ops", "rustland"), ("kind", "error_stall")], 1.0).await;
    lab.append("sextant_scheduler_exits", &[node, ("ops", "bpfland"), ("kind", "unreg")], 1.0).await;
    lab.append("sextant_scheduler_longest_wait_seconds", &[node], 2.0).await;
    lab.append("sextant_scheduler_watchdog_timeout_seconds", &[node], 5.0).await;
    let pod = [node, ("namespace", "ns"), ("pod", "p"), ("container", "c")];
    lab.append("sextant_pod_runqueue_longest_wait_seconds", &pod, 3.0).await;
    lab.append("sextant_node_dropped_records_total", &[node, ("reason", "spool_full")], 9.0).await;
    lab.append("DCGM_FI_DEV_XID_ERRORS", &[("Hostname", "h"), ("gpu", "3"), ("UUID", "u")], 79.0).await;
    lab.append("DCGM_FI_DEV_XID_ERRORS", &[("Hostname", "h"), ("gpu", "4"), ("UUID", "v")], 0.0).await;
    alerts.evaluate().await;
    let fired: BTreeSet<_> = told(&mut changes).into_iter().map(|(summary, _)| summary).collect();
    let expected = [
        "GPU 3 of h reported XID 79",
        "a task of ns/p on n1 waited 3 s for a CPU",
        "a task on n1 waited for 0.4 of the scheduler's watchdog timeout",
        "n1 drops 0.027 records a second: spool_full",
        "no record of n2 came for five minutes",
        "the kernel ejected rustland on n1: error_stall",
    ];
    assert_eq!(fired.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_question_that_fails_changes_nothing() {
    let (_, clock) = clock!(NOW);
    let lab = Lab::new(clock, "[[rule]]\nname = \"R\"\nmetric = \"m\"\nabove = 0\nsummary = \"s\"").await;
    lab.append("m", &[], 1.0).await;
    let (mut alerts, mut changes) = lab.start();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes).len(), 1);
    lab.series.close().await;
    std::fs::remove_dir_all(lab.directory.path().join("series")).unwrap();
    std::fs::write(lab.directory.path().join("series"), "no directory").unwrap();
    alerts.evaluate().await;
    assert_eq!(told(&mut changes), []);
}
