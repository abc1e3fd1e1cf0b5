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

/// A database's figures under the names and in the units of its node's own exposition: all that a node can say.
#[test]
fn a_databases_figures_are_in_base_units_and_null_is_no_sample() {
    let all = of(json!({"kind": "database", "body": {"at_ns": 1, "left_out": 0,
        "fields": ["new_field", "qps", "tps", "active_sessions", "sql_response_time", "disk_io_bytes", "disk_iops",
            "memory_usage", "cache_hit_ratio", "slow_queries", "deadlocks", "replication_lag", "connection_count"],
        "values": [9.0, 1.5, 0.0, 2.0, 0.25, 4096.0, 8.0, 2.0, 50.0, 1.0, 3.0, null, 7.0],
        "tenant_fields": ["cpu_percent", "memory_used", "disk_used", "iops", "session_count", "active_session_count"],
        "tenants": [{"tenant": "sys", "values": [25.0, 1.0, null, 6.0, 5.0]}, {"tenant": "x\"y", "values": []}]}}));
    let database = |name: &str, value: f64| (format!("sextant_database_{name}{{node=\"n1\"}}"), value);
    let tenant = |name: &str, value: f64| {
        (format!("sextant_database_tenant_{name}{{node=\"n1\",tenant=\"sys\"}}"), value)
    };
    let expected = [
        database("query_rate", 1.5),
        database("transaction_rate", 0.0),
        database("active_sessions", 2.0),
        database("response_time_seconds", 0.25),
        database("disk_byte_rate", 4_096.0),
        database("disk_operation_rate", 8.0),
        database("memory_bytes", 2_097_152.0),
        database("cache_hit_ratio", 0.5),
        database("recent_slow_queries", 1.0),
        database("recent_deadlocks", 3.0),
        database("sessions", 7.0),
        tenant("cpu_ratio", 0.25),
        tenant("memory_bytes", 1_048_576.0),
        tenant("disk_operation_rate", 6.0),
        tenant("sessions", 5.0),
    ];
    assert_eq!(all, expected.into());
    // The control: a row whose numbers stand in another place is another reading.
    let moved = of(json!({"kind": "database", "body": {"at_ns": 1, "left_out": 0, "fields": ["tps", "qps"],
        "values": [1.5, null], "tenant_fields": [], "tenants": []}}));
    assert_eq!(moved, [database("transaction_rate", 1.5)].into());
}

#[test]
fn no_figure_that_a_node_knows_of_its_database_is_forgotten() {
    use crate::api::database::record::NodeDatabase;
    use crate::domain::database::{History, Sample as Reading, TenantSample};
    let known = || Ok(1.0);
    let reading = Reading {
        at_ns: 1,
        qps: known(),
        tps: known(),
        active_sessions: known(),
        sql_response_time: known(),
        disk_io_bytes: known(),
        disk_iops: known(),
        memory_usage: known(),
        cache_hit_ratio: known(),
        slow_queries: known(),
        deadlocks: known(),
        replication_lag: known(),
        connection_count: known(),
    };
    let tenant = TenantSample {
        at_ns: 1,
        tenant: "sys".to_owned(),
        cpu_percent: known(),
        memory_used: known(),
        disk_used: known(),
        iops: known(),
        session_count: known(),
        active_session_count: known(),
    };
    let figures = reading.figures().len() + tenant.figures().len();
    let history = History {
        samples: vec![reading.into()],
        tenants: [("sys".to_owned(), vec![tenant.into()])].into(),
        ..History::default()
    };
    let body = serde_json::to_value(NodeDatabase::new(&history)).unwrap();
    assert_eq!(of(json!({"kind": "database", "body": body})).len(), figures);
}

fn workload(id: &str, report: &serde_json::Value) -> serde_json::Value {
    json!({"id": id, "kind": "oltp_read_only", "threads": 4, "state": "running", "phase": "running", "reason": null,
        "started_at_ns": 1, "ended_at_ns": null, "report": report})
}

#[test]
fn a_workloads_report_is_series_of_its_own_and_without_one_only_the_sums_are() {
    let report = json!({"at_s": 3, "threads": 3, "tps": 10.5, "qps": 200.0, "reads_per_s": 1.0, "writes_per_s": 2.0,
        "errors_per_s": 0.0, "reconnects_per_s": 0.0, "latency_percentile": 95, "latency_ms": 250.0});
    let own = json!({"at_s": 3, "threads": 1, "tps": 7.0, "qps": null, "reads_per_s": null, "writes_per_s": null,
        "errors_per_s": null, "reconnects_per_s": null, "latency_percentile": 95, "latency_ms": 500.0});
    let all = of(json!({"kind": "workloads", "body": {"at_ns": 1, "active": 3, "left_out": 0,
        "workloads": [workload("a", &report), workload("b", &own), workload("c", &json!(null))],
        "kinds": [{"kind": "oltp_read_only", "runs": {"ended": 2, "failed": 1}, "events": 31.5, "queries": 600.0,
            "errors": null}]}}));
    let live = |id: &str, name: &str, value: f64| {
        let labels = format!(r#"kind="oltp_read_only",node="n1",workload="{id}""#);
        (format!("sextant_workload_{name}{{{labels}}}"), value)
    };
    let sum = |name: &str, value: f64| {
        (format!(r#"sextant_workload_{name}_total{{kind="oltp_read_only",node="n1"}}"#), value)
    };
    let runs = |result: &str, value: f64| {
        let labels = format!(r#"kind="oltp_read_only",node="n1",result="{result}""#);
        (format!("sextant_workload_runs_total{{{labels}}}"), value)
    };
    let expected = [
        (r#"sextant_workload_active{node="n1"}"#.to_owned(), 3.0),
        live("a", "threads", 3.0),
        live("a", "event_rate", 10.5),
        live("a", "latency_seconds", 0.25),
        live("a", "query_rate", 200.0),
        live("a", "error_rate", 0.0),
        live("b", "threads", 1.0),
        live("b", "event_rate", 7.0),
        live("b", "latency_seconds", 0.5),
        sum("events", 31.5),
        sum("queries", 600.0),
        runs("ended", 2.0),
        runs("failed", 1.0),
    ];
    assert_eq!(all, expected.into());
}
