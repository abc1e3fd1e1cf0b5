use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn process(proc: &Path, pid: &str, fds: &[(&str, &str, &str)]) {
    let dir = proc.join(pid);
    fs::create_dir_all(dir.join("fd")).expect("made");
    fs::create_dir_all(dir.join("fdinfo")).expect("made");
    for (fd, target, info) in fds {
        symlink(target, dir.join("fd").join(fd)).expect("linked");
        fs::write(dir.join("fdinfo").join(fd), info).expect("written");
    }
}

#[test]
fn the_holder_of_the_link_comes_before_a_holder_of_the_map() {
    let proc = tempfile::tempdir().expect("a directory");
    let proc = proc.path();
    let map = ("7", "anon_inode:bpf-map", "pos:\t0\nmap_type:\t26\nmap_id:\t42\n");
    let link = ("9", "anon_inode:bpf_link", "link_type:\tstruct_ops\nlink_id:\t3\nmap_id:\t42\n");
    process(proc, "self", &[link]);
    process(
        proc,
        "10",
        &[("0", "/dev/null", "map_id:\t42\nlink_id:\t1\n"), ("1", "anon_inode:bpf-map", "map_id:\t420\n")],
    );
    assert_eq!(holder(proc, 42), None, "neither a file that says so nor another map");
    process(proc, "20", &[map]);
    assert_eq!(holder(proc, 42), Some(20));
    process(proc, "30", &[map, link]);
    let mut search = Search::start(proc, 42);
    assert_eq!(search.wait(), Some(30));
    assert_eq!(search.poll(), Some(30), "the result stays");
    assert_eq!(Search::Idle.poll(), None);
}
