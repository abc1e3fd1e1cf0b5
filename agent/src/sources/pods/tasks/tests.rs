use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::stat::line;
use super::*;

struct Proc(TempDir);

impl Proc {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self, pid: u32) -> PathBuf {
        self.0.path().join(pid.to_string())
    }

    fn task(&self, pid: u32, comm: &str, starttime: u64) {
        fs::create_dir_all(self.dir(pid)).unwrap();
        fs::write(self.dir(pid).join("stat"), line(pid, comm, 1, 2, starttime)).unwrap();
    }

    fn last_pid(&self, pid: u32) {
        fs::write(self.0.path().join("loadavg"), format!("0.00 0.01 0.05 1/99 {pid}\n")).unwrap();
    }

    fn tasks(&self) -> Tasks {
        Tasks::open(self.0.path(), 1000).unwrap()
    }
}

/// One walk over `pids`: (comm, start time) of each that was there.
fn walk(tasks: &mut Tasks, pids: &[u32]) -> (Vec<(String, u64)>, Skipped) {
    let mut skipped = Skipped::default();
    tasks.begin();
    let seen = pids
        .iter()
        .filter_map(|&pid| {
            let task = tasks.get(pid, &mut skipped)?;
            Some((task.comm.to_string(), task.key.starttime_ticks))
        })
        .collect();
    tasks.finish();
    (seen, skipped)
}

#[test]
fn an_unchanged_process_is_read_once() {
    let proc = Proc::new();
    proc.last_pid(100);
    proc.task(10, "sleep", 5);
    let mut tasks = proc.tasks();
    for _ in 0..5 {
        assert_eq!(walk(&mut tasks, &[10]).0, [("sleep".to_owned(), 5)]);
    }
    assert_eq!(tasks.reads(), 1);
}

#[test]
fn a_reused_pid_is_another_process() {
    let proc = Proc::new();
    proc.last_pid(100);
    proc.task(10, "sleep", 5);
    let mut tasks = proc.tasks();
    walk(&mut tasks, &[10]);
    proc.task(10, "nginx", 77);
    assert_eq!(walk(&mut tasks, &[10]).0, [("sleep".to_owned(), 5)], "the control: pid 10 was not given out");
    proc.last_pid(12);
    assert_eq!(walk(&mut tasks, &[10]).0, [("nginx".to_owned(), 77)], "past the end of the circle, up to 12");
}

#[test]
fn without_a_last_pid_every_process_is_read() {
    let proc = Proc::new();
    proc.task(10, "sleep", 5);
    let mut tasks = proc.tasks();
    walk(&mut tasks, &[10]);
    proc.task(10, "nginx", 77);
    assert_eq!(walk(&mut tasks, &[10]).0, [("nginx".to_owned(), 77)]);
}

#[test]
fn a_forked_process_is_read_again_after_its_exec() {
    let proc = Proc::new();
    proc.last_pid(100);
    let mut tasks = proc.tasks();
    walk(&mut tasks, &[]);
    proc.last_pid(101);
    proc.task(101, "runc", 5);
    walk(&mut tasks, &[101]);
    proc.task(101, "nginx", 5);
    assert_eq!(walk(&mut tasks, &[101]).0, [("nginx".to_owned(), 5)]);
    walk(&mut tasks, &[101]);
    assert_eq!(tasks.reads(), 2);
}

#[test]
fn every_process_has_its_turn() {
    let proc = Proc::new();
    proc.last_pid(100);
    proc.task(10, "sh", 5);
    let mut tasks = Tasks::open(proc.0.path(), 4).unwrap();
    walk(&mut tasks, &[10]);
    proc.task(10, "exec'd", 5);
    let seen: Vec<String> = (0..4).map(|_| walk(&mut tasks, &[10]).0.remove(0).0).collect();
    assert!(seen.contains(&"exec'd".to_owned()), "{seen:?}");
    assert!(tasks.reads() <= 3, "{}", tasks.reads());
}

#[test]
fn vanished_and_unreadable_processes_are_told_apart() {
    let proc = Proc::new();
    proc.task(10, "ok", 5);
    proc.task(11, "cut", 5);
    fs::write(proc.dir(11).join("stat"), "11 (cut").unwrap();
    fs::create_dir_all(proc.dir(12).join("stat")).unwrap();
    let (seen, skipped) = walk(&mut proc.tasks(), &[10, 11, 12, 13]);
    assert_eq!(seen, [("ok".to_owned(), 5)]);
    assert_eq!(skipped.words(), [("io", 1), ("malformed", 1)], "13 vanished: no error");
}

#[test]
fn the_circle_of_pids() {
    let range = PidRange::between(Some(10), Some(12));
    assert!(!range.holds(10) && range.holds(11) && range.holds(12) && !range.holds(13));
    assert!(!PidRange::between(Some(10), Some(10)).holds(10), "no pid was given out");
    let wrapped = PidRange::between(Some(30_000), Some(5));
    assert!(wrapped.holds(30_001) && wrapped.holds(5) && !wrapped.holds(6) && !wrapped.holds(30_000));
    assert!(PidRange::between(None, Some(5)).holds(9));
}

#[test]
fn a_process_that_moved_meanwhile_is_given_out_once() {
    let proc = Proc::new();
    proc.task(10, "sleep", 5);
    assert_eq!(walk(&mut proc.tasks(), &[10, 10]).0.len(), 1);
}
