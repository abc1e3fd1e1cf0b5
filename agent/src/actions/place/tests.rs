//! Targets on a made-up hybrid host, and paths that lead elsewhere.

use super::*;

fn host() -> (tempfile::TempDir, HostRoots) {
    let dir = tempfile::tempdir().unwrap();
    let roots = HostRoots {
        proc: dir.path().join("proc"),
        sys: dir.path().join("sys"),
        cgroup: dir.path().join("cgroup"),
        ..HostRoots::default()
    };
    let write = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(roots.sys.join("devices/system/cpu/online"), "0-3\n");
    write(roots.proc.join("meminfo"), "MemTotal: 8192 kB\nMemAvailable: 4096 kB\n");
    write(roots.cgroup.join("memory/app/memory.limit_in_bytes"), "1000\n");
    for group in ["cpu", "cpu/app", "memory", "memory/app", "unified"] {
        write(roots.cgroup.join(group).join("cgroup.procs"), "");
    }
    write(roots.cgroup.join("unified/cgroup.controllers"), "\n");
    write(roots.cgroup.join("cpu/app/cpu.cfs_quota_us"), "150000\n");
    write(roots.cgroup.join("cpu/app/cpu.cfs_period_us"), "100000\n");
    write(roots.proc.join("42/cgroup"), "3:memory:/\n2:cpu:/app\n0::/\n");
    write(roots.proc.join("43/cgroup"), "0::/../../elsewhere\n");
    (dir, roots)
}

fn place(target: &Target) -> Result<Place, Invalid> {
    let (_dir, roots) = host();
    let mut place = find(target, &roots, &PodMap::default())?;
    for group in place.groups.iter_mut().chain(&mut place.own).chain(&mut place.trees) {
        *group = group.strip_prefix(&roots.cgroup).unwrap().to_owned();
    }
    Ok(place)
}

#[test]
fn a_group_is_joined_where_it_is_and_the_root_elsewhere() {
    let groups = |names: [&str; 3]| names.map(PathBuf::from).to_vec();
    let found = place(&Target::Cgroup("/app".to_owned())).unwrap();
    assert_eq!(found.groups, groups(["cpu/app", "memory/app", "unified"]));
    assert_eq!((found.cpus, found.node_cpus, found.paths.as_slice()), (1.5, 4, &["/app".to_owned()][..]));
    assert_eq!(found.own, ["cpu/app", "memory/app"].map(PathBuf::from));
    assert_eq!(
        (found.memory_bytes, found.node_memory_bytes, found.available_bytes),
        (1_000, 8 << 20, 4 << 20)
    );
    let found = place(&Target::Pid(42)).unwrap();
    assert_eq!(found.groups, groups(["cpu/app", "memory", "unified"]));
    let node = place(&Target::Node).unwrap();
    assert_eq!((&node.own, node.memory_bytes, &node.trees), (&vec![], 8 << 20, &node.groups));
    assert_eq!((node.groups, node.cpus, node.paths), (groups(["cpu", "memory", "unified"]), 4.0, vec![]));
}

#[test]
fn what_is_not_there_or_elsewhere_is_refused() {
    for path in
        ["", "app", "/../etc", "/app/../..", "/app//x", "/app/", "/none", "/a\0b", &"/a".repeat(4_096)]
    {
        assert_eq!(place(&Target::Cgroup(path.to_owned())).unwrap_err().field, "target", "{path:?}");
    }
    for target in
        [Target::Pid(43), Target::Pid(44), Target::Pod("a/b".to_owned()), Target::Container(String::new())]
    {
        assert_eq!(place(&target).unwrap_err().field, "target", "{target}");
    }
}
