use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const LIMITS: Limits = Limits { groups: 50_000, depth: 64, tasks: 100_000 };
const UID: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
const ID: &str = "17db96a24ae1e9dd57143e62b1cb0d2d35e693c65c774c7470e87b0572e07c1a";

struct Cgroups(TempDir);

impl Cgroups {
    fn new() -> Self {
        // In memory where that is mounted, as cgroupfs is: 20,000 directories are slow on a busy disk.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let this = Self(dir.unwrap());
        this.group("", &[1]);
        this
    }

    fn path(&self, group: &str) -> PathBuf {
        self.0.path().join(group.trim_start_matches('/'))
    }

    fn group(&self, group: &str, pids: &[u32]) {
        let path = self.path(group);
        fs::create_dir_all(&path).unwrap();
        for above in path.ancestors().take_while(|above| above.starts_with(self.0.path())) {
            if !above.join("cgroup.procs").exists() {
                fs::write(above.join("cgroup.procs"), "").unwrap();
            }
        }
        let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(path.join("cgroup.procs"), lines).unwrap();
    }

    fn tree(&self) -> Tree {
        Tree::open(self.0.path(), LIMITS).unwrap()
    }
}

fn pids(walk: &Walk) -> Vec<(String, Vec<u32>)> {
    walk.places.iter().map(|place| (place.cgroup.clone(), place.pids.clone())).collect()
}

#[test]
fn groups_below_a_container_belong_to_it() {
    let cgroups = Cgroups::new();
    let container = format!("/kubepods/burstable/pod{UID}/{ID}");
    cgroups.group(&container, &[10]);
    cgroups.group(&format!("{container}/kube-proxy/deeper"), &[11, 12]);
    cgroups.group("/system.slice/sshd.service", &[2]);
    let walk = cgroups.tree().walk(Want::Processes);
    let pod = format!("/kubepods/burstable/pod{UID}");
    assert_eq!(pids(&walk), [(pod, vec![]), (container.clone(), vec![10, 11, 12])]);
    assert_eq!(walk.host, [1, 2]);
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(cgroups.path(&container)).unwrap());
    assert_eq!(walk.places[1].cgroup_id, inode);
    assert_eq!(walk.groups, 9);
}

#[test]
fn the_inner_pod_of_a_node_container_is_its_own_place() {
    let cgroups = Cgroups::new();
    let node = format!("/docker/{ID}");
    let inner = ID.replace('1', "2");
    cgroups.group(&format!("{node}/init.scope"), &[20]);
    cgroups.group(&format!("{node}/system.slice/kubelet.service"), &[21]);
    cgroups.group(&format!("{node}/kubelet/kubepods/pod{UID}/{inner}"), &[22]);
    let walk = cgroups.tree().walk(Want::Processes);
    let seen: Vec<_> = walk.places.iter().map(|place| (place.place.kind, place.pids.clone())).collect();
    let kinds = [
        (CgroupKind::Container, vec![20]),
        (CgroupKind::Pod, vec![]),
        (CgroupKind::Container, vec![22]),
        (CgroupKind::NestedService, vec![21]),
    ];
    assert_eq!(seen, kinds);
    assert_eq!(walk.places[2].place.container_id.as_ref().unwrap().0, inner);
}

#[test]
fn a_second_walk_sees_what_came_went_and_was_replaced() {
    let cgroups = Cgroups::new();
    let container = format!("/kubepods/burstable/pod{UID}/{ID}");
    cgroups.group(&container, &[10]);
    let mut tree = cgroups.tree();
    tree.walk(Want::Processes);
    let other = container.replace("6a4ce4a0", "7a4ce4a0");
    cgroups.group(&other, &[11]);
    cgroups.group(&container, &[10, 12]);
    let walk = tree.walk(Want::Processes);
    assert_eq!(walk.places.iter().map(|place| place.pids.len()).sum::<usize>(), 3);
    // One goes and one comes between two walks: the number of directories stays, the set does not.
    fs::remove_dir_all(cgroups.path(&container)).unwrap();
    let third = container.replace("17db96a2", "99999999");
    cgroups.group(&third, &[13]);
    let walk = tree.walk(Want::Processes);
    let seen: Vec<_> = walk.places.iter().flat_map(|place| place.pids.clone()).collect();
    assert_eq!(seen, [13, 11], "each exactly once");
    assert!(walk.skipped.words().is_empty());
}

