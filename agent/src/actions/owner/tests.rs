//! Plans that fail at a step, undos that fail, limits, ends: with an executor that only writes down.

use super::*;
use crate::actions::executor::recording::Recording;
use crate::actions::executor::{Report, Seen};
use crate::domain::action::{Class, Cpu, Of, Point, Process, Schedule, Strength};
use crate::domain::scheduler::State as Scx;

const START: Now = Now { wall_ns: 1_000, boot_ns: 5_000_000_000 };

fn later(s: u64) -> Now {
    Now { wall_ns: 2_000, boot_ns: START.boot_ns + s * 1_000_000_000 }
}

struct Rig {
    owner: Owner<Recording>,
    executor: Recording,
    events: mpsc::Receiver<AnomalyEvent>,
    scheduler: watch::Sender<Arc<SchedulerReading>>,
    dir: tempfile::TempDir,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    rig_in(dir, Config::default()).unwrap()
}

fn rig_in(dir: tempfile::TempDir, config: Config) -> Result<Rig, Error> {
    let root = dir.path();
    let write = |path: &str, text: &str| {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    };
    write("sys/devices/system/cpu/online", "0-3\n");
    write("proc/meminfo", "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n");
    for (group, procs) in [("", ""), ("app/", "4000001\n"), ("other/", "")] {
        write(&format!("cgroup/{group}cgroup.procs"), procs);
    }
    let roots = HostRoots {
        proc: root.join("proc"),
        sys: root.join("sys"),
        cgroup: root.join("cgroup"),
        ..HostRoots::default()
    };
    let journal = Journal::open(&root.join("journal")).unwrap();
    let (_, pods) = watch::channel(Arc::default());
    let kill_switch = root.join("off");
    let config = Config { enabled: true, kill_switch, ..config };
    let (scheduler, readings) = watch::channel(Arc::default());
    let (told, events) = mpsc::channel(8);
    let world = World {
        config,
        roots,
        boot_id: "boot".to_owned(),
        pods,
        scheduler: readings,
        events: told,
        metrics: Metrics::default(),
    };
    let executor = Recording::default();
    let (out, _) = watch::channel(Arc::default());
    let owner = Owner::new(world, executor.clone(), journal, START, out)?;
    Ok(Rig { owner, executor, events, scheduler, dir })
}

fn asked(target: &str, strength: Strength) -> Asked {
    let target = if target.is_empty() { Target::Node } else { Target::Cgroup(target.to_owned()) };
    Asked { target, strength, duration_s: 10.0, ramp_s: 0.0, schedule: None, force: false }
}

fn load(percent: f64, workers: u32, class: Class) -> Strength {
    let (of, workers) = (Of::Core, Some(workers));
    Strength::Cpu(Cpu { percent, of, workers, class, nice: None, cpus: Vec::new() })
}

fn cpu(target: &str, workers: u32) -> Asked {
    asked(target, load(30.0, workers, Class::Normal))
}

impl Rig {
    fn start(&mut self, target: &str, workers: u32) -> Result<Anomaly, Error> {
        self.owner.start(cpu(target, workers), false, START)
    }

    fn log(&self) -> Vec<String> {
        self.executor.0.lock().unwrap().log.clone()
    }

    fn told(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.state).collect()
    }

    fn nothing_is_left(&self) {
        assert!(self.executor.0.lock().unwrap().there.is_empty());
        assert!(
            Journal::open(&self.dir.path().join("journal")).unwrap().1.is_empty(),
            "the journal is closed"
        );
    }
}

#[test]
fn whichever_step_fails_those_before_it_are_undone_in_reverse() {
    for step in 0..4 {
        let mut rig = rig();
        rig.executor.0.lock().unwrap().fails_at = Some(step);
        let error = rig.start("/app", 4).unwrap_err();
        assert!(matches!(&error, Error::Failed(why) if why == "no room"), "{error}");
        let done = (0..=step).map(|n| format!("do {n}"));
        let undone = (0..step).rev().map(|n| format!("undo {n}"));
        assert_eq!(rig.log(), done.chain(undone).collect::<Vec<_>>());
        rig.nothing_is_left();
        assert_eq!(rig.owner.past[0].state, State::Failed);
        assert_eq!(rig.told(), ["failed"]);
    }
}

