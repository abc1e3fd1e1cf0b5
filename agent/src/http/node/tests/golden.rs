//! What machines and people see, whole, as golden texts; and a validator for the exposition that is stricter
//! than any scraper.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use expect_test::{expect, expect_file};

use super::harness::{Node, node};
use crate::http::node::document;
use crate::http::openapi;
use crate::http::testing::{get, samples, send};

fn full_node() -> Node {
    let node = node();
    node.scheduler.send_replace(Arc::new(samples::reading(2_000_000_000, 4_000)));
    node.pods.send_replace(Arc::new(samples::pods()));
    node.usage.send_replace(Arc::new(samples::usage()));
    node.runqueues.send_replace(Arc::new(samples::runqueues()));
    node.sources.send_replace(samples::sources());
    node.database.send_replace(Arc::new(samples::database()));
    node
}

async fn scrape(node: &Node, accept: &str) -> (String, String) {
    let request = Request::get("/metrics").header("accept", accept).body(Body::empty()).expect("a request");
    let answer = send(&node.router, request).await;
    assert_eq!(answer.status, StatusCode::OK);
    (answer.header("content-type").to_owned(), answer.text().to_owned())
}

#[test]
fn the_openapi_document_is_golden() {
    expect_file!["../../../../../tests/golden/openapi-node.json"].assert_eq(&openapi::to_json(&document()));
}

#[tokio::test]
async fn the_exposition_is_golden_and_strict() {
    let node = full_node();
    let (kind, text) =
        scrape(&node, "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1").await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    validate(&text).expect("OpenMetrics");
    expect_file!["../../../../../tests/golden/metrics-node.txt"].assert_eq(&text);
    let (kind, classic) = scrape(&node, "*/*").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(!classic.contains("# EOF") && !classic.contains("# UNIT"));
    expect_file!["../../../../../tests/golden/metrics-node-classic.txt"].assert_eq(
        &classic
            .lines()
            .filter(|line| !line.contains("http_request"))
            .fold(String::new(), |all, line| all + line + "\n"),
    );
}

#[tokio::test]
async fn nothing_is_exposed_of_what_was_not_read() {
    let (_, text) = scrape(&node(), "application/openmetrics-text").await;
    validate(&text).expect("OpenMetrics");
    assert!(text.contains("sextant_scheduler_state{state=\"unsupported\"} 1"));
    for absent in ["sextant_scheduler_nr_queued", "sextant_scheduler_info", "_timestamp_seconds"] {
        assert!(!text.contains(absent), "{absent} was made up");
    }
}

#[tokio::test]
async fn the_json_of_the_whole_scheduler_is_golden() {
    let node = full_node();
    let pretty = |json: &serde_json::Value| serde_json::to_string_pretty(json).expect("encodes") + "\n";
    let scheduler = get(&node.router, "/api/v1/schedulers").await.json();
    expect_file!["../../../../../tests/golden/schedulers.json"].assert_eq(&pretty(&scheduler));
    let pods = get(&node.router, "/api/v1/pods").await.json();
    expect_file!["../../../../../tests/golden/pods.json"].assert_eq(&pretty(&pods));
    let database = get(&node.router, "/api/metrics/database").await.json();
    expect_file!["../../../../../tests/golden/database.json"].assert_eq(&pretty(&database));
    let tenant = get(&node.router, "/api/metrics/tenant?tenant_name=tenant1").await.json();
    expect_file!["../../../../../tests/golden/tenant.json"].assert_eq(&pretty(&tenant));
}

