//! The source over a recorded tree and a feed that a test fills.

use std::sync::{Arc, Mutex};

use agent_ebpf::task::TaskRecord;

use super::*;
use crate::domain::source::Condition;
use crate::sources::pods::tests::host::FakeHost;
use crate::sources::pods::{Config, PodsSource, metrics::Metrics};

const CONTAINER: &str = "/kubepods/burstable/pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e/\
                         17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";

#[derive(Default)]
struct Script {
    events: Vec<Event>,
    lost: u64,
    processes: Vec<TaskRecord>,
    walks: u64,
    fails: bool,
}

#[derive(Clone, Default)]
struct FakeFeed(Arc<Mutex<Script>>);

impl FakeFeed {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

impl Feed for FakeFeed {
    fn drain(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.script().events);
    }

    fn lost(&mut self) -> Result<u64, FeedError> {
        Ok(self.script().lost)
    }

    fn walk(&mut self) -> Result<Vec<TaskRecord>, FeedError> {
        let mut script = self.script();
        script.walks += 1;
        if script.fails { Err(FeedError::OtherPids("/proc".into())) } else { Ok(script.processes.clone()) }
    }

    fn lacks(&self) -> Vec<String> {
        Vec::new()
    }
}

struct Followed {
    host: FakeHost,
    feed: FakeFeed,
    source: PodsSource,
    registry: prometheus_client::registry::Registry,
}

impl Followed {
    /// One container without processes, and a first walk.
    fn new() -> Self {
        let host = FakeHost::new();
        host.group("", CONTAINER, &[]);
        let feed = FakeFeed::default();
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = Metrics::register(&mut registry);
        let mut source = PodsSource::new(host.roots(), Config::default()).with_metrics(metrics);
        // The hierarchy is chosen before anybody follows.
        source.collect(1);
        source.follower = Some(Follower::new(Box::new(feed.clone()), 100));
        source.collect(1);
        Self { host, feed, source, registry }
    }

    fn group_id(&self) -> u64 {
        let path = self.host.path("cgroup").join(CONTAINER.trim_start_matches('/'));
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap())
    }

    fn process(&self, pid: u32) -> TaskRecord {
        let (ppid, cgroup_id) = (1, self.group_id());
        TaskRecord {
            pid,
            live: 1,
            ppid,
            nr_threads: 2,
            start_boottime_ns: 9,
            cgroup_id,
            comm: *b"sleep\0\0\0\0\0\0\0\0\0\0\0",
        }
    }

    fn tell(&self, kind: Kind, task: TaskRecord) {
        self.feed.script().events.push(Event { task, kind: kind as u32, reserved: 0 });
    }

    fn has_line(&self, line: &str) {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn nothing_is_walked_and_no_map_made_while_nothing_happens() {
    let mut this = Followed::new();
    for second in 2..50 {
        assert!(this.source.follow(second, false).is_none());
    }
    assert_eq!(this.feed.script().walks, 1);
    this.has_line("pods_stat_reads_total 0");
    this.tell(Kind::Fork, this.process(7));
    let map = this.source.follow(60, false).unwrap();
    assert_eq!((map.pod_tasks(), map.at_ns), (1, 60));
    this.has_line("pods_events_total{kind=\"fork\"} 1");
    assert_eq!(this.feed.script().walks, 1);
}

#[test]
fn what_happens_outside_pods_can_wait_for_the_second() {
    let mut this = Followed::new();
    let root = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(this.host.path("cgroup")).unwrap());
    this.tell(Kind::Fork, TaskRecord { cgroup_id: root, ..this.process(7) });
    assert!(this.source.follow(2, false).is_none());
    assert_eq!(this.source.follow(3, true).unwrap().host.tasks, 1);
}

#[test]
fn losses_are_counted_and_healed_at_most_once_a_second() {
    let mut this = Followed::new();
    this.feed.script().processes = vec![this.process(7)];
    this.feed.script().lost = 5;
    // The first walk was a moment ago.
    assert!(this.source.follow(2, false).is_none());
    this.has_line("pods_events_lost_total 5");
    this.source.follower.as_mut().unwrap().reconciled_at = None;
    assert_eq!(this.source.follow(3, false).unwrap().pod_tasks(), 1);
    assert_eq!(this.feed.script().walks, 2);
    // It is told only when no event can be on its way any more.
    this.has_line("pods_reconcile_corrections_total{kind=\"start\"} 0");
    this.source.follower.as_mut().unwrap().reconciled_at = None;
    this.source.follow(4, false);
    this.has_line("pods_reconcile_corrections_total{kind=\"start\"} 1");
    assert_eq!(this.feed.script().walks, 2, "the control: no more losses, no more walks");
}

#[test]
fn a_new_group_is_found_when_a_process_is_in_it() {
    let mut this = Followed::new();
    let other = CONTAINER.replace("17db96a2", "99999999");
    this.host.group("", &other, &[]);
    let path = this.host.path("cgroup").join(other.trim_start_matches('/'));
    let id = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    this.tell(Kind::Fork, TaskRecord { cgroup_id: id, ..this.process(7) });
    this.source.follower.as_mut().unwrap().tree_from = Instant::now();
    let map = this.source.follow(2, false).unwrap();
    assert_eq!((map.pods[0].containers.len(), map.pod_tasks()), (2, 1));
}

#[test]
fn when_the_kernel_stops_telling_proc_is_read_and_health_says_why() {
    let mut this = Followed::new();
    this.host.task(7, "sleep");
    this.host.group("", CONTAINER, &[7]);
    this.feed.script().fails = true;
    let map = this.source.collect(2);
    assert_eq!(map.pod_tasks(), 1, "by /proc");
    let health = &this.source.health()[0];
    assert_eq!(health.condition, Condition::Degraded);
    assert!(
        health.lacks[0].starts_with("processes appear late, at the next walk of /proc: /proc is not"),
        "{health:?}"
    );
    assert!(this.source.follow(3, true).is_none());
}

/// A recorded host is none that the kernel could tell of.
#[test]
fn nobody_follows_the_kernel_of_another_host() {
    let host = FakeHost::new();
    host.task(7, "sleep");
    host.group("", CONTAINER, &[7]);
    let mut source = PodsSource::new(host.roots(), Config::default());
    source.attach();
    assert_eq!(source.collect(1).pod_tasks(), 1);
    assert!(source.health()[0].lacks[0].contains("is not the /proc of the host's pid namespace"));
    // Switched off, that is no lack.
    let mut source = PodsSource::new(host.roots(), Config { events: false, ..Config::default() });
    source.attach();
    source.collect(1);
    assert_eq!(source.health()[0].condition, Condition::Up);
}
