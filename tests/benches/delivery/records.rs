//! What nodes send: the same kinds and about the same sizes as a node of thirty pods with three processes each.

use serde_json::{Value, json};

/// Pods of a node, and processes of each.
const PODS: u64 = 30;
const PROCESSES: u64 = 3;

fn record(at_ns: i64, kind: &str, body: &Value) -> Value {
    json!({ "at_ns": at_ns, "boot_id": "b", "kind": kind, "body": body })
}

fn pod(number: u64) -> (String, String, String) {
    let uid = format!("{number:08x}-ba47-11ea-b2a7-0cc47ac5979e");
    (uid, format!("application-7b4f6c9d-{number:05x}"), format!("{number:064x}"))
}

/// A scheduler's counters; about 3 KiB.
pub(super) fn scheduler(at_ns: i64) -> Value {
    let variables: Vec<_> = (0..30)
        .map(|n| json!({ "name": format!("nr_of_something_{n}"), "section": ".bss", "type": "u64", "value": at_ns }))
        .collect();
    let body = json!({
        "at_ns": at_ns, "state": "enabled", "ops": "rustland_1.1.4_x86_64_unknown_linux_gnu", "name": "rustland",
        "version": "1.1.4", "epoch": null, "user_pid": 1_234, "switch_all": true, "nr_rejected": 0, "enable_seq": 3,
        "hotplug_seq": 0, "events": {}, "bss": { "nr_queued": 3, "nr_running": 4 }, "bss_absent": {}, "sections": [],
        "variables": variables, "unread": [], "watchdog": null, "stall_warnings": 0, "last_exit": null,
    });
    record(at_ns, "scheduler", &body)
}

/// All pods with their processes; about 20 KiB.
pub(super) fn pods(at_ns: i64) -> Value {
    let pods: Vec<_> = (0..PODS)
        .map(|n| {
            let (uid, name, id) = pod(n);
            let processes: Vec<_> = (0..PROCESSES)
                .map(|p| {
                    let pid = 10_000 + n * 10 + p;
                    json!({ "pid": pid, "starttime_ticks": 99, "ppid": 1, "comm": "application", "threads": 8 })
                })
                .collect();
            let cgroup = format!("/kubepods.slice/pod{uid}/{id}");
            json!({
                "uid": uid, "is_static": false, "name": name, "namespace": "production",
                "labels": { "app": "application", "pod-template-hash": "7b4f6c9d" }, "qos": "burstable",
                "named_by": "files", "tasks": PROCESSES, "threads": 8 * PROCESSES,
                "containers": [{
                    "id": id, "name": "main", "runtime": "containerd", "kind": "container", "cgroup": cgroup,
                    "cgroup_id": n, "threads": 8 * PROCESSES, "processes": processes,
                }],
            })
        })
        .collect();
    let host = json!({ "tasks": 180, "threads": 300, "containers": [] });
    record(at_ns, "pods", &json!({ "at_ns": at_ns, "pods": pods, "host": host, "skipped": {} }))
}

/// What all pods use; about 20 KiB.
pub(super) fn usage(at_ns: i64) -> Value {
    let fields: Vec<_> = (0..30).map(|n| format!("field_number_{n}")).collect();
    let row = json!({ "epoch": 1, "values": vec![123_456_789_u64; 30] });
    let pods: Vec<_> = (0..PODS)
        .map(|n| {
            let (uid, name, id) = pod(n);
            let container = json!({ "id": id, "name": "main", "row": row });
            json!({ "uid": uid, "namespace": "production", "name": name, "row": row, "containers": [container] })
        })
        .collect();
    record(at_ns, "usage", &json!({ "at_ns": at_ns, "fields": fields, "pods": pods, "left_out": 0 }))
}

/// How all pods waited for a CPU; about 20 KiB.
pub(super) fn runqueue(at_ns: i64) -> Value {
    let fields: Vec<_> = (0..10).map(|n| format!("field_number_{n}")).collect();
    let row = json!({ "values": vec![123_456_789_u64; 10], "waits": vec![123_456_u64; 30] });
    let pods: Vec<_> = (0..PODS)
        .map(|n| {
            let (uid, name, id) = pod(n);
            let container = json!({ "id": id, "name": "main", "row": row });
            json!({
                "uid": uid, "namespace": "production", "name": name, "row": row, "neighbours": [],
                "containers": [container],
            })
        })
        .collect();
    let body = json!({
        "at_ns": at_ns, "mono_ns": 5, "since_ns": 1, "fields": fields, "pods": pods, "left_out": 0,
    });
    record(at_ns, "runqueue", &body)
}

/// A record that somebody posted; about 400 bytes.
pub(super) fn posted(at_ns: i64) -> Value {
    let names = ["usersched_last_run_at", "nr_queued", "nr_scheduled", "nr_running", "nr_online_cpus"];
    let body: serde_json::Map<_, _> =
        names.into_iter().map(|name| (name.to_owned(), json!(1_234_567_890_123_456_789_u64))).collect();
    record(at_ns, "bss_posted", &body.into())
}