#[tokio::test]
async fn status_has_rates_once_there_are_two_readings() {
    let node = full_node();
    let first = get(&node.router, "/status?format=json").await.json();
    assert_eq!(first["scheduler"]["counters"][0]["per_second"], serde_json::Value::Null);
    let stop = tokio_util::sync::CancellationToken::new();
    let follower = tokio::spawn({
        let (state, stop) = (node.state.clone(), stop.clone());
        async move { state.follow(stop).await }
    });
    tokio::task::yield_now().await;
    node.scheduler.send_replace(Arc::new(samples::reading(4_000_000_000, 6_000)));
    let rates = |json: &serde_json::Value| {
        let rate = |i: usize| json["scheduler"]["counters"][i]["per_second"].as_f64();
        (rate(0), rate(1))
    };
    let second = get(&node.router, "/status?format=json").await.json();
    assert_eq!(rates(&second), (Some(1_000.0), Some(500.0)), "the follower has not even run");
    tokio::task::yield_now().await;
    assert_eq!(rates(&get(&node.router, "/status?format=json").await.json()), (Some(1_000.0), Some(500.0)));
    let mut replaced = samples::reading(5_000_000_000, 9_000);
    replaced.epoch = Some(crate::domain::scheduler::Epoch { enable_seq: 3, struct_ops_map_id: 18 });
    node.scheduler.send_replace(Arc::new(replaced));
    tokio::task::yield_now().await;
    assert_eq!(rates(&get(&node.router, "/status?format=json").await.json()), (None, None), "another life");
    stop.cancel();
    follower.await.expect("no panic");

    let text = get(&node.router, "/status").await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    expect![[r#"
        sextant 0.1.0 on worker-7, kernel 6.18.44, up 1 d 1 h, 2025-06-19T10:30:00Z

        SCHEDULER
          rustland_1.1.4_x86_64_unknown_linux_gnu enabled, pid 1234, enabled 3 times since boot, all tasks, 4 variables, read 420 ms ago
          nr_queued 10
          counter                     rate  total
          nr_user_dispatches             -   9000
          SCX_EV_SELECT_CPU_FALLBACK     -   4500
          usersched_pid has no value: no such variable in any section
          watchdog: wor?ker[717721] in monitoring/loki-0 waits 2.60 s of 5.00 s (52 %), 3 waiting, longest so far 2.60 s, warnings 1
          last exit: lavd ended as error_stall (runnable task stall): kworker/0:1[32] failed to run for 5.120s

        SOURCES
          source         condition  last success    took  collections  failures
          scheduler      up           420 ms ago  1.2 ms           41         0
          pod_names/cri  degraded          never  1.2 ms           41         3
          pod_names/cri lacks: pod labels: mount the CRI socket (--run-root)
          pod_names/cri failed: connect: permission denied

        PODS
          2 pods with 4 processes, 180 processes outside pods, walked 999 ms ago
          namespace   pod                               qos        containers  processes  threads  cpus  throttled            memory
          ?           0123456789abcdef0123456789abcdef  burstable           2          2        2     -          -                 -
          monitoring  loki-0                            burstable           1          2       31  0.20       12 %  21.7 / 128.0 MiB
          namespace   pod     wait p50      p99     max  per second  because of
          monitoring  loki-0   12.3 us  16.3 us  131 ms     9.00 ms  88 % /system.slice/backup.service

        DELIVERY
          off: no receiver is configured
    "#]].assert_eq(text.text());
    let bad = get(&node.router, "/status?format=xml").await;
    assert_eq!(
        (bad.status, bad.json()["error"].as_str()),
        (StatusCode::BAD_REQUEST, Some("query parameter format: text or json"))
    );
}

/// OpenMetrics 1.0 as far as we write it: one block per family; HELP, TYPE, UNIT, then samples; counters end
/// in `_total`; a unit is the name's suffix; no series twice; label values escaped; EOF at the end.
fn validate(text: &str) -> Result<(), String> {
    let body = text.strip_suffix("# EOF\n").ok_or("no EOF")?;
    let mut families = BTreeMap::new();
    let mut series = BTreeSet::new();
    let mut current = (String::new(), String::new());
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                if families.insert(name.to_owned(), ()).is_some() {
                    return Err(format!("{name} has two blocks"));
                }
                if !help.ends_with('.') || help.ends_with("..") {
                    return Err(format!("{name}: help is no sentence: {help}"));
                }
                current = (name.to_owned(), String::new());
            }
            ["#", "TYPE", name, kind] if name == current.0 => kind.clone_into(&mut current.1),
            ["#", "UNIT", name, unit] if name == current.0 && name.ends_with(&format!("_{unit}")) => {}
            ["#", ..] => return Err(format!("misplaced: {line}")),
            _ => sample(line, &current, &mut series)?,
        }
    }
    Ok(())
}

fn sample(line: &str, (name, kind): &(String, String), series: &mut BTreeSet<String>) -> Result<(), String> {
    let (id, value) = line.rsplit_once(' ').ok_or_else(|| format!("no value: {line}"))?;
    value.parse::<f64>().map_err(|_| format!("no number: {line}"))?;
    let suffix = id.strip_prefix(name.as_str()).ok_or_else(|| format!("{line} stands in {name}'s block"))?;
    let (suffix, labels) = suffix.split_at(suffix.find('{').unwrap_or(suffix.len()));
    let good = match &**kind {
        "counter" => suffix == "_total" && value.parse::<f64>().is_ok_and(|v| v >= 0.0),
        "info" => suffix == "_info" && value == "1",
        "gauge" | "unknown" => suffix.is_empty(),
        "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
        _ => false,
    };
    // Every quote but the delimiters is escaped: an even number of unescaped ones.
    let quotes = labels.replace("\\\\", "").replace("\\\"", "").matches('"').count();
    if !good || quotes % 2 != 0 || labels == "{}" {
        return Err(format!("not a {kind}: {line}"));
    }
    if series.insert(id.to_owned()) { Ok(()) } else { Err(format!("twice: {id}")) }
}

#[test]
fn the_validator_refuses_what_is_wrong() {
    let block = |samples: &str| validate(&format!("# HELP a_b B.\n# TYPE a_b counter\n{samples}# EOF\n"));
    assert_eq!(block("a_b_total 1\n"), Ok(()));
    for broken in ["a_b 1\n", "a_b_total -1\n", "a_b_total x\n", "a_b_total 1\na_b_total 1\n", "c_total 1\n"]
    {
        assert!(block(broken).is_err(), "{broken}");
    }
    assert!(block("a_b_total{x=\"a\"b\"} 1\n").is_err());
    assert!(validate("# HELP a A.\n# TYPE a gauge\n# UNIT a seconds\n# EOF\n").is_err());
    assert!(validate("").is_err());
}
