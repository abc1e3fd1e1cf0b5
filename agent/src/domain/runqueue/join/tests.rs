use super::*;
use crate::domain::pod::{CgroupKind, Container, PodGroup, PodUid};
use crate::domain::runqueue::CgroupRun;

const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const SLICE: &str = "/kubepods.slice/kubepods-pod6a4ce4a0_ba47_11ea_b2a7_0cc47ac5979e.slice";

fn container(cgroup: &str) -> Container {
    Container {
        id: None,
        name: None,
        runtime: None,
        kind: CgroupKind::Container,
        cgroup: cgroup.to_owned(),
        cgroup_id: 0,
        tasks: Vec::new(),
        churn: None,
    }
}

fn pod(uid: &str, name: Option<&str>, cgroups: &[&str]) -> Pod {
    Pod {
        uid: PodUid(uid.to_owned()),
        name: name.map(str::to_owned),
        namespace: name.map(|_| "shop".to_owned()),
        labels: BTreeMap::new(),
        qos: crate::domain::pod::QosClass::Unknown,
        named_by: None,
        group: Some(PodGroup {
            cgroup: cgroups[0].rsplit_once('/').unwrap_or_default().0.to_owned(),
            cgroup_id: 0,
        }),
        containers: cgroups.iter().map(|cgroup| container(cgroup)).collect(),
    }
}

fn group(path: &str, on_cpu_ns: u64) -> CgroupRun {
    let totals = RunTotals { on_cpu_ns, ..RunTotals::default() };
    CgroupRun { cgroup_id: 1, path: path.into(), totals }
}

fn blame(waiter: &str, runner: Option<&str>, wait_ns: u64) -> Blame {
    Blame { waiter: waiter.into(), runner: runner.map(Into::into), wait_ns }
}

fn map() -> PodMap {
    let (app, side) = (format!("{SLICE}/cri-containerd-a.scope"), format!("{SLICE}/cri-containerd-b.scope"));
    let pods = vec![
        pod(UID, Some("web-0"), &[&app, &side]),
        pod("0123456789abcdef0123456789abcdef", None, &["/kubepods/pod0123456789abcdef0123456789abcdef/c"]),
    ];
    PodMap { pods, ..PodMap::default() }
}

#[test]
fn a_group_belongs_to_the_container_above_it_or_to_the_pod_above_that() {
    let reading = RunqueueReading {
        cgroups: vec![
            group("/", 1),
            group("", 2),
            group("/system.slice/sshd.service", 4),
            group(&format!("{SLICE}/cri-containerd-a.scope"), 8),
            group(&format!("{SLICE}/cri-containerd-a.scope/init.scope"), 16),
            // What a removed container left.
            group(SLICE, 32),
            // The name only begins like a container's.
            group(&format!("{SLICE}/cri-containerd-a.scope-x"), 64),
            group("/kubepods/pod0123456789abcdef0123456789abcdef/c", 128),
        ],
        ..RunqueueReading::default()
    };
    let runs = of_pods(&reading, &map());
    let on_cpu = |totals: &RunTotals| totals.on_cpu_ns;
    assert_eq!(on_cpu(&runs.host), 1 + 2 + 4);
    assert_eq!(runs.pods.iter().map(|pod| on_cpu(&pod.totals)).collect::<Vec<_>>(), [8 + 16 + 32 + 64, 128]);
    assert_eq!(runs.pods[0].containers.iter().map(on_cpu).collect::<Vec<_>>(), [8 + 16, 0]);
}

#[test]
fn neighbours_have_the_names_that_people_know() {
    let (app, other) =
        (format!("{SLICE}/cri-containerd-a.scope"), "/kubepods/pod0123456789abcdef0123456789abcdef/c");
    let reading = RunqueueReading {
        blames: vec![
            blame(&app, Some(other), 50),
            blame(&app, Some("/system.slice/backup.service"), 70),
            blame(&app, None, 10),
            blame(&app, Some(&format!("{SLICE}/cri-containerd-b.scope")), 20),
            blame(other, Some(&app), 5),
            blame("/system.slice/backup.service", Some(&app), 99),
        ],
        ..RunqueueReading::default()
    };
    let runs = of_pods(&reading, &map());
    let names: Vec<_> = runs.pods[0].neighbours.iter().map(|(name, ns)| (&**name, *ns)).collect();
    assert_eq!(
        names,
        [
            ("/system.slice/backup.service", 70),
            ("0123456789abcdef0123456789abcdef", 50),
            ("shop/web-0", 20),
            ("idle CPU", 10),
        ]
    );
    assert_eq!(runs.pods[1].neighbours, [("shop/web-0".to_owned(), 5)]);
}

#[test]
fn lately_is_the_difference_and_a_new_pod_counts_whole() {
    let path = format!("{SLICE}/cri-containerd-a.scope");
    let other = "/kubepods/pod0123456789abcdef0123456789abcdef/c";
    let reading = |mono_ns, on_cpu_ns, loud_ns, quiet_ns, new: Option<u64>| RunqueueReading {
        at_ns: 1,
        mono_ns,
        cgroups: [group(&path, on_cpu_ns)].into_iter().chain(new.map(|ns| group(other, ns))).collect(),
        blames: vec![blame(&path, Some("/loud"), loud_ns), blame(&path, Some("/quiet"), quiet_ns)],
        ..RunqueueReading::default()
    };
    let pair = RunqueuePair::default().then(reading(10, 100, 900, 5, None));
    assert_eq!(lately(&pair, &map()), None);
    let pair = pair.then(reading(30, 130, 900, 25, Some(7)));
    assert_eq!(pair.interval_ns(), Some(20));
    let runs = lately(&pair, &map()).expect("two readings");
    assert_eq!((runs.pods[0].totals.on_cpu_ns, runs.pods[0].containers[0].on_cpu_ns), (30, 30));
    assert_eq!(runs.pods[0].neighbours, [("/quiet".to_owned(), 20)], "who was loud before is not loud now");
    assert_eq!(runs.pods[1].totals.on_cpu_ns, 7);
    // The control: counters that went backwards are a new life, not a difference.
    let pair = pair.then(reading(50, 1, 0, 0, Some(7)));
    assert_eq!(lately(&pair, &map()).expect("two readings").pods[0].totals.on_cpu_ns, 1);
}

#[test]
fn whoever_was_loud_for_long_does_not_hide_who_is_loud_now() {
    let path = format!("{SLICE}/cri-containerd-a.scope");
    let reading = |mono_ns, new_ns| RunqueueReading {
        at_ns: 1,
        mono_ns,
        blames: (0..40)
            .map(|n| blame(&path, Some(&format!("/old{n}")), 1_000))
            .chain([blame(&path, Some("/new"), new_ns)])
            .collect(),
        ..RunqueueReading::default()
    };
    let pair = RunqueuePair::default().then(reading(10, 900)).then(reading(20, 1_100));
    let runs = lately(&pair, &map()).expect("two readings");
    assert_eq!(runs.pods[0].neighbours, [("/new".to_owned(), 200)], "the difference, not the total");
}