#[test]
fn limits_are_counted() {
    let cgroups = Cgroups::new();
    for number in 0..9 {
        cgroups.group(&format!("/a{number}"), &[100 + number]);
    }
    let mut tree = Tree::open(cgroups.0.path(), Limits { groups: 5, ..LIMITS }).unwrap();
    assert_eq!(tree.walk(Want::Processes).skipped.words(), [("too_many_groups", 5)]);
    let mut tree = Tree::open(cgroups.0.path(), Limits { tasks: 4, ..LIMITS }).unwrap();
    let walk = tree.walk(Want::Processes);
    assert_eq!(walk.host.len(), 4);
    assert_eq!(walk.skipped.words(), [("too_many_tasks", 6)]);
    let mut tree = Tree::open(cgroups.0.path(), Limits { depth: 0, ..LIMITS }).unwrap();
    assert_eq!(tree.walk(Want::Processes).skipped.words(), [("too_deep", 1)]);
}

#[test]
fn zeros_are_processes_of_other_pid_namespaces() {
    let cgroups = Cgroups::new();
    fs::write(cgroups.path("cgroup.procs"), "0\n5\n0\n").unwrap();
    let walk = cgroups.tree().walk(Want::Processes);
    assert_eq!((walk.foreign, walk.host), (2, vec![5]));
}

#[test]
fn a_long_list_is_read_to_its_end() {
    let cgroups = Cgroups::new();
    let all: Vec<u32> = (1..=5_000).collect();
    cgroups.group("", &all);
    assert_eq!(cgroups.tree().walk(Want::Processes).host, all);
}

#[test]
fn twenty_thousand_groups() {
    let cgroups = Cgroups::new();
    for pod in 0..100 {
        for container in 0..198 {
            let container = format!("/kubepods/burstable/pod{pod:032x}/{container:064x}");
            fs::create_dir_all(cgroups.path(&container)).unwrap();
        }
    }
    let mut tree = cgroups.tree();
    for _ in 0..2 {
        let walk = tree.walk(Want::Processes);
        assert_eq!((walk.groups, walk.places.len()), (19_903, 19_900));
        assert!(walk.skipped.words().is_empty());
    }
}

#[test]
fn the_hierarchy_with_pods_is_walked_and_only_that_one() {
    let cgroups = Cgroups(tempfile::tempdir().unwrap());
    fs::write(cgroups.path("README"), "no directory").unwrap();
    let mut forest = Forest::new(cgroups.0.path().into(), LIMITS);
    assert!(matches!(forest.walk(Want::Processes), Err(TreeError::Empty(_))));
    let group = |group: &str, pids: &[u32]| {
        cgroups.group(group, pids);
        fs::remove_file(cgroups.path("cgroup.procs")).unwrap();
    };
    for hierarchy in ["blkio", "memory", "pids", "unified"] {
        group(hierarchy, &[1]);
    }
    forest.walk(Want::Processes).unwrap();
    assert!(forest.hierarchy().unwrap().ends_with("pids"), "the preferred one while there are no pods");
    group(&format!("unified/kubepods/pod{UID}/{ID}"), &[7]);
    for _ in 0..11 {
        forest.walk(Want::Processes).unwrap();
    }
    assert!(forest.hierarchy().unwrap().ends_with("unified"));
    group(&format!("pids/kubepods/pod{UID}/{ID}"), &[7]);
    let walk = Forest::new(cgroups.0.path().into(), LIMITS).walk(Want::Processes).unwrap();
    assert_eq!(walk.places.iter().map(|place| place.pids.len()).sum::<usize>(), 1, "listed once");
    assert!(matches!(
        Forest::new("/nonexistent".into(), LIMITS).walk(Want::Processes),
        Err(TreeError::Root { .. })
    ));
}
