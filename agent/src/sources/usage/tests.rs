//! The source over recorded trees of v2, v1 and hybrid hosts, and what goes wrong on real ones.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::domain::source::Condition;
use crate::domain::usage::request::Conversion;
use crate::domain::usage::{Bound, CpuQuota, CpuShare, Usage};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/cgroup");
const V1: [&str; 5] = ["cpu", "cpuacct", "memory", "blkio", "pids"];

struct Host(TempDir);

impl Host {
    /// A v2 host.
    fn v2() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        fs::write(host.path("cgroup.procs"), "").unwrap();
        fs::write(host.path("cgroup.controllers"), "cpu memory io pids\n").unwrap();
        host
    }

    /// A v1 host with these trees; `unified` is v2 beside them.
    fn v1(trees: &[&str]) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for tree in trees {
            fs::create_dir(host.path(tree)).unwrap();
            fs::write(host.path(&format!("{tree}/cgroup.procs")), "").unwrap();
            if *tree == "unified" {
                fs::write(host.path("unified/cgroup.controllers"), "").unwrap();
            }
        }
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// A group with the recorded files of `fixture`.
    fn group(&self, tree: &str, group: &str, fixture: &str) -> Target {
        let dir = self.path(tree).join(group);
        fs::create_dir_all(&dir).unwrap();
        for file in fs::read_dir(Path::new(FIXTURES).join(fixture)).unwrap().flatten() {
            fs::copy(file.path(), dir.join(file.file_name())).unwrap();
        }
        Target { cgroup: format!("/{group}"), cgroup_id: fs::metadata(&dir).unwrap().ino() }
    }

    /// A group in all of v1's trees; its id is the one of `pids`.
    fn group_v1(&self, group: &str) -> Target {
        let targets = V1.map(|tree| self.group(tree, group, &format!("hybrid/{tree}")));
        targets[4].clone()
    }

    fn source(&self) -> UsageSource {
        self.source_with(Config::default())
    }

    fn source_with(&self, config: Config) -> UsageSource {
        UsageSource::new(HostRoots { cgroup: self.0.path().to_owned(), ..HostRoots::default() }, config)
    }
}

fn one(map: &UsageMap, target: &Target) -> Usage {
    map.groups.get(&target.cgroup_id).cloned().unwrap_or_else(|| panic!("no usage of {target:?}"))
}

#[test]
fn a_v2_group_has_everything() {
    let host = Host::v2();
    let target = host.group("", "kubepods/pod1/c", "v2");
    let mut source = host.source();
    let map = source.collect(std::slice::from_ref(&target), 7);
    let usage = one(&map, &target);
    assert_eq!(map.at_ns, 7);
    let cpu = usage.cpu.unwrap();
    assert_eq!((cpu.usage_usec, cpu.throttling.unwrap().nr_throttled), (5_979_315, 297));
    let memory = usage.memory.unwrap();
    assert_eq!((memory.current_bytes, memory.working_set_bytes), (23_003_136, Some(23_003_136 - 237_568)));
    assert_eq!(
        (memory.rss_bytes, memory.swap_bytes, memory.events.oom_kill),
        (Some(155_648), Some(0), Some(0))
    );
    assert_eq!((usage.pids, usage.io.unwrap().rios), (Some(2), Some(34)));
    assert!(usage.pressure.cpu.is_some() && usage.pressure.memory.is_some() && usage.pressure.io.is_some());
    let limits = usage.limits;
    let quota = CpuQuota { quota_usec: 20_000, period_usec: 100_000 };
    assert_eq!((limits.cpu, limits.cpu_share), (Some(Bound::At(quota)), Some(CpuShare::Weight(39))));
    assert_eq!((limits.memory_max, limits.pids_max), (Some(Bound::At(128 << 20)), Some(Bound::At(64))));
    assert_eq!((limits.memory_high, limits.memory_low_bytes), (Some(Bound::At(96 << 20)), Some(1 << 20)));
    assert_eq!((source.health().condition, source.health().lacks.len()), (Condition::Up, 0));
}

