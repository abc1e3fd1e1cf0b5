//! The whole source over a pretended kernel and a sysfs in a temporary directory.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::fixture::{FakeReader, Scheduler, UEI_KIND_OFFSET, rustland_1_0, rustland_1_1};
use super::*;
use crate::domain::bss::BssField;
use crate::domain::exit::ExitKind;
use crate::domain::scheduler::Epoch;
use crate::domain::source::Condition;

struct Host {
    dir: TempDir,
    kernel: FakeReader,
    source: SchedulerSource,
    at_ns: i64,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let kernel = FakeReader::default();
        let source = SchedulerSource::new(&roots(dir.path()), Config::default(), Box::new(kernel.clone()));
        Self { dir, kernel, source, at_ns: 0 }
    }

    fn sysfs(&self, state: &str, enable_seq: u64, ops: Option<&str>) {
        let dir = self.dir.path().join("sys/kernel/sched_ext");
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("state"), state).expect("written");
        fs::write(dir.join("enable_seq"), enable_seq.to_string()).expect("written");
        let _ = fs::remove_dir_all(dir.join("root"));
        if let Some(ops) = ops {
            fs::create_dir_all(dir.join("root")).expect("made");
            fs::write(dir.join("root/ops"), ops).expect("written");
            fs::write(dir.join("root/events"), "SCX_EV_BYPASS_ACTIVATE 1\n").expect("written");
        }
    }

    fn start(&self, scheduler: &Scheduler, enable_seq: u64) -> u32 {
        let id = self.kernel.load(scheduler, true);
        self.sysfs("enabled", enable_seq, Some(scheduler.ops));
        id
    }

    fn die(&self, kind: u32, msg: &str) {
        let at = UEI_KIND_OFFSET as usize;
        self.kernel.poke(1184, at + 16, b"runnable task stall");
        self.kernel.poke(1184, at + 144, msg.as_bytes());
        self.kernel.poke(1184, at, &kind.to_le_bytes());
    }

    fn collect(&mut self) -> Collection {
        self.at_ns += 1_000_000_000;
        self.source.collect(self.at_ns, self.at_ns.cast_unsigned())
    }
}

fn roots(dir: &Path) -> HostRoots {
    HostRoots { sys: dir.join("sys"), proc: dir.join("proc"), ..HostRoots::default() }
}

fn ends(events: Vec<SchedulerEvent>) -> Vec<(u64, ExitKind)> {
    let exits = events.into_iter().filter_map(|event| match event {
        SchedulerEvent::Ended(exit) => Some(exit),
        _ => None,
    });
    kinds(&exits.collect::<Vec<_>>())
}

fn kinds(exits: &[SchedulerExit]) -> Vec<(u64, ExitKind)> {
    exits.iter().map(|exit| (exit.enable_seq, exit.kind)).collect()
}

#[test]
fn without_sched_ext_it_says_so() {
    let mut host = Host::new();
    let Collection { reading, exits, .. } = host.collect();
    assert_eq!((reading.state, reading.epoch, exits), (State::Unsupported, None, vec![]));
    assert_eq!(reading.bss_absent.len(), 12);
    assert_eq!(host.source.health().condition, Condition::Off);
    assert!(host.source.health().lacks[0].contains("CONFIG_SCHED_CLASS_EXT"));
    host.sysfs("disabled", 0, None);
    assert_eq!(host.collect().reading.bss_absent[0].1, "no sched_ext scheduler is loaded");
    assert_eq!(host.source.health().condition, Condition::Up);
}

#[test]
fn a_running_scheduler_is_read_in_full() {
    let mut host = Host::new();
    let id = host.start(&rustland_1_1(), 3);
    host.kernel.poke(120, 56, &41_u64.to_le_bytes());
    host.kernel.poke(16, 0, &77_u32.to_le_bytes());
    let reading = host.collect().reading;
    assert_eq!(reading.epoch, Some(Epoch { enable_seq: 3, struct_ops_map_id: id }));
    let ops = reading.ops.as_ref().expect("named");
    assert_eq!((ops.base.as_str(), ops.version.as_deref()), ("rustland", Some("1.1.4")));
    assert_eq!(reading.raw.len(), reading.layout.variables.len());
    let names: Vec<_> = reading.layout.sections.iter().map(|section| &*section.name).collect();
    assert_eq!(names, [".bss", ".data", ".rodata"]);
    assert_eq!(reading.bss.get(BssField::NrUserDispatches), Some(41));
    assert_eq!(
        (reading.bss.get(BssField::UserschedPid), reading.user_pid),
        (Some(77), Some(77)),
        "from .rodata"
    );
    assert_eq!(reading.bss_absent, []);
    assert_eq!(reading.events, [("SCX_EV_BYPASS_ACTIVATE".to_owned(), 1)]);
    host.kernel.poke(120, 56, &42_u64.to_le_bytes());
    assert_eq!(host.collect().reading.bss.get(BssField::NrUserDispatches), Some(42));
    assert_eq!(host.source.health().condition, Condition::Up);
    assert_eq!(host.kernel.kernel().listings, 2, "maps are looked for once, not at each collection");
}

