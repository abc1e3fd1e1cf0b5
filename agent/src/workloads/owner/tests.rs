//! The owner with processes that do as they are told here.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot::error::TryRecvError;

use super::*;
use crate::domain::workload::{Builtin, KindSums};
use crate::workloads::process::Look;
use crate::workloads::worker::generator;

/// What all fake processes share: what they are about to say, and what they were told.
#[derive(Default)]
struct Stage {
    launched: Vec<String>,
    look: Look,
    ends: Vec<End>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Stage>>);

impl Fake {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn says(&self, lines: &[&str], ended: Option<Ended>) {
        self.stage().look = Look { lines: lines.iter().map(|line| (*line).to_owned()).collect(), ended };
    }
}

impl Launcher for Fake {
    fn launch(&mut self, id: &str, _: &Order) -> Result<Box<dyn Running>, String> {
        self.stage().launched.push(id.to_owned());
        Ok(Box::new(self.clone()))
    }
}

impl Running for Fake {
    fn pid(&self) -> u32 {
        42
    }

    fn look(&mut self) -> Look {
        std::mem::take(&mut self.stage().look)
    }

    fn end(&mut self, how: End) {
        self.stage().ends.push(how);
    }
}

fn owner(config: Config) -> (Owner<Fake>, Fake) {
    let fake = Fake::default();
    (Owner::new(config, fake.clone(), Metrics::default(), watch::channel(List::default()).0), fake)
}

fn at(seconds: u64) -> Now {
    Now { wall_ns: 1_704_888_000_000_000_000, mono_ns: seconds * 1_000_000_000 }
}

fn asked(threads: u32) -> Asked {
    Asked { kind: Kind::Builtin(Builtin::Batch), threads, duration_s: Some(60), rate: None }
}

fn order() -> Order {
    Order::Generate(generator::Order { kind: "batch".to_owned(), threads: 1, rate: None, duration_s: 60 })
}

const REPORT: &str = "[ 1s ] thds: 1 eps: 10.00 lat (ms,95%): 1.00";

#[test]
fn a_stop_is_answered_when_the_process_is_gone_and_one_that_does_not_hear_is_killed() {
    let (mut owner, fake) = owner(Config::default());
    let id = owner.start(asked(1), &order(), at(0)).unwrap().id.clone();
    fake.says(&[REPORT, "garbage"], None);
    owner.tick(at(1));
    let (over, mut ended) = oneshot::channel();
    owner.stop(&id, over, at(1)).unwrap();
    let (second, mut also) = oneshot::channel();
    owner.stop(&id, second, at(1)).unwrap();
    for (second, wanted) in [(1, 1), (3, 1), (4, 2), (5, 2)] {
        owner.tick(at(second));
        assert_eq!(fake.stage().ends.len(), wanted, "at {second} s");
        assert_eq!(ended.try_recv().unwrap_err(), TryRecvError::Empty);
    }
    assert_eq!(fake.stage().ends, [End::Ask, End::Kill]);
    fake.says(&[], Some(Ended::Badly("it was killed".to_owned())));
    owner.tick(at(6));
    let workload = ended.try_recv().unwrap();
    assert_eq!(
        (workload.state, workload.phase, workload.totals.events),
        (State::Stopped, Phase::Stopped, 10.0)
    );
    assert_eq!(also.try_recv().unwrap(), workload);
    let (again, mut past) = oneshot::channel();
    owner.stop(&id, again, at(9)).unwrap();
    assert_eq!(past.try_recv().unwrap(), workload, "a second stop changes nothing");
    let (none, _) = oneshot::channel();
    assert_eq!(owner.stop("none", none, at(9)), Err(Error::Unknown("none".to_owned())));
}

#[test]
fn what_it_said_is_why_it_failed_also_when_it_ends_well() {
    for (lines, ended, wanted) in [
        (&["FATAL: a", "FATAL: a", "FATAL: b"][..], Ended::Well, (State::Failed, Some("a; b"))),
        (&["FATAL: a"], Ended::Badly("code 1".to_owned()), (State::Failed, Some("a"))),
        (&[], Ended::Badly("code 1".to_owned()), (State::Failed, Some("code 1"))),
        (&[REPORT], Ended::Well, (State::Ended, None)),
    ] {
        let (mut owner, fake) = owner(Config::default());
        owner.start(asked(1), &order(), at(0)).unwrap();
        fake.says(lines, Some(ended));
        owner.tick(at(1));
        let over = &owner.past[0];
        assert_eq!((over.state, over.reason.as_deref()), wanted);
    }
}