#[test]
fn an_anomaly_is_written_down_before_its_first_step_and_over_at_its_time() {
    let mut rig = rig();
    let id = rig.start("/app", 2).unwrap().id;
    let open = Journal::open(&rig.dir.path().join("journal")).unwrap().1;
    assert_eq!((open.len(), &open[0].id), (1, &id));
    rig.owner.tick(later(9));
    assert!(rig.owner.is_active());
    rig.owner.tick(later(10));
    assert!(!rig.owner.is_active());
    assert_eq!(rig.owner.past[0].state, State::Ended);
    assert_eq!(rig.log(), ["do 0", "do 1", "undo 1", "undo 0"]);
    assert_eq!(rig.told(), ["running", "ended"]);
    rig.nothing_is_left();
}

#[test]
fn an_undo_that_fails_is_tried_again_until_it_succeeds() {
    let mut rig = rig();
    let id = rig.start("/app", 1).unwrap().id;
    rig.executor.0.lock().unwrap().undo_fails = 2;
    assert_eq!(rig.owner.stop(&id, later(1)).unwrap().state, State::Undoing);
    assert_eq!(Journal::open(&rig.dir.path().join("journal")).unwrap().1.len(), 1, "not over yet");
    rig.owner.tick(later(2));
    assert!(rig.owner.is_active());
    rig.owner.tick(later(3));
    let over = rig.owner.stop(&id, later(4)).unwrap();
    assert_eq!((over.state, over.reason.as_deref()), (State::Stopped, Some("stopped by a request")));
    rig.nothing_is_left();
}

#[test]
fn a_worker_that_ends_early_fails_the_anomaly_and_the_others_are_undone() {
    let mut rig = rig();
    rig.start("/app", 2).unwrap();
    let seen = Seen { report: None, ended: Some("out of memory".to_owned()) };
    rig.executor.0.lock().unwrap().seen.insert(1, seen);
    rig.owner.tick(later(3));
    assert_eq!(rig.owner.past[0].state, State::Failed);
    assert_eq!(rig.owner.past[0].reason.as_deref(), Some("out of memory"));
    rig.nothing_is_left();
}

#[test]
fn what_is_achieved_is_of_all_workers_over_time() {
    let mut rig = rig();
    rig.start("/app", 2).unwrap();
    for s in 1..=3 {
        for worker in 0..2 {
            let report =
                Report { elapsed_ns: s * 1_000_000_000, amount: s * 300_000_000, ..Report::default() };
            rig.executor.0.lock().unwrap().seen.insert(worker, Seen { report: Some(report), ended: None });
        }
        rig.owner.tick(later(s));
    }
    let anomaly = &rig.owner.active[0].anomaly;
    assert_eq!((anomaly.amount, anomaly.achieved), (60.0, Some(60.0)));
    assert_eq!(anomaly.points, [1.0, 2.0, 3.0].map(|at_s| Point { at_s, value: 60.0 }));
}

#[test]
fn limits_hold_and_a_dry_run_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = rig_in(dir, Config { max_concurrent: 1, ..Config::default() }).unwrap();
    let planned = rig.owner.start(cpu("", 2), true, START).unwrap();
    assert_eq!((planned.state, planned.steps.len(), rig.log().len()), (State::Planned, 2, 0));
    assert!(matches!(rig.start("/app", 100), Err(Error::Invalid(_))), "more than the node has");
    let id = rig.start("/app", 1).unwrap().id;
    for target in ["/app", "/other"] {
        assert!(matches!(rig.start(target, 1), Err(Error::Conflict(_))), "{target}");
    }
    assert!(matches!(rig.owner.stop("nobody", START), Err(Error::Unknown(_))));
    assert_eq!(rig.owner.shut_down(later(1)), 0);
    assert_eq!(rig.owner.stop(&id, later(1)).unwrap().reason.as_deref(), Some("the node stopped"));
    assert!(matches!(rig.start("/app", 1), Err(Error::Unavailable(_))), "the node is stopping");
    rig.nothing_is_left();
}

#[test]
fn the_kill_switch_stops_everything_and_lets_nothing_begin() {
    let mut rig = rig();
    rig.start("/app", 1).unwrap();
    rig.start("/other", 1).unwrap();
    std::fs::write(rig.dir.path().join("off"), "").unwrap();
    rig.owner.tick(later(1));
    assert_eq!(rig.owner.past.iter().filter(|anomaly| anomaly.state == State::Stopped).count(), 2);
    assert!(matches!(rig.start("/app", 1), Err(Error::Conflict(_))));
    rig.nothing_is_left();
}