#[test]
fn a_field_the_scheduler_lacks_is_absent_with_the_reason() {
    let mut host = Host::new();
    host.start(&rustland_1_0(), 1);
    let reading = host.collect().reading;
    let absent = vec![(BssField::UserschedLastRunAt, "not in rustland's .bss, .data or .rodata".to_owned())];
    assert_eq!(reading.bss_absent, absent);
    assert_eq!(reading.bss.get(BssField::UserschedLastRunAt), None, "never a made-up 0");
    assert_eq!(reading.bss.get(BssField::NrQueued), Some(0), "negative control: a real 0 stays");
}

#[test]
fn an_end_is_said_once_with_kind_reason_and_message() {
    let mut host = Host::new();
    host.start(&rustland_1_0(), 1);
    host.collect();
    host.sysfs("disabling", 1, None);
    assert_eq!(host.collect().exits, []);
    host.sysfs("disabled", 1, None);
    let waiting = host.collect();
    assert_eq!(waiting.exits, [], "the record is not written yet");
    assert_eq!(
        (waiting.reading.epoch, waiting.reading.raw.len()),
        (None, 0),
        "the dead are not read as living"
    );
    host.die(1026, "cc1[12] failed to run for 5.001s");
    let exits = host.collect().exits;
    assert_eq!(kinds(&exits), [(1, ExitKind::ErrorStall)]);
    assert_eq!((exits[0].reason.as_str(), exits[0].ops.as_str()), ("runnable task stall", "rustland"));
    assert_eq!(exits[0].msg, "cc1[12] failed to run for 5.001s");
    assert_eq!((exits[0].detail.as_str(), exits[0].noticed_at_ns), ("read from uei in .data", 3_000_000_000));
    let after = host.collect();
    assert_eq!(after.exits, [], "said once");
    assert_eq!(after.reading.last_exit.as_ref(), exits.first());
}

#[test]
fn an_ejected_scheduler_whose_maps_live_on_is_no_scheduler() {
    let mut host = Host::new();
    host.start(&rustland_1_0(), 1);
    host.collect();
    host.die(1026, "stopped");
    host.sysfs("disabled", 1, None);
    let Collection { reading, exits, .. } = host.collect();
    assert_eq!(kinds(&exits), [(1, ExitKind::ErrorStall)]);
    assert!(host.kernel.kernel().maps.len() >= 3, "the stopped process still holds them");
    assert_eq!((reading.epoch, reading.bss.is_empty(), reading.layout.variables.len()), (None, true, 0));
}

#[test]
fn a_scheduler_gone_between_two_looks_still_tells_why() {
    let mut host = Host::new();
    host.start(&rustland_1_0(), 1);
    host.collect();
    host.die(64, "");
    host.kernel.unload();
    host.sysfs("disabled", 1, None);
    assert_eq!(kinds(&host.collect().exits), [(1, ExitKind::Unreg)]);
}

#[test]
fn a_replacement_ends_one_epoch_and_begins_another() {
    let mut host = Host::new();
    let first = host.start(&rustland_1_0(), 1);
    host.collect();
    host.collect();
    host.die(64, "");
    let second = host.start(&rustland_1_0(), 2);
    let Collection { reading, exits, .. } = host.collect();
    assert_eq!(kinds(&exits), [(1, ExitKind::Unreg)], "both copies are listed; the old one is read");
    assert_eq!(reading.epoch, Some(Epoch { enable_seq: 2, struct_ops_map_id: second }));
    assert_ne!(first, second);
}

#[test]
fn a_number_raised_after_the_first_look_is_the_same_life() {
    let mut host = Host::new();
    let id = host.start(&rustland_1_0(), 0);
    host.collect();
    host.sysfs("enabled", 1, Some("rustland"));
    let Collection { reading, exits, .. } = host.collect();
    assert_eq!((exits, reading.epoch), (vec![], Some(Epoch { enable_seq: 1, struct_ops_map_id: id })));

    let mut restarted = Host::new();
    restarted.start(&rustland_1_0(), 0);
    restarted.collect();
    restarted.die(64, "");
    restarted.start(&rustland_1_0(), 1);
    assert_eq!(kinds(&restarted.collect().exits), [(0, ExitKind::Unreg)], "negative control: another map");
}