#[test]
fn limits_hold_over_all_that_run() {
    let config = Config { max_concurrent: 3, max_threads: 10, ..Config::default() };
    let (mut owner, fake) = owner(config);
    owner.start(asked(4), &order(), at(0)).unwrap();
    let Err(Error::Conflict(why)) = owner.start(asked(7), &order(), at(0)) else { panic!("started") };
    assert!(why.contains("6 that are left"), "{why}");
    owner.start(asked(1), &order(), at(0)).unwrap();
    owner.start(asked(1), &order(), at(0)).unwrap();
    let Err(Error::Conflict(why)) = owner.start(asked(1), &order(), at(0)) else { panic!("started") };
    assert!(why.contains("max_concurrent"), "{why}");
    assert_eq!(
        fake.stage().launched,
        ["batch_20240110_120000", "batch_20240110_120001", "batch_20240110_120002"]
    );
    owner.shut_down(at(0));
    assert!(matches!(owner.start(asked(1), &order(), at(0)), Err(Error::Unavailable(_))));
    assert_eq!(fake.stage().ends, [End::Ask; 3]);
}

#[test]
fn a_load_that_does_not_end_in_time_is_asked_to() {
    let (mut owner, fake) = owner(Config::default());
    owner.start(asked(1), &order(), at(0)).unwrap();
    owner.tick(at(64));
    assert_eq!(fake.stage().ends, []);
    owner.tick(at(65));
    fake.says(&[], Some(Ended::Badly("it was ended by signal 15".to_owned())));
    owner.tick(at(66));
    assert_eq!((fake.stage().ends.len(), owner.past[0].state), (1, State::Ended));
}

#[test]
fn there_is_one_preparation_and_it_can_be_stopped_before_its_process_is_there() {
    let (mut owner, fake) = owner(Config::default());
    let first = owner.prepare(2, 10, at(0)).unwrap();
    assert!(matches!(owner.prepare(2, 10, at(0)), Err(Error::Conflict(_))));
    let (over, mut ended) = oneshot::channel();
    owner.stop(PREPARE, over, at(0)).unwrap();
    assert_eq!(ended.try_recv().unwrap().state, State::Stopped);
    let (over, _) = oneshot::channel();
    assert!(owner.make_tables(first, &order(), over).is_err(), "nothing starts after its stop");
    assert_eq!(fake.stage().launched, Vec::<String>::new());

    let second = owner.prepare(2, 1, at(0)).unwrap();
    owner.prepared(first, Err("late".to_owned()), at(0));
    assert!(owner.is_active(), "what the first still says is not about the second");
    let (over, mut ended) = oneshot::channel();
    owner.make_tables(second, &order(), over).unwrap();
    fake.says(&["Creating table 'sbtest1'...", "Inserting 5 records into 'sbtest1'"], None);
    owner.tick(at(1));
    let progress = owner.active[0].workload.progress.clone().unwrap();
    assert_eq!((progress.begun, progress.of, &*progress.step), (2, 3, "Inserting 5 records into 'sbtest1'"));
    owner.prepared(second, Err("late".to_owned()), at(1));
    fake.says(&[], Some(Ended::Well));
    owner.tick(at(2));
    assert_eq!(ended.try_recv().unwrap().state, State::Ended, "a process that runs is not told off");
    assert_eq!(owner.past.iter().filter(|past| past.id == PREPARE).count(), 1, "the latest alone");
}

#[test]
fn sums_of_a_kind_grow_with_reports_and_ends_and_lack_what_none_of_it_did() {
    let (mut owner, fake) = owner(Config::default());
    let kind = asked(1).kind;
    let metrics = owner.metrics.clone();
    let sums = |runs: &[(State, u64)], events| KindSums {
        kind,
        runs: runs.to_vec(),
        events,
        queries: None,
        errors: None,
    };
    owner.start(asked(1), &order(), at(0)).unwrap();
    assert_eq!(metrics.sums(kind), sums(&[], None), "before a report");
    fake.says(&[REPORT], None);
    owner.tick(at(1));
    assert_eq!(metrics.sums(kind), sums(&[], Some(10.0)));
    fake.says(&[&REPORT.replace("1s", "3s")], Some(Ended::Well));
    owner.tick(at(3));
    assert_eq!(metrics.sums(kind), sums(&[(State::Ended, 1)], Some(30.0)));
    assert_eq!(metrics.sums(Kind::Prepare), KindSums { kind: Kind::Prepare, ..sums(&[], None) });
}
