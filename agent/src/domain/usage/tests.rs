//! Rates, sums, targets and the tally, with what must not be read as usage.

use std::collections::BTreeMap;

use super::*;
use crate::domain::pod::{Host, PodGroup, PodUid, QosClass};

fn usage(epoch: u64, usage_usec: u64, mono_ns: u64) -> Usage {
    Usage {
        epoch,
        mono_ns,
        cpu: Some(Cpu {
            usage_usec,
            throttling: Some(Throttling {
                nr_periods: usage_usec / 10,
                nr_throttled: usage_usec / 40,
                throttled_usec: 5,
            }),
            ..Cpu::default()
        }),
        io: Some(Io { rbytes: usage_usec, ..Io::default() }),
        pids: Some(3),
        ..Usage::default()
    }
}

fn container(id: u64, kind: CgroupKind) -> Container {
    Container {
        id: None,
        name: None,
        runtime: None,
        kind,
        cgroup: format!("/pod/{id}"),
        cgroup_id: id,
        tasks: Vec::new(),
        churn: None,
    }
}

fn pod(group: Option<PodGroup>, containers: Vec<Container>) -> Pod {
    Pod {
        uid: PodUid("u".to_owned()),
        name: None,
        namespace: None,
        labels: BTreeMap::new(),
        qos: QosClass::Unknown,
        named_by: None,
        group,
        containers,
    }
}

#[test]
fn rates_need_one_life_and_counters_that_grow() {
    let before = usage(1, 1_000_000, 0);
    let rates = usage(1, 1_500_000, 1_000_000_000).rates_since(&before);
    assert_eq!((rates.cpu_cores, rates.throttled_ratio), (Some(0.5), Some(0.25)));
    assert_eq!((rates.read_bytes_per_second, rates.write_bytes_per_second), (Some(500_000.0), Some(0.0)));
    assert_eq!(usage(2, 1_500_000, 1_000_000_000).rates_since(&before), Rates::default(), "another life");
    let back = usage(1, 900_000, 1_000_000_000).rates_since(&before);
    assert_eq!((back.cpu_cores, back.throttled_ratio, back.read_bytes_per_second), (None, None, None));
    let idle = usage(1, 1_000_000, 1_000_000_000).rates_since(&before);
    assert_eq!((idle.cpu_cores, idle.throttled_ratio), (Some(0.0), None), "no period, no share of it");
}

#[test]
fn a_pod_is_its_own_group_or_else_the_sum_of_its_containers() {
    let groups = [(1, usage(1, 10, 1)), (2, usage(2, 20, 2)), (3, usage(3, 50, 3))].into();
    let map = UsageMap { at_ns: 1, groups, conversion: None };
    let containers = || vec![container(1, CgroupKind::Container), container(2, CgroupKind::Container)];
    let level = PodGroup { cgroup: "/pod".to_owned(), cgroup_id: 3 };
    assert_eq!(map.pod(&pod(Some(level), containers())), Some(usage(3, 50, 3)));
    let sum = map.pod(&pod(None, containers())).unwrap();
    assert_eq!((sum.cpu.unwrap().usage_usec, sum.pids, sum.mono_ns), (30, Some(6), 2));
    assert_eq!((sum.memory, sum.pressure), (None, Pressures::default()), "what none of them has");
    assert_eq!(map.pod(&pod(None, Vec::new())), None);
}

#[test]
fn a_sum_lacks_what_one_of_its_parts_lacks() {
    let mut lame = usage(2, 20, 2);
    lame.io = None;
    lame.cpu.as_mut().unwrap().throttling = None;
    let sum = sum::of(&[&usage(1, 10, 1), &lame]).unwrap();
    assert_eq!((sum.cpu.unwrap().usage_usec, sum.cpu.unwrap().throttling, sum.io), (30, None, None));
    let sum = sum::of(&[&usage(1, 10, 1), &usage(2, 20, 2)]).unwrap();
    assert_eq!(
        (sum.cpu.unwrap().throttling.unwrap().nr_periods, sum.io.unwrap().rbytes),
        (3, 30),
        "the control"
    );
    let replaced = sum::of(&[&usage(1, 10, 1), &usage(9, 20, 2)]).unwrap();
    assert_ne!(replaced.epoch, sum.epoch);
    let limited =
        |limit| Usage { limits: Limits { memory_max: Some(limit), ..Limits::default() }, ..Usage::default() };
    let limit = |a, b| sum::of(&[&limited(a), &limited(b)]).unwrap().limits.memory_max;
    assert_eq!(limit(Bound::At(3), Bound::At(4)), Some(Bound::At(7)));
    assert_eq!(limit(Bound::At(3), Bound::Unlimited), None);
}

#[test]
fn a_pod_is_as_throttled_as_its_most_throttled_container() {
    let throttled =
        |ratio| Usage { rates: Rates { throttled_ratio: ratio, ..Rates::default() }, ..Usage::default() };
    let level = PodGroup { cgroup: "/pod".to_owned(), cgroup_id: 3 };
    let containers = vec![container(1, CgroupKind::Container), container(2, CgroupKind::Container)];
    let pod = pod(Some(level), containers);
    let ratio = |own, a, b| {
        let groups = [(3, throttled(own)), (1, throttled(a)), (2, throttled(b))].into();
        UsageMap { at_ns: 1, groups, conversion: None }.pod(&pod).unwrap().rates.throttled_ratio
    };
    assert_eq!(ratio(Some(0.0), Some(0.5), None), Some(0.5));
    assert_eq!(ratio(Some(0.7), Some(0.5), None), Some(0.7));
    assert_eq!(ratio(None, None, None), None);
}

#[test]
fn a_tally_never_falls_and_takes_no_restart_for_usage() {
    let mut tally = Tally::default();
    tally.add(&usage(1, 10, 1), &usage(1, 40, 2));
    assert_eq!((tally.usage_usec, tally.nr_periods, tally.rbytes), (30, 3, 30));
    let before = tally;
    tally.add(&usage(1, 40, 2), &usage(2, 90, 3));
    tally.add(&usage(1, 40, 2), &usage(1, 30, 3));
    assert_eq!(tally, before);
}

#[test]
fn targets_are_containers_and_pod_levels_not_pauses() {
    let level = PodGroup { cgroup: "/pod".to_owned(), cgroup_id: 9 };
    let mut kata = container(4, CgroupKind::Sandbox);
    kata.runtime = Some(Runtime::Kata);
    let containers = vec![
        container(1, CgroupKind::Container),
        container(2, CgroupKind::Sandbox),
        container(3, CgroupKind::Conmon),
        kata,
        container(9, CgroupKind::Pod),
    ];
    let map = PodMap {
        pods: vec![pod(Some(level), containers)],
        host: Host { containers: vec![container(7, CgroupKind::Container)], ..Host::default() },
        ..PodMap::default()
    };
    let ids: Vec<_> = targets(&map).iter().map(|target| target.cgroup_id).collect();
    assert_eq!(ids, [9, 1, 4, 7]);
}