#[test]
fn without_the_right_it_is_degraded_and_ends_are_still_said() {
    let mut host = Host::new();
    host.kernel.kernel().denied = true;
    host.start(&rustland_1_0(), 1);
    let reading = host.collect().reading;
    assert_eq!((reading.state, reading.epoch), (State::Enabled, None));
    assert!(reading.bss_absent[0].1.starts_with("CAP_SYS_ADMIN is needed to open another program's map"));
    let health = host.source.health();
    assert_eq!(health.condition, Condition::Degraded);
    assert!(health.lacks[0].starts_with("CAP_SYS_ADMIN is needed to open another program's map"));
    host.sysfs("disabled", 1, None);
    let exits = host.collect().exits;
    assert_eq!(kinds(&exits), [(1, ExitKind::None)]);
    assert!(exits[0].detail.starts_with("exit record unreadable: CAP_SYS_ADMIN"));
}

#[test]
fn a_record_that_is_never_written_is_given_up() {
    let mut host = Host::new();
    host.start(&rustland_1_0(), 1);
    host.collect();
    host.sysfs("disabled", 1, None);
    let exits: Vec<_> = (0..8).flat_map(|_| host.collect().exits).collect();
    assert_eq!(kinds(&exits), [(1, ExitKind::None)]);
    assert_eq!(exits[0].detail, "exit record unreadable: nothing was written to uei in .data");

    let mut stopping = Host::new();
    stopping.start(&rustland_1_0(), 1);
    stopping.collect();
    stopping.sysfs("disabled", 1, None);
    stopping.collect();
    assert_eq!(ends(stopping.source.last_words(0)), [(1, ExitKind::None)]);
    assert_eq!(stopping.collect().exits, []);
}

#[test]
fn a_scheduler_without_an_exit_record_ends_with_the_reason_it_is_unknown() {
    let mut host = Host::new();
    let mut scheduler = rustland_1_0();
    scheduler.sections.pop();
    host.start(&scheduler, 1);
    host.collect();
    host.sysfs("disabled", 1, None);
    let exits = host.collect().exits;
    assert!(exits[0].detail.contains("no variable with kind, exit_code, reason and msg"));
}

#[test]
fn maps_that_are_not_there_yet_are_looked_for_again_but_not_each_time() {
    let mut host = Host::new();
    host.sysfs("enabled", 1, Some("rustland"));
    for _ in 0..16 {
        assert_eq!(host.collect().reading.epoch, None);
    }
    assert!(host.kernel.kernel().listings <= 5, "the wait doubles");
    host.kernel.load(&rustland_1_0(), false);
    assert!((0..=MAX_WAIT).any(|_| host.collect().reading.epoch.is_some()));
}

#[test]
fn lying_type_information_degrades_and_does_not_panic() {
    let mut host = Host::new();
    let mut scheduler = rustland_1_0();
    let half = scheduler.btf.len() / 2;
    scheduler.btf.truncate(half);
    host.start(&scheduler, 1);
    assert_eq!(host.collect().reading.epoch, None);
    assert_eq!(host.source.health().condition, Condition::Degraded);
    assert!(host.source.health().lacks[0].contains("type information of BTF"));
}

#[test]
fn a_snapshot_waits_for_the_process() {
    let host = Host::new();
    let id = host.start(&rustland_1_0(), 1);
    let dir = host.dir.path().join("proc/123");
    fs::create_dir_all(dir.join("fd")).expect("made");
    fs::create_dir_all(dir.join("fdinfo")).expect("made");
    std::os::unix::fs::symlink("anon_inode:bpf_link", dir.join("fd/4")).expect("linked");
    fs::write(dir.join("fdinfo/4"), format!("link_id:\t1\nmap_id:\t{id}\n")).expect("written");
    let reading = snapshot(&roots(host.dir.path()), Box::new(host.kernel.clone()), 5);
    assert_eq!((reading.user_pid, reading.at_ns), (Some(123), 5), "usersched_pid is 0: not written yet");
}

#[tokio::test]
async fn the_task_publishes_readings_and_exits_until_cancelled() {
    let host = Host::new();
    host.start(&rustland_1_0(), 1);
    let (out, mut readings) = tokio::sync::watch::channel(std::sync::Arc::default());
    let (exits, mut exited) = tokio::sync::mpsc::channel(4);
    let (health, healths) = tokio::sync::watch::channel(SourceHealth::default());
    let cancel = tokio_util::sync::CancellationToken::new();
    let Host { dir, kernel, source, .. } = host;
    let every = std::time::Duration::from_millis(5);
    let task = tokio::spawn(run(source, every, || 42, out, exits, health, cancel.clone()));
    readings
        .wait_for(|reading: &std::sync::Arc<SchedulerReading>| reading.epoch.is_some())
        .await
        .expect("alive");
    assert_eq!(healths.borrow().condition, Condition::Up);
    let host = Host {
        source: SchedulerSource::new(&roots(dir.path()), Config::default(), Box::new(kernel.clone())),
        dir,
        kernel,
        at_ns: 0,
    };
    host.die(64, "");
    host.sysfs("disabled", 1, None);
    let exit = loop {
        if let SchedulerEvent::Ended(exit) = exited.recv().await.expect("said") {
            break exit;
        }
    };
    assert_eq!((exit.kind, exit.noticed_at_ns), (ExitKind::Unreg, 42));
    cancel.cancel();
    task.await.expect("ends cleanly");
}

