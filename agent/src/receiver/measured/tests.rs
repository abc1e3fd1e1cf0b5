use std::collections::BTreeMap;

use serde_json::json;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "a record is written where it is given")]
fn of(body: serde_json::Value) -> BTreeMap<String, f64> {
    let mut record = json!({"at_ns": 5_000_000_000_i64, "boot_id": "b"});
    record.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    let (series, unfit) = measured("n1", &serde_json::from_value(record).unwrap());
    assert_eq!(unfit, 0);
    assert!(series.iter().all(|series| series.samples.len() == 1 && series.samples[0].at_ms == 5_000));
    let count = series.len();
    let all: BTreeMap<_, _> =
        series.into_iter().map(|series| (series.labels.to_string(), series.samples[0].value)).collect();
    assert_eq!(all.len(), count, "no series twice in one record");
    all
}

#[test]
fn usage_goes_by_the_names_of_the_nodes_own_exposition() {
    let all = of(json!({"kind": "usage", "body": {"at_ns": 1, "left_out": 0,
        "fields": ["usage_usec", "memory_oom", "new_field", "pids", "cpu_quota_usec", "cpu_period_usec"],
        "pods": [{"uid": "u", "namespace": "ns", "name": null, "row": null, "containers": [
            {"id": "i", "name": "c", "row": {"epoch": 1, "values": [2_500_000, 3, 7, null, 50_000, 100_000]}}]}]}}));
    let labels = r#"container="c",namespace="ns",node="n1",pod="u""#;
    let expected = [
        (format!("sextant_pod_cpu_limit_cores{{{labels}}}"), 0.5),
        (format!("sextant_pod_cpu_usage_seconds_total{{{labels}}}"), 2.5),
        (
            r#"sextant_pod_memory_events_total{container="c",event="oom",namespace="ns",node="n1",pod="u"}"#
                .to_owned(),
            3.0,
        ),
    ];
    assert_eq!(all, expected.into());
}

#[test]
fn waits_are_a_histogram() {
    let all = of(json!({"kind": "runqueue", "body": {"at_ns": 1, "mono_ns": 1, "since_ns": 1, "left_out": 0,
        "fields": ["wait_ns", "on_cpu_ns"],
        "pods": [{"uid": "u", "namespace": "ns", "name": "p", "neighbours": [], "row": {"values": [], "waits": []},
            "containers": [{"id": "i", "name": null, "row": {"values": [3_000_000_000_u64, 1], "waits": [1, 0, 2]}}]}]}}));
    let labels = r#"container="i",namespace="ns",node="n1",pod="p""#;
    assert_eq!(all[&format!("sextant_pod_runqueue_latency_seconds_sum{{{labels}}}")], 3.0);
    assert_eq!(all[&format!("sextant_pod_runqueue_latency_seconds_count{{{labels}}}")], 3.0);
    let bucket = |le| {
        format!(
            "sextant_pod_runqueue_latency_seconds_bucket{{container=\"i\",le=\"{le}\",namespace=\"ns\",node=\"n1\",pod=\"p\"}}"
        )
    };
    assert_eq!((all[&bucket("+Inf")], all[&bucket("0.000004096")]), (3.0, 3.0));
}

#[test]
fn a_posted_record_is_series_and_null_is_no_sample() {
    let all = of(json!({"kind": "bss_posted", "body": {"nr_queued": 4, "nr_kernel_dispatches": 9}}));
    let expected = [
        (r#"sextant_scheduler_nr_kernel_dispatches_total{node="n1",source="posted"}"#.to_owned(), 9.0),
        (r#"sextant_scheduler_nr_queued{node="n1",source="posted"}"#.to_owned(), 4.0),
    ];
    assert_eq!(all, expected.into());
}

#[test]
fn gpus_go_by_the_names_and_labels_of_dcgm() {
    let all = of(
        json!({"kind": "gpu", "body": {"at_ns": 1, "fields": ["DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_GPU_UTIL"],
        "devices": [{"gpu": "0", "UUID": "GPU-1", "Hostname": "h", "workers": 0, "values": [50.0, null]}]}}),
    );
    let expected = r#"DCGM_FI_DEV_GPU_TEMP{Hostname="h",UUID="GPU-1",gpu="0",node="n1"}"#;
    assert_eq!(all, [(expected.to_owned(), 50.0)].into());
}

#[test]
fn a_node_is_seen_once_and_what_it_dropped_grows_from_nothing() {
    let nodes = |last_seen: &str| -> Nodes {
        let node = json!({"node": "n1", "boot_id": "b", "spool_id": "s", "last_seen": last_seen, "lag_seconds": 0.5,
            "produced": 3, "stored": 3, "elsewhere": 0, "spooled": 0, "duplicates": 0, "missing": 0, "adds_up": true,
            "dropped": {"spool_full": 0}});
        serde_json::from_value(json!({"at_ns": 1, "nodes": [node]})).unwrap()
    };
    let seen = |series: &[SeriesSamples]| {
        let of = |one: &&SeriesSamples| one.labels.metric() == "sextant_node_last_record_timestamp_seconds";
        series.iter().find(of).map(|one| (one.samples[0].at_ms, one.samples[0].value))
    };
    let mut accounts = Accounts::default();
    let first = accounts.at(9_000_000_000, &nodes("1970-01-01T00:00:05Z"));
    assert_eq!(seen(&first), Some((5_000, 5.0)), "it stands at its own time");
    let dropped = r#"sextant_node_dropped_records_total{node="n1",reason="spool_full"}"#;
    let at = |one: &SeriesSamples| (one.samples[0].at_ms, one.samples[0].value);
    let one = first.iter().find(|one| one.labels.to_string() == dropped);
    assert_eq!(one.map(at), Some((9_000, 0.0)));
    let again = accounts.at(24_000_000_000, &nodes("1970-01-01T00:00:05Z"));
    assert_eq!(
        (seen(&again), again.len()),
        (None, first.len() - 1),
        "a node that is silent has no new sample"
    );
    accounts.forget();
    assert_eq!(seen(&accounts.at(39_000_000_000, &nodes("1970-01-01T00:00:05Z"))), Some((5_000, 5.0)));
    assert_eq!(seen(&accounts.at(54_000_000_000, &nodes("1970-01-01T00:00:50Z"))), Some((50_000, 50.0)));
}
