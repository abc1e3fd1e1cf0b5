use super::*;
use crate::domain::runqueue::{CgroupRun, RunqueueReading};
use crate::http::exposition::{Format, encode};
use crate::http::testing::samples;
use prometheus_client::registry::Registry;

fn totals(waits: &[(usize, u64)], sum_ns: u64) -> RunTotals {
    let mut totals = RunTotals { on_cpu_ns: 2 * sum_ns, ..RunTotals::default() };
    for &(slot, count) in waits {
        totals.waits.slots[slot] = count;
    }
    totals.waits.sum_ns = sum_ns;
    totals
}

fn group(path: &str, totals: RunTotals) -> CgroupRun {
    CgroupRun { cgroup_id: 1, path: path.into(), totals }
}

fn pair(cgroups: Vec<CgroupRun>) -> Arc<RunqueuePair> {
    let reading = RunqueueReading { at_ns: 1, mono_ns: 1, cgroups, ..RunqueueReading::default() };
    Arc::new(RunqueuePair::default().then(reading))
}

struct Node {
    registry: Registry,
    runqueues: watch::Sender<Arc<RunqueuePair>>,
    _pods: watch::Sender<Arc<PodMap>>,
}

impl Node {
    fn new(max_pods: usize) -> Self {
        let (pods_out, pods) = watch::channel(Arc::new(pods()));
        let (runqueues, pairs) = watch::channel(Arc::new(RunqueuePair::default()));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(RunqueueCollector::new(pods.clone(), pairs.clone(), max_pods)));
        registry.register_collector(Box::new(reference::GthulhuCollector {
            pods,
            runqueues: pairs,
            node: "worker-7".to_owned(),
            max_pods,
        }));
        Self { registry, runqueues, _pods: pods_out }
    }

    fn scrape(&self, cgroups: Vec<CgroupRun>) -> String {
        self.runqueues.send_replace(pair(cgroups));
        encode(&self.registry, Format::OpenMetrics).expect("text")
    }
}

/// The samples' pods, each with a cgroup of its own.
fn pods() -> PodMap {
    let mut map = samples::pods();
    for (pod, path) in map.pods.iter_mut().zip(["/a", "/b"]) {
        for (at, container) in pod.containers.iter_mut().enumerate() {
            container.cgroup = format!("{path}/{at}");
        }
        pod.group = Some(crate::domain::pod::PodGroup { cgroup: path.to_owned(), cgroup_id: 1 });
    }
    map
}

#[test]
fn waits_are_a_histogram_whose_buckets_add_up() {
    let node = Node::new(110);
    let text = node.scrape(vec![
        group("/a/0", totals(&[(0, 5), (11, 2), (12, 1), (35, 1)], 35_000_000_000)),
        // Left by a container that is gone.
        group("/a", totals(&[(20, 1)], 1_000_000)),
        group("/system.slice", totals(&[(3, 7)], 70)),
    ]);
    let container = r#"namespace="monitoring",pod="loki-0",container="5148a146ffbbe8672f11494843d54b8769d2eccc677c02027fc09aba192e3c67""#;
    for line in [
        format!("pod_runqueue_latency_seconds_bucket{{le=\"0.000004096\",{container}}} 7"),
        format!("pod_runqueue_latency_seconds_bucket{{le=\"0.000016384\",{container}}} 8"),
        format!("pod_runqueue_latency_seconds_bucket{{le=\"+Inf\",{container}}} 9"),
        format!("pod_runqueue_latency_seconds_count{{{container}}} 9"),
        format!("pod_runqueue_latency_seconds_sum{{{container}}} 35.0"),
        r#"pod_runqueue_latency_seconds_count{namespace="monitoring",pod="loki-0",container=""} 1"#.to_owned(),
        "host_runqueue_latency_seconds_count 7".to_owned(),
        r#"gthulhu_pod_run_count_total{pod_name="loki-0",pod_uid="65979e01-4cb1-4d08-9dba-45530253ff00",namespace="monitoring",node_name="worker-7"} 10"#.to_owned(),
    ] {
        assert!(text.contains(&line), "no {line} in\n{text}");
    }
}

#[test]
fn pods_beyond_the_limit_are_summed_and_the_sum_never_goes_back() {
    let node = Node::new(1);
    let other = |text: &str| {
        let line = text.lines().find(|line| {
            line.starts_with("pod_runqueue_latency_seconds_count") && line.contains("pod=\"other\"")
        });
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    let scrape = |a: u64, b: u64| {
        let groups = vec![group("/a/0", totals(&[(5, a)], a)), group("/b/0", totals(&[(5, b)], b))];
        node.scrape(groups)
    };
    assert_eq!(
        other(&scrape(100, 10)).as_deref(),
        Some("0"),
        "what it counted before is not known to be new"
    );
    assert_eq!(other(&scrape(110, 15)).as_deref(), Some("5"));
    let text = scrape(110, 1_000);
    assert!(text.contains("pod_runqueue_folded_pods 1"), "{text}");
    assert_eq!(other(&text).as_deref(), Some("5"), "the other pod is the one that is folded now");
    assert_eq!(other(&scrape(120, 1_000)).as_deref(), Some("15"));
}