#[test]
fn what_the_kernel_counts_is_told_and_the_rest_when_the_life_ends() {
    let mut host = Host::new();
    host.sysfs("disabled", 0, None);
    host.collect();
    host.start(&rustland_1_0(), 1);
    let events = |host: &Host, count: u64| {
        let file = host.dir.path().join("sys/kernel/sched_ext/root/events");
        fs::write(file, format!("SCX_EV_BYPASS_ACTIVATE 1\nSCX_EV_SELECT_CPU_FALLBACK {count}\n"))
            .expect("ok");
    };
    let told = |changes: &[CounterChange]| -> Vec<(String, u64, u64)> {
        changes.iter().map(|it| (it.name.clone(), it.delta, it.enable_seq)).collect()
    };
    let (bypass, fallback) = ("SCX_EV_BYPASS_ACTIVATE".to_owned(), "SCX_EV_SELECT_CPU_FALLBACK".to_owned());
    events(&host, 0);
    assert_eq!(told(&host.collect().changes), [], "its number may not be its own yet");
    assert_eq!(told(&host.collect().changes), [(bypass, 1, 1)]);
    events(&host, 3);
    assert_eq!(told(&host.collect().changes), [(fallback.clone(), 3, 1)]);
    events(&host, 5);
    assert_eq!(told(&host.collect().changes), [], "summed");
    host.sysfs("disabled", 1, None);
    let last = host.collect();
    assert_eq!(told(&last.changes), [(fallback, 2, 1)]);
    let events: Vec<_> = last.into_events().1.collect();
    assert!(matches!(events[..], [SchedulerEvent::Counted(_)]), "the exit record is awaited: {events:?}");
}

#[test]
fn a_life_between_two_looks_leaves_an_exit() {
    let mut host = Host::new();
    host.sysfs("disabled", 3, None);
    assert_eq!(host.collect().exits, []);
    host.sysfs("disabled", 5, None);
    let exits = host.collect().exits;
    assert_eq!(kinds(&exits), [(4, ExitKind::None), (5, ExitKind::None)]);
    assert_eq!(exits[0].detail, "exit record unreadable: it began and ended between two looks");
    assert_eq!(host.collect().reading.last_exit.map(|exit| exit.enable_seq), Some(5));
    host.sysfs("disabled", 1_000_000, None);
    assert_eq!(host.collect().exits.len(), 16, "bounded");
    assert_eq!(host.collect().exits, [], "said once");
}

#[test]
fn an_enabled_scheduler_has_a_margin_or_the_reason() {
    let mut host = Host::new();
    host.start(&rustland_1_0(), 1);
    let absent = |reading: SchedulerReading| reading.margin.and_then(|margin| margin.absent);
    assert_eq!(absent(host.collect().reading).as_deref(), Some("not watched"));
    let roots = roots(host.dir.path());
    let off =
        Config { watchdog: watchdog::Config { enabled: false, ..Default::default() }, ..Config::default() };
    let again = |config| SchedulerSource::new(&roots, config, Box::new(host.kernel.clone())).watching(|| 7);
    let mut switched_off = again(off);
    let reading = switched_off.collect(1, 1).reading;
    assert_eq!(absent(reading).as_deref(), Some("switched off: scheduler.watchdog.enabled"));
    assert_eq!(switched_off.health().condition, Condition::Up, "nobody misses it");

    let mut watching = again(Config::default());
    let reading = watchdog::tests::patiently(|| {
        let reading = watching.collect(1, 1).reading;
        let looked = reading.margin.as_ref()?.absent.as_deref() != Some(watchdog::NOT_YET);
        looked.then_some(reading)
    });
    assert!(absent(reading).is_some_and(|why| why.contains("no types of its own")));
    assert_eq!(watching.health().condition, Condition::Degraded);
    assert!(watching.health().lacks[0].starts_with("no watchdog margin: "), "{:?}", watching.health());
    host.sysfs("disabled", 1, None);
    assert_eq!(watching.collect(2, 2).reading.margin, None);
}