#[test]
fn a_v1_group_has_what_v1_has_and_the_rest_is_none_with_a_reason() {
    let host = Host::v1(&V1);
    let target = host.group_v1("kubepods/pod1/c");
    let mut source = host.source();
    let usage = one(&source.collect(std::slice::from_ref(&target), 7), &target);
    let cpu = usage.cpu.unwrap();
    assert_eq!((cpu.usage_usec, cpu.user_usec, cpu.system_usec), (643_895, Some(650_189), Some(15_425)));
    assert_eq!(cpu.throttling.unwrap().throttled_usec, 781_446);
    let memory = usage.memory.unwrap();
    assert_eq!((memory.current_bytes, memory.working_set_bytes), (1_241_088, Some(1_241_088 - 32_768)));
    assert_eq!((memory.events.max, memory.events.oom_kill, memory.events.oom), (Some(0), Some(0), None));
    assert_eq!((usage.pids, usage.io.unwrap().wios), (Some(2), Some(0)));
    assert_eq!(usage.limits.cpu_share, Some(CpuShare::Shares(256)));
    assert_eq!((usage.pressure.cpu, usage.limits.memory_high), (None, None));
    let lacks = source.health().lacks.join("\n");
    assert_eq!(source.health().condition, Condition::Degraded);
    assert!(lacks.contains("pressure of 1 of 1 cgroups: cgroup v1 has none"), "{lacks}");
    assert!(lacks.contains("memory events") && !lacks.contains("io of"), "{lacks}");
}

