//! Which pods get series, what the others sum up to, and that the sum never falls.

use prometheus_client::registry::Registry;

use super::*;
use crate::domain::pod::{ContainerId, PodUid, QosClass};
use crate::domain::usage::{Cpu, Rates};

struct Node {
    registry: Registry,
    pods: watch::Sender<Arc<PodMap>>,
    usage: watch::Sender<Arc<UsageMap>>,
}

impl Node {
    fn new(max_pods: usize) -> Self {
        let (pods, pod_maps) = watch::channel(Arc::default());
        let (usage, usage_maps) = watch::channel(Arc::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(UsageCollector::new(pod_maps, usage_maps, max_pods)));
        Self { registry, pods, usage }
    }

    /// Pods `name` with one container each: (name, cgroup id, epoch, CPU us, cores).
    fn scrape(&self, pods: &[(&str, u64, u64, u64, f64)]) -> String {
        let container = |cgroup_id| Container {
            id: Some(ContainerId(format!("c{cgroup_id}"))),
            name: Some("app".to_owned()),
            runtime: None,
            kind: CgroupKind::Container,
            cgroup: String::new(),
            cgroup_id,
            tasks: Vec::new(),
            churn: None,
        };
        let pod = |&(name, cgroup_id, ..): &(&str, u64, u64, u64, f64)| Pod {
            uid: PodUid(format!("uid-{cgroup_id}")),
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            labels: BTreeMap::new(),
            qos: QosClass::Unknown,
            named_by: None,
            group: None,
            containers: vec![container(cgroup_id)],
        };
        let usage = |&(_, cgroup_id, epoch, usage_usec, cores): &(&str, u64, u64, u64, f64)| {
            let cpu = Some(Cpu { usage_usec, ..Cpu::default() });
            let rates = Rates { cpu_cores: Some(cores), ..Rates::default() };
            (cgroup_id, Usage { epoch, cpu, rates, pids: Some(1), ..Usage::default() })
        };
        self.pods
            .send_replace(Arc::new(PodMap { pods: pods.iter().map(pod).collect(), ..PodMap::default() }));
        let groups = pods.iter().map(usage).collect();
        self.usage.send_replace(Arc::new(UsageMap { at_ns: 1, groups, conversion: None }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

const OTHER: &str = r#"pod_cpu_usage_seconds_total{namespace="",pod="other",container=""}"#;

fn pod(name: &str) -> String {
    format!(r#"pod_cpu_usage_seconds_total{{namespace="shop",pod="{name}",container="app"}}"#)
}

#[test]
fn the_rest_is_summed_and_counted() {
    let node = Node::new(1);
    let text = node.scrape(&[("a", 1, 1, 9_000_000, 0.9), ("b", 2, 2, 1_000_000, 0.1), ("c", 3, 3, 0, 0.1)]);
    assert_eq!((value(&text, &pod("a")), value(&text, &pod("b"))), (Some(9.0), None));
    assert_eq!(value(&text, OTHER), Some(0.0), "nothing was seen to be used yet");
    assert_eq!(value(&text, "pod_usage_folded_pods"), Some(2.0));
    assert_eq!(value(&text, r#"pod_pids{namespace="",pod="other",container=""}"#), Some(2.0));
    // The control: with room for all there is no other.
    let text = Node::new(3).scrape(&[("a", 1, 1, 5, 0.9), ("b", 2, 2, 5, 0.1)]);
    assert_eq!((value(&text, OTHER), value(&text, "pod_usage_folded_pods")), (None, Some(0.0)));
}

#[test]
fn the_sum_of_the_others_never_falls() {
    let node = Node::new(1);
    node.scrape(&[("a", 1, 1, 9_000_000, 0.9), ("b", 2, 2, 1_000_000, 0.1)]);
    let grown = node.scrape(&[("a", 1, 1, 9_500_000, 0.9), ("b", 2, 2, 1_500_000, 0.1)]);
    assert_eq!(value(&grown, OTHER), Some(0.5));
    // b becomes the heaviest, a is one of the others from now on: only what it uses from here counts.
    let turned = node.scrape(&[("a", 1, 1, 9_600_000, 0.1), ("b", 2, 2, 9_000_000, 0.9)]);
    assert_eq!(
        (value(&turned, OTHER), value(&turned, &pod("b")), value(&turned, &pod("a"))),
        (Some(0.6), Some(9.0), None)
    );
    // It restarts: another life, another counter.
    let restarted = node.scrape(&[("a", 4, 7, 100, 0.1), ("b", 2, 2, 9_000_000, 0.9)]);
    assert_eq!(value(&restarted, OTHER), Some(0.6));
    let gone = node.scrape(&[("b", 2, 2, 9_000_000, 0.9)]);
    assert_eq!((value(&gone, OTHER), value(&gone, "pod_usage_folded_pods")), (Some(0.6), Some(0.0)));
}

#[test]
fn a_replaced_container_is_one_series_the_newer_one() {
    let node = Node::new(9);
    let text = node.scrape(&[("a", 8, 1, 7_000_000, 0.1), ("a", 5, 2, 1_000_000, 0.1)]);
    let series: Vec<_> = text.lines().filter(|line| line.starts_with(&pod("a"))).collect();
    assert_eq!(series.len(), 1, "{series:?}");
    assert_eq!(value(&text, &pod("a")), Some(7.0));
}

#[test]
fn nothing_is_exposed_before_the_first_collection() {
    let node = Node::new(1);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &node.registry).unwrap();
    assert_eq!(text, "# EOF\n");
}