#[test]
fn what_an_earlier_life_left_is_removed_before_anything_begins_and_told_of() {
    let mut rig = rig();
    let id = rig.start("/app", 1).unwrap().id;
    let Rig { dir, owner, .. } = rig;
    drop(owner); // killed: no undo
    let again = rig_in(dir, Config::default()).unwrap();
    assert_eq!(again.log(), [format!("sweep {id}")]);
    let past = &again.owner.past[0];
    assert_eq!(
        (&past.id, past.state, past.target.to_string(), past.amount, &past.strength),
        (&id, State::Aborted, "cgroup /app".to_owned(), 30.0, &None)
    );
    again.nothing_is_left();
}

#[test]
fn a_schedule_runs_as_often_as_asked_and_no_run_is_begun_early() {
    let mut rig = rig();
    let schedule = Some(Schedule { delay_s: 5.0, every_s: 20.0, runs: 2 });
    let anomaly = rig.owner.start(Asked { schedule, ..cpu("/app", 1) }, false, START).unwrap();
    assert_eq!((anomaly.state, rig.log().len()), (State::Scheduled, 0));
    rig.nothing_is_left();
    let mut runs = Vec::new();
    for s in 1..=40 {
        rig.owner.tick(later(s));
        runs.push(rig.executor.0.lock().unwrap().there.len());
    }
    let expected: Vec<usize> =
        (1..=40).map(|s| usize::from((5..15).contains(&s) || (25..35).contains(&s))).collect();
    assert_eq!(runs, expected);
    assert_eq!((rig.owner.past[0].runs, rig.owner.past[0].state), (2, State::Ended));
    assert_eq!(rig.told(), ["running", "ended", "running", "ended"]);
    rig.nothing_is_left();
}

#[test]
fn what_is_scheduled_can_be_stopped_and_fails_when_its_target_is_gone() {
    let mut rig = rig();
    let schedule = Some(Schedule { delay_s: 5.0, every_s: 0.0, runs: 1 });
    let id = rig.owner.start(Asked { schedule, ..cpu("/app", 1) }, false, START).unwrap().id;
    assert!(matches!(rig.start("/app", 1), Err(Error::Conflict(_))), "its target is taken");
    assert_eq!(rig.owner.stop(&id, later(1)).unwrap().state, State::Stopped);
    rig.owner.start(Asked { schedule, ..cpu("/app", 1) }, false, START).unwrap();
    std::fs::remove_dir_all(rig.dir.path().join("cgroup/app")).unwrap();
    rig.owner.tick(later(6));
    assert_eq!(rig.owner.past.back().unwrap().state, State::Failed);
    assert!(rig.owner.past.back().unwrap().reason.as_ref().unwrap().contains("no cgroup"));
    assert!(rig.log().is_empty());
    rig.nothing_is_left();
}

#[test]
fn what_would_get_the_scheduler_ejected_is_refused_unless_forced() {
    let mut rig = rig();
    let realtime = |force| Asked { force, ..asked("/app", load(95.0, 1, Class::Fifo(1))) };
    let pause = |force| Asked { force, ..asked("/app", Strength::Process(Process::Pause)) };
    assert!(rig.owner.start(realtime(false), true, START).is_ok(), "no scheduler, no ejection");
    assert!(rig.owner.start(pause(false), true, START).is_ok());
    let reading = SchedulerReading { state: Scx::Enabled, user_pid: Some(4_000_001), ..Default::default() };
    rig.scheduler.send_replace(Arc::new(reading));
    for asked in [realtime(false), pause(false)] {
        let error = rig.owner.start(asked, false, START).unwrap_err();
        assert!(matches!(&error, Error::Conflict(why) if why.contains("force")), "{error}");
    }
    assert!(rig.owner.start(realtime(true), true, START).is_ok());
    assert!(rig.owner.start(pause(true), true, START).is_ok());
    assert!(rig.owner.start(cpu("/app", 1), true, START).is_ok(), "an ordinary load");
}

#[test]
fn memory_leaves_the_node_its_floor() {
    let mut rig = rig();
    let memory = |bytes| {
        let amount = crate::domain::action::Amount::Bytes(bytes);
        Strength::Memory(crate::domain::action::Memory { amount, workers: Some(2), touch_bytes_per_s: 0 })
    };
    // 512 MiB are available, 102 of them are the floor.
    assert!(matches!(rig.owner.start(asked("/app", memory(420 << 20)), true, START), Err(Error::Invalid(_))));
    rig.owner.start(asked("/app", memory(300 << 20)), false, START).unwrap();
    let error = rig.owner.start(asked("/other", memory(200 << 20)), false, START).unwrap_err();
    assert!(error.to_string().contains("min_percent_of_memory"), "promised and not taken yet: {error}");
}
