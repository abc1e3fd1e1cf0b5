//! What a record keeps of a reading, and how large it gets.

use std::sync::Arc;

use super::*;
use crate::api::batch::MAX_RECORD_BYTES;
use crate::domain::pod::{CgroupKind, Container, ContainerId, Pod, PodUid, QosClass};
use crate::domain::runqueue::{Blame, CgroupRun, RunqueueReading};

fn totals(n: u64) -> RunTotals {
    let mut totals = RunTotals {
        on_cpu_ns: n,
        blocked_ns: n + 1,
        voluntary_switches: n + 2,
        involuntary_switches: n + 3,
        migrations: Migrations { same_core: n, same_llc: n + 5, same_node: n + 6, other_node: n + 7 },
        longest_recent_wait_ns: n + 8,
        ..RunTotals::default()
    };
    totals.waits.slots[3] = n;
    totals.waits.sum_ns = 9 * n;
    totals
}

fn node(pods: usize, containers: usize, of: RunTotals) -> (PodMap, RunqueuePair) {
    let (mut map, mut groups) = (PodMap::default(), Vec::new());
    for pod in 0..pods {
        let container = |n: usize| Container {
            id: Some(ContainerId("f".repeat(64))),
            name: Some("x".repeat(63)),
            runtime: None,
            kind: CgroupKind::Container,
            cgroup: format!("/{pod}/{n}"),
            cgroup_id: 1,
            tasks: Vec::new(),
            churn: None,
        };
        groups.extend((0..containers).map(|n| CgroupRun {
            cgroup_id: 1,
            path: format!("/{pod}/{n}").into(),
            totals: of,
        }));
        map.pods.push(Pod {
            uid: PodUid(pod.to_string()),
            name: Some("p".repeat(63)),
            namespace: Some("n".repeat(63)),
            labels: std::collections::BTreeMap::new(),
            qos: QosClass::Unknown,
            named_by: None,
            group: None,
            containers: (0..containers).map(container).collect(),
        });
    }
    let blames = |wait_ns| {
        let neighbours = (0..9).map(move |n| format!("/{}{n}", "y".repeat(250)));
        let waiters = (0..pods).map(|pod| format!("/{pod}/0"));
        let pairs =
            waiters.flat_map(move |waiter| neighbours.clone().map(move |runner| (waiter.clone(), runner)));
        let blame = move |(waiter, runner): (String, String)| Blame {
            waiter: waiter.into(),
            runner: Some(runner.into()),
            wait_ns,
        };
        pairs.map(blame).collect()
    };
    let reading = |mono_ns, wait_ns| RunqueueReading {
        at_ns: 7,
        mono_ns,
        since_ns: 3,
        cgroups: groups.clone(),
        blames: blames(wait_ns),
        ..RunqueueReading::default()
    };
    (map, RunqueuePair::default().then(reading(1, 1)).then(reading(2, u64::MAX >> 14)))
}

#[test]
fn the_largest_record_fits_and_says_what_it_leaves_out() {
    let mut widest = totals(u64::MAX >> 14);
    widest.waits.slots = [u64::MAX >> 20; SLOTS];
    // The worst of all: each pod has one container, and so five neighbours for two rows.
    let (pods, pair) = node(1_500, 1, widest);
    let record = NodeRunqueue::new(&pods, &pair);
    assert_eq!((record.pods.len(), record.left_out), (MAX_ROWS / 2, 1_500 - MAX_ROWS / 2));
    assert!(record.pods.iter().all(|pod| pod.neighbours.len() == 5));
    let bytes = serde_json::to_vec(&record).unwrap();
    assert!(bytes.len() < MAX_RECORD_BYTES, "{} bytes", bytes.len());
    assert_eq!(serde_json::from_slice::<NodeRunqueue>(&bytes).unwrap(), record);
}

#[test]
fn totals_come_back_whole_and_those_that_never_ran_are_left_out() {
    let (pods, pair) = node(2, 2, totals(100));
    let record = NodeRunqueue::new(&pods, &pair);
    let pod = &record.pods[1];
    assert_eq!(record.totals(&pod.containers[1].row), totals(100));
    assert_eq!(pod.row.waits, [0, 0, 0, 200], "zeros at the end are left out");
    assert_eq!(record.totals(&pod.row).waits.count(), 200);
    let (pods, pair) = node(2, 2, RunTotals::default());
    assert!(NodeRunqueue::new(&pods, &pair).pods.is_empty());
}

#[test]
fn rows_of_other_versions_are_read_by_name_and_do_no_harm() {
    let fields = ["newer", "on_cpu_ns", "wait_ns"].map(str::to_owned).to_vec();
    let record = NodeRunqueue { fields, ..NodeRunqueue::default() };
    let row = RunqueueRow { values: vec![1, 2], waits: vec![1; SLOTS + 3] };
    let read = record.totals(&row);
    assert_eq!((read.on_cpu_ns, read.waits.sum_ns, read.blocked_ns), (2, 0, 0), "too short for its fields");
    assert_eq!((read.waits.slots[SLOTS - 1], read.waits.count()), (4, SLOTS as u64 + 3));
}

#[test]
fn a_reading_of_newly_loaded_programs_is_no_later_one() {
    let reading =
        |since_ns, mono_ns| RunqueueReading { at_ns: 9, mono_ns, since_ns, ..RunqueueReading::default() };
    let pair = RunqueuePair::default().then(reading(1, 5));
    assert!(pair.clone().then(reading(2, 9)).before.is_none());
    assert!(pair.then(reading(1, 9)).before.is_some(), "the control: the same life");
    let record = |reading| {
        NodeRunqueue::new(&PodMap::default(), &RunqueuePair { before: None, now: Arc::new(reading) })
    };
    let before = record(reading(1, 5));
    assert_eq!(record(reading(1, 9)).interval_ns(&before), Some(4));
    assert_eq!(record(reading(2, 9)).interval_ns(&before), None, "another life");
    assert_eq!(record(reading(1, 5)).interval_ns(&before), None, "no time went by");
}