#[test]
fn a_hybrid_group_has_pressure_only_where_its_processes_are_in_v2_too() {
    let host = Host::v1(&["cpu", "cpuacct", "memory", "blkio", "pids", "unified"]);
    let target = host.group_v1("pod1/c");
    host.group("unified", "pod1/c", "hybrid/unified");
    let mut source = host.source();
    let usage = one(&source.collect(std::slice::from_ref(&target), 7), &target);
    assert_eq!(usage.cpu.unwrap().usage_usec, 643_895, "v1's figure, not v2's");
    assert_eq!(usage.pressure.cpu.unwrap().some.total_usec, 1_427_925);
    fs::write(host.path("unified/pod1/c/cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
    let mut source = host.source();
    let usage = one(&source.collect(std::slice::from_ref(&target), 7), &target);
    assert_eq!(usage.pressure.cpu, None, "nobody there, so nobody waited: that would be a lie");
    assert!(source.health().lacks[1].contains("in cgroup v1 only"), "{:?}", source.health().lacks);
    // A group that only v2 has: CPU and pressure, and nothing of the controllers that are v1's.
    let alone = host.group("unified", "pod2/c", "hybrid/unified");
    let usage = one(&source.collect(std::slice::from_ref(&alone), 8), &alone);
    assert_eq!(
        (usage.cpu.unwrap().usage_usec, usage.memory, usage.io, usage.pids),
        (652_470, None, None, None)
    );
    assert!(usage.cpu.unwrap().throttling.is_none() && usage.pressure.io.is_some());
}

#[test]
fn rates_are_of_one_life_and_a_group_that_came_back_has_another() {
    let host = Host::v2();
    let target = host.group("", "pod1/c", "v2");
    let mut source = host.source();
    let first = one(&source.collect(std::slice::from_ref(&target), 1), &target);
    assert_eq!(first.rates.cpu_cores, None, "one reading makes no rate");
    let stat = "usage_usec 7000000\nnr_periods 310\nnr_throttled 302\nthrottled_usec 25000000\n";
    fs::write(host.path("pod1/c/cpu.stat"), stat).unwrap();
    let second = one(&source.collect(std::slice::from_ref(&target), 2), &target);
    assert!(second.rates.cpu_cores.unwrap() > 0.0);
    assert_eq!((second.epoch, second.rates.throttled_ratio), (first.epoch, Some(0.5)));
    // Gone for a collection, then there again with the same id: its counters may have begun anew.
    assert!(source.collect(&[], 3).groups.is_empty());
    fs::write(host.path("pod1/c/cpu.stat"), "usage_usec 9000000\n").unwrap();
    let back = one(&source.collect(std::slice::from_ref(&target), 4), &target);
    assert_ne!(back.epoch, first.epoch);
    assert_eq!(back.rates.cpu_cores, None);
}

#[test]
fn another_group_under_the_path_is_not_read_and_a_vanished_one_is_no_error() {
    let host = Host::v2();
    let target = host.group("", "pod1/c", "v2");
    let mut source = host.source();
    let other = Target { cgroup_id: target.cgroup_id + 1, ..target.clone() };
    assert!(source.collect(std::slice::from_ref(&other), 1).groups.is_empty());
    assert_eq!(source.collect(&[target, other.clone()], 2).groups.len(), 1, "the control");
    assert!(source.budget.open > 0);
    fs::remove_dir_all(host.path("pod1")).unwrap();
    host.group("", "pod2/c", "v2");
    assert!(source.collect(&[other], 3).groups.is_empty());
    assert_eq!((source.health().condition, source.health().failures), (Condition::Up, 0));
    assert_eq!((source.budget.open, source.budget.files), (0, 0), "descriptors are given back");
}

#[test]
fn absent_malformed_and_huge_files_are_no_usage() {
    let host = Host::v2();
    let target = host.group("", "pod1/c", "v2");
    let path = |name: &str| host.path("pod1/c").join(name);
    fs::remove_file(path("io.stat")).unwrap();
    fs::write(path("pids.current"), "many\n").unwrap();
    fs::write(path("cpu.stat"), "usage_usec 5\n".repeat(10_000)).unwrap();
    fs::write(path("memory.stat"), "anon 1\n").unwrap();
    let mut source = host.source();
    let usage = one(&source.collect(std::slice::from_ref(&target), 1), &target);
    assert_eq!((usage.cpu, usage.io, usage.pids), (None, None, None));
    let memory = usage.memory.unwrap();
    assert_eq!((memory.current_bytes, memory.working_set_bytes, memory.rss_bytes), (23_003_136, None, None));
    let lacks = source.health().lacks.join("\n");
    for line in [
        "cpu of 1 of 1 cgroups: a file is not",
        "memory of 1",
        "io of 1 of 1 cgroups: the controller",
        "pids of 1",
    ] {
        assert!(lacks.contains(line), "{line} in\n{lacks}");
    }
    // What comes later is found within a minute of collections.
    fs::copy(Path::new(FIXTURES).join("v2/io.stat"), path("io.stat")).unwrap();
    let found =
        (0..20).any(|at_ns| one(&source.collect(std::slice::from_ref(&target), at_ns), &target).io.is_some());
    assert!(found);
}

#[test]
fn what_the_kernel_refuses_is_said_and_the_rest_goes_on() {
    let host = Host::v2();
    let target = host.group("", "pod1/c", "v2");
    fs::remove_file(host.path("pod1/c/cpu.stat")).unwrap();
    // A directory can be opened and not read.
    fs::create_dir(host.path("pod1/c/cpu.stat")).unwrap();
    let mut source = host.source();
    let usage = one(&source.collect(std::slice::from_ref(&target), 1), &target);
    assert!(usage.cpu.is_none() && usage.memory.is_some());
    assert!(source.health().lacks[0].contains("the kernel answered with an error"));
}

#[test]
fn limits_hold_and_what_is_beyond_is_counted() {
    let host = Host::v2();
    let targets: Vec<_> = (0..5).map(|n| host.group("", &format!("pod{n}/c"), "v2")).collect();
    let mut source = host.source_with(Config { max_groups: 3, max_open_files: 14, ..Config::default() });
    for at_ns in 1..30 {
        let map = source.collect(&targets, at_ns);
        assert_eq!(map.groups.len(), 3);
        assert!(map.groups.values().all(|usage| usage.cpu.is_some() && usage.pressure.io.is_some()));
        assert!(source.budget.files <= 14 && source.budget.open <= 17, "{:?}", source.budget);
    }
    assert!(source.health().lacks[0].starts_with("2 cgroups beyond the limit"));
    let mut wide = host.source();
    wide.collect(&targets, 1);
    assert_eq!(wide.budget.open, 5 * 11, "the control: a directory and ten files each");
    let mut none = host.source();
    none.budget.limit = 0;
    assert_eq!(none.collect(&targets, 1).groups.len(), 5, "slower, not less");
    assert_eq!(none.budget.open, 0);
}

#[test]
fn without_a_cgroup_tree_the_source_is_off_and_comes_back() {
    let host = Host(tempfile::tempdir().unwrap());
    let mut source = host.source();
    assert_eq!(source.collect(&[], 1).at_ns, 0);
    assert_eq!((source.health().condition, source.health().failures), (Condition::Off, 1));
    assert!(source.health().lacks[0].contains("mount"));
    fs::write(host.path("cgroup.procs"), "").unwrap();
    fs::write(host.path("cgroup.controllers"), "").unwrap();
    source.collect(&[], 2);
    assert_eq!(source.health().condition, Condition::Up);
}

#[test]
fn the_group_of_all_pods_tells_what_a_weight_means() {
    let conversion = |weight: &str, online: &str| {
        let host = Host::v2();
        let target = host.group("", "kubepods.slice/kubepods-pod1.slice/c", "v2");
        fs::write(host.path("kubepods.slice/cpu.weight"), weight).unwrap();
        fs::create_dir_all(host.path("sys/devices/system/cpu")).unwrap();
        fs::write(host.path("sys/devices/system/cpu/online"), online).unwrap();
        let mut source = host.source();
        source.roots.sys = host.path("sys");
        source.collect(&[target], 1).conversion
    };
    assert_eq!(conversion("79\n", "0-1\n"), Some(Conversion::Linear));
    assert_eq!(conversion("174\n", "0-1\n"), Some(Conversion::Logarithmic));
    assert_eq!(conversion("313\n", "0-3,8,10-12\n"), Some(Conversion::Linear), "eight CPUs");
    for (weight, online) in [("100\n", "0-127\n"), ("79\n", ""), ("79\n", "1-0\n"), ("x\n", "0-1\n")] {
        assert_eq!(conversion(weight, online), None, "{weight:?} {online:?}");
    }
}

#[tokio::test]
async fn the_task_publishes_when_the_first_targets_come() {
    let host = Host::v2();
    let target = host.group("", "pod1/c", "v2");
    let (targets_in, targets) = watch::channel(Arc::from([]));
    let (out, mut maps) = watch::channel(Arc::default());
    let (health_out, health) = watch::channel(Vec::new());
    let cancel = tokio_util::sync::CancellationToken::new();
    let source = host.source_with(Config { interval_ms: 3_600_000, ..Config::default() });
    let task = tokio::spawn(run(source, || 42, targets, out, health_out, cancel.clone()));
    let wait = Duration::from_secs(60);
    tokio::time::timeout(wait, maps.changed()).await.unwrap().unwrap();
    assert!(maps.borrow_and_update().groups.is_empty());
    targets_in.send_replace(Arc::from([target]));
    tokio::time::timeout(wait, maps.changed()).await.unwrap().unwrap();
    assert_eq!((maps.borrow().groups.len(), maps.borrow().at_ns), (1, 42));
    assert_eq!(health.borrow()[0].name, "usage");
    cancel.cancel();
    task.await.unwrap().unwrap();
}

#[test]
fn metrics_are_registered_under_plain_names() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let host = Host::v1(&V1);
    let target = host.group_v1("pod1/c");
    host.source().with_metrics(metrics).collect(&[target], 1);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "usage_groups 1",
        "usage_lacks{part=\"pressure\",reason=\"cgroup_v1\"} 1",
        "usage_groups_gone_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains("part=\"cpu\""), "{text}");
}

#[test]
fn configuration_refuses_unknown_keys() {
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    assert_eq!(toml::from_str::<Config>("interval_ms = 2000").unwrap().interval_ms, 2_000);
    assert!(toml::from_str::<Config>("intervall_ms = 500").is_err());
}
